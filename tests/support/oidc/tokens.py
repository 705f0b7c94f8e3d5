"""Tokens had from the provider without the code under test."""

from __future__ import annotations

import requests

from tests.support.oidc import AUDIENCE, SECRET, OidcProvider


def machine_token(provider: OidcProvider) -> str:
    """Return an access token of the client ``machine``: a JWT for `AUDIENCE`."""
    answer = requests.post(
        f"{provider.issuer}/token",
        data={"grant_type": "client_credentials", "scope": "mlflow", "resource": AUDIENCE},
        auth=("machine", SECRET),
        timeout=30,
    )
    answer.raise_for_status()
    token: str = answer.json()["access_token"]
    return token


def forged_token(provider: OidcProvider, **changes: object) -> str:
    """Return a token signed with the provider's own key, with other claims."""
    import time

    from joserfc import jwt
    from joserfc.jwk import RSAKey

    key = RSAKey.import_key(provider.key, {"kid": "one"})
    now = int(time.time())
    claims = {"iss": provider.issuer, "aud": AUDIENCE, "sub": "alice", "exp": now + 300, **changes}
    return jwt.encode({"alg": "RS256", "kid": "one"}, claims, key)
