"""The review app as a whole: pages of approvals, of lineage and of stores in one application.

May import every plugin.
Must never be imported by a plugin, nor decide what the policy allows.
"""
