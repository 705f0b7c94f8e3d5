"""``python -m mlflow_plugins_pack.cli`` is ``mlflow-pack``."""

from mlflow_plugins_pack.cli.main import main

main()
