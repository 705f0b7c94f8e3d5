"""Reads a registry's approvals without serving them: listings, replay, explain, doctor.

May import background.drift, enforcement, ledger and the rooms below.
Must never import the store or write anything.
"""
