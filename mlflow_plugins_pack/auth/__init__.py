"""Plugin: sign-in to protected servers, for exactly the origins that a profile names."""
