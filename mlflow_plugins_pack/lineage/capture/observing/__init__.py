"""Observation of calls that the program cannot see: no frame and no other function in between.

May import: nothing of the package.
Must never import: anything that records.
"""
