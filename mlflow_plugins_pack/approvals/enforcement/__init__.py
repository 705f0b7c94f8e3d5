"""Decides whether a change may be made, and makes it: requests, votes, checks, break-glass.

May import the rooms below: ledger, content, guards, webhooks, database, policy, domain.
Must never import commands, background, reports or the store, nor know how a call came in.
"""
