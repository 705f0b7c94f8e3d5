"""Answers questions about recorded lineage; the Python API and the command line use it.

May import: every room below it.
Must never import: session, and capture's installation: a question never starts a capture.
"""
