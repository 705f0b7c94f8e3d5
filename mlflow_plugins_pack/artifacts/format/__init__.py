"""The store's format: keys, packs, manifests, index deltas, chunking, encryption; pure.

May import ``errors`` and ``uris``. Never imports another room, and does no input or output.
"""
