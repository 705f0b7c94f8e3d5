"""The ``mlflow-pack`` command: one room for each group of commands.

May import every plugin, inside functions where that is slow, so that a command pays for its own
libraries only. Must not be imported by a plugin, and must not parse text made for people.
"""
