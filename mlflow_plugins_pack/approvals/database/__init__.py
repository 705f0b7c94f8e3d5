"""The plugin's tables and migrations, transactions, and reads of MLflow's tables.

May import: domain.
Must never import: policy, or any room above.
"""
