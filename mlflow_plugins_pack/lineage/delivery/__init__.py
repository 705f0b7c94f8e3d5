"""Writes a record to its run within a bounded time, or keeps it on this machine.

May import: document, export, capture, mlflow_internals.
Must never import: session, query, building, attribution, fingerprints.
"""
