"""Sign-in: the request headers of stock MLflow for authenticated servers.

May import identity and the shared top-level modules.
Must never import another plugin or the command line.
"""
