"""Sees reads and writes, and emits each into the sink.

May import: document, files, sink, mlflow_internals.
Must never import: any other room; a library that the user has not imported.
"""
