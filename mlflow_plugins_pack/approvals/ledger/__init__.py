"""Reads and writes requests, votes, comments, grants and the hash-chained audit log.

May import content, guards, webhooks, database, policy and domain; every write is audited here.
Must never import enforcement or anything above it: the ledger records decisions, it makes none.
"""
