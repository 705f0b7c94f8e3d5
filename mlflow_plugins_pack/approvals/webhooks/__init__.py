"""The outbox of events, what a webhook gets, and the sender.

May import: database, policy, domain.
Must never import: ledger, enforcement, commands, store, reports.
"""
