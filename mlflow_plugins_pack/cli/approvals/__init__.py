"""Commands of ``mlflow-pack approvals``; group.py assembles them.

May import cli.output, cli.parameters and the approvals plugin.
Must not be imported by a plugin, and must not read meaning out of a text made for people.
"""
