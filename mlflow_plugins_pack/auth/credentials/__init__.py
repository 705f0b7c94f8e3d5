"""Credentials: secrets, their lifetime, and the contracts of what gives them.

May import profiles.
Must never import a source, the manager or a rule of signing.
"""
