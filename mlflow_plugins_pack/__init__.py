"""Four plugins for stock MLflow.

This module is imported inside ``import mlflow``: it holds the version and nothing else.
"""

__version__ = "0.1.0"
