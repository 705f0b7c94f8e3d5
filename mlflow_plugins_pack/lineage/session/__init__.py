"""The one capture session of a process: starts the layers, follows runs, ends them.

May import: every room below it.
Must never import: query.
"""
