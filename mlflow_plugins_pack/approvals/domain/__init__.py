"""The words and rules of approvals without I/O: targets, names, states, messages.

May import: nothing of the other rooms.
Must never import: any other room, MLflow, SQLAlchemy.
"""
