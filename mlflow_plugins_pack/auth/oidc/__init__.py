"""OpenID Connect: a provider, its transport, and the sign-in of a person.

May import credentials, profiles and identity.
Must never import token_store, sources or anything above them.
"""
