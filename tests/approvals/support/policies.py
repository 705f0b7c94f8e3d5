"""Whole policies."""

from __future__ import annotations

FULL = """\
version: 1
identity: {sources: [basic_auth], allow_anonymous: false}
groups: {ml-leads: [bob, carol], risk: [dave], ci: [svc-ci]}
defaults: {expires_after: 14d, approval_valid_for: 30d, allow_self_approval: false,
  prevent_creator_approval: true, dismiss_on: [artifacts, tags, source], apply: on_set}
policies:
  - name: prod
    match: {models: ["fraud-*", "credit/**"], exclude: ["*-sandbox"], prompts: ["*"],
      workspaces: ["team-*"]}
    targets: {aliases: [prod, champion], stages: [Production]}
    approvals: [{group: ml-leads, count: 1}, {group: risk, count: 1}]
    checks:
      - {tag: tests, equals: passed, writers: ["group:ci", "user:root", zoe], max_age: 7d}
    demote: {approvals: 1}
  - name: rest
    match: {models: ["**"]}
    targets: {aliases: [prod]}
    approvals: [{group: ml-leads, count: 2}]
"""
