"""``mlflow-pack demo``: the main job of the pack on embedded defaults, told step by step."""

from mlflow_plugins_pack.cli.demo.command import demo

__all__ = ["demo"]
