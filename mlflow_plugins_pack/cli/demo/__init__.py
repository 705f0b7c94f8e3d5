"""``mlflow-pack demo``: one scripted promotion on SQLite and a local disk, step by step.

May import the plugins' public entry points and stock MLflow. Must not be imported by a plugin.
"""

from mlflow_plugins_pack.cli.demo.command import demo

__all__ = ["demo"]
