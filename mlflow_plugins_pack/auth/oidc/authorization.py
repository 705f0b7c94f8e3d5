"""The authorization request and its answer (RFC 6749, 7636, 9207, OpenID Connect Core); pure."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlencode


class AuthorizationRefusedError(Exception):
    """The redirect is not a valid answer to the request; the text says why."""


class ForeignRedirectError(AuthorizationRefusedError):
    """The redirect answers another request; ours stays open."""


@dataclass(frozen=True)
class AuthorizationRequest:
    """The secrets of one authorization request.

    Attributes:
        state: Binds the answer to the request.
        nonce: Binds the ID token to the request.
        verifier: Proves to the token endpoint that this process sent the request (PKCE).
    """

    state: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    nonce: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48), repr=False)

    @property
    def challenge(self) -> str:
        """The verifier's SHA-256 (RFC 7636, section 4.2)."""
        digest = hashlib.sha256(self.verifier.encode("ascii")).digest()
        return base64.urlsafe_b64encode(digest).rstrip(b"=").decode("ascii")

    def url(
        self, endpoint: str, client_id: str, redirect_uri: str, wanted: Mapping[str, str]
    ) -> str:
        """Return the URL that the person opens."""
        parameters = {
            "response_type": "code",
            "client_id": client_id,
            "redirect_uri": redirect_uri,
            "state": self.state,
            "nonce": self.nonce,
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
            **wanted,
        }
        if "offline_access" in wanted.get("scope", "").split():
            parameters["prompt"] = "consent"  # OpenID Connect Core, section 11 asks for it
        return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(parameters)}"

    def read_code(self, answer: Mapping[str, list[str]], issuer: str, *, says_issuer: bool) -> str:
        """Return the authorization code of an answer.

        Args:
            answer: The query of the redirect, parsed.
            issuer: The issuer that was asked.
            says_issuer: Whether it promised to name itself in its answers (RFC 9207).

        Raises:
            ForeignRedirectError: If the answer belongs to another request; keep waiting.
            AuthorizationRefusedError: If the answer is invalid or a refusal.
        """
        if not hmac.compare_digest(_one(answer, "state").encode(), self.state.encode()):
            raise ForeignRedirectError("it does not belong to the sign-in that was started here")
        named = _one(answer, "iss")
        if (named or says_issuer) and named != issuer:
            raise AuthorizationRefusedError(
                "another provider answered than the one that was asked (mix-up); no code was used"
            )
        if error := _one(answer, "error"):
            detail = _one(answer, "error_description")
            raise AuthorizationRefusedError(f"the provider refused: {error} {detail}".rstrip())
        code = _one(answer, "code")
        if not code:
            raise AuthorizationRefusedError("the provider's answer holds no code")
        return code


def _one(answer: Mapping[str, list[str]], name: str) -> str:
    """Return a parameter's only value; doubled ones count as absent."""
    values = answer.get(name, [])
    return values[0] if len(values) == 1 else ""
