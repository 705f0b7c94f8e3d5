"""Reads what versions consist of: digests, evidence for checks, locks on files.

May import: database, policy, domain, `caller`.
Must never import: ledger, enforcement, commands, store, reports.
"""
