"""The pages of approvals: inbox, request, model, audit log, policy.

May import api and the rooms below it.
Must never decide what the policy allows, nor read MLflow's tables.
"""
