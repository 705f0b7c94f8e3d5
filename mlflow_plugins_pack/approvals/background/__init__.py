"""What a server does on its own, in one process at a time: deliver webhooks, look for drift.

May import enforcement, ledger and the rooms below.
Must never import commands, reports or the store.
"""
