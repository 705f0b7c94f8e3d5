"""Turns what a run read and wrote into its record.

May import: fingerprints, attribution, capture and the rooms below them.
Must never import: session, query, delivery.
"""
