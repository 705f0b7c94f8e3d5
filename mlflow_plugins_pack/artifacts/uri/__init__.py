"""Artifact URIs: what they name, which schemes exist, and which roots a server may open.

May import ``format`` and the package's ``uris``. Never imports a backend or a cloud library.
"""
