"""Uploads: one call's files cut into chunks, packed, and committed all at once.

May import ``store`` and what is below it. Never imports ``download``.
"""
