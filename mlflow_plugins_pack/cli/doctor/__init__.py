"""The command ``mlflow-pack doctor`` and the table of misleading URIs that it warns about.

May import cli.output, cli.parameters and any plugin's own doctor.
Must not be imported by a plugin, and must not read meaning out of a text made for people.
"""
