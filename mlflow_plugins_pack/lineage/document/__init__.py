"""The record as values, as run tags and as a file, and the network of many records.

May import: files.
Must never import: capture, MLflow, or any other room.
"""
