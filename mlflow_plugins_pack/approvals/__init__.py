"""Plugin: registry store that enforces approvals."""
