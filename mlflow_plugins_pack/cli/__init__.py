"""The ``mlflow-pack`` command."""
