"""An open store: its objects, manifests, index, packs, condemned lists and keys.

May import ``backends`` and what is below it. Never imports ``upload`` or ``download``.
"""
