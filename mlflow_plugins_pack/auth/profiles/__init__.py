"""Profiles: the file, its models, and the hosts that each names.

May import the shared top-level modules only.
Must never import any other room of sign-in.
"""
