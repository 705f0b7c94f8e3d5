"""Database triggers that refuse changes past the server, and their installation.

May import: database, policy, domain.
Must never import: ledger, enforcement, commands, store, reports.
"""
