"""``mlflow-pack review``: the review app next to an MLflow server.

May import the approvals plugin.
Must never be imported by a plugin.
"""
