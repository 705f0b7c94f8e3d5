"""The registry store: stock MLflow's methods, overridden where a policy may govern them.

May import every room below: commands, background, enforcement, ledger and so on.
Must never import reports or the command line, nor decide anything itself.
"""
