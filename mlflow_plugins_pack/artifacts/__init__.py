"""Plugin: content-addressed artifact repository."""
