"""What stock MLflow loads for sign-in: the transparent door and the explicit door.

MLflow constructs both without arguments and logs, then ignores, whatever they raise, after which
the request would leave unauthenticated. So nothing here can raise, and nothing is imported until
a profiles file is in sight.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mlflow_plugins_pack.auth.profiles.paths import find_config

if TYPE_CHECKING:
    from mlflow_plugins_pack.auth.signing.signer import PackAuth

PROVIDER_NAME = "plugins-pack"
REFUSAL_HEADER = "X-Mlflow-Plugins-Pack-Refused"


class Refusal:
    """A header value that cannot be sent.

    `requests` accepts text only and raises with the value's repr: so nothing leaves, and MLflow
    shows the message. A provider that raises would be ignored instead.
    """

    def __init__(self, message: str) -> None:
        self._message = message

    def __repr__(self) -> str:
        return self._message


class PackHeaderProvider:
    """The transparent door: signs in the requests whose address a profile names.

    Duck-typed: MLflow asks for the two methods of its ``RequestHeaderProvider`` only.
    """

    def in_context(self) -> bool:
        """Always be asked: whether there is a profile is looked up once, with the request."""
        return True

    def request_headers(self) -> dict[str, Any]:
        """Put the sign-in on the request that is being built; no header is returned for others.

        Without a profiles file stock behaviour is untouched.
        """
        if find_config() is None:
            return {}
        try:
            from mlflow_plugins_pack.auth.signing.mlflow_hook import open_door

            return open_door(sys._getframe(1))
        except Exception as exc:  # noqa: BLE001 - MLflow would send the request without credentials
            message = getattr(exc, "message", f"internal {type(exc).__name__}")
            return {REFUSAL_HEADER: Refusal(f"sign-in failed and nothing was sent: {message}")}


class PackAuthProvider:
    """The explicit door: ``MLFLOW_TRACKING_AUTH=plugins-pack``."""

    def get_name(self) -> str:
        """Return the value of ``MLFLOW_TRACKING_AUTH`` that chooses this provider."""
        return PROVIDER_NAME

    def get_auth(self) -> PackAuth:
        """Return the object that signs requests in; it refuses an address no profile names."""
        from mlflow_plugins_pack.auth.signing.signer import PackAuth

        return PackAuth(strict=True)
