"""Sees which files a program and all its children open, whatever language they are written in.

May import: event, child_spool, noise_filter, files, settings.
Must never import: mlflow; the session. `supervisor` is a process of its own.
"""
