"""The policy file: strict models, parsing, checks, freeze windows, who may vote.

May import: domain, `caller` (only `source`).
Must never import: database, or any room above.
"""
