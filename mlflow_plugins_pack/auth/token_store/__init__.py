"""Token stores: tokens that processes of one user share.

May import credentials and profiles.
Must never import oidc, sources or anything above them.
"""
