"""Signing: puts credentials on the requests of stock MLflow, and on no others.

May import the manager and the rooms below it.
Must never import tools or the plugin module.
"""
