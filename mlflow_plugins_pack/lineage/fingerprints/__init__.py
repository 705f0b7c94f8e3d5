"""Digests of files and folders, and the versions that DVC and git have of them.

May import: document, files.
Must never import: session, query, building, delivery, attribution, MLflow.
"""
