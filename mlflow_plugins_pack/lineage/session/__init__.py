"""The one capture session of a process

May import:  starts the layers, follows runs, ends them.
Must never import: every room below it.:query.
"""
