"""Decides which run each read and write belongs to.

May import: files, sink, mlflow_internals, document, capture.
Must never import: delivery, fingerprints, building, session, query, mlflow.
"""
