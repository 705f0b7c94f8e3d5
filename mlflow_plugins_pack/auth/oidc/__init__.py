"""Sign-in at an OpenID Connect provider: its messages, its endpoints, and the two dialogues."""
