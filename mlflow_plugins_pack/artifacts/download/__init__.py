"""Downloads: files into folders, files as streams, and the host's cache of whole files.

May import ``store`` and what is below it. Never imports ``upload``.
"""
