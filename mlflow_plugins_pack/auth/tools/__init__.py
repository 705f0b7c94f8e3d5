"""Tools: what the commands of sign-in do, without printing.

May import the manager and the rooms below it.
Must never import signing or the plugin module.
"""
