"""Carries out what people ask for by tag or command line: requests, votes, comments, break-glass.

May import enforcement and the rooms below it.
Must never import the store, reports or background.
"""
