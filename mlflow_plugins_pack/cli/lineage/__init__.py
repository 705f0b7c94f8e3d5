"""Commands of ``mlflow-pack lineage``; group.py assembles them.

May import cli.output, cli.parameters and the lineage plugin.
Must not be imported by a plugin, and must not read meaning out of a text made for people.
"""
