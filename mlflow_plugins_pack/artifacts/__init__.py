"""The artifact repository ``cas-...``: deduplicated, verified, optionally encrypted.

May import the package's shared modules (``uris``, ``settings``, ``errors``, ...); the rooms below
import downwards only, as the contract in pyproject.toml lists them. Never imports another plugin.
"""
