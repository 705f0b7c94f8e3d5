"""The review app's REST endpoints: who asks, what they may read, and what they may do.

May import the store, reports, commands and the rooms below them.
Must never import web, and never decides what the policy allows.
"""
