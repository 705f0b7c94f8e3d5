"""The two classes that stock MLflow loads for sign-in: automatic signing and opt-in signing.

MLflow constructs both without arguments. It logs and then ignores what a header provider raises,
after which the request would be sent without credentials: so nothing here raises, and nothing is
imported until a profiles file exists.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from mlflow_plugins_pack.auth.profiles.paths import find_config

if TYPE_CHECKING:
    from mlflow_plugins_pack.auth.signing.signer import PackAuth

PROVIDER_NAME = "plugins-pack"
"""The value of ``MLFLOW_TRACKING_AUTH`` that chooses opt-in signing; setup.cfg has it too."""


class _Refusal:
    """A header value that cannot be sent.

    `requests` accepts text only and raises an error with the value's repr, so nothing is sent and
    MLflow shows the message.
    """

    def __init__(self, message: str) -> None:
        self._message = message

    def __repr__(self) -> str:
        return self._message

    def __format__(self, spec: str) -> str:
        # MLflow joins two values of one header: the text could be sent.
        raise TypeError(self._message)


class PackHeaderProvider:
    """Automatic signing: signs in the requests whose address a profile names.

    Duck-typed: MLflow calls the two methods of its ``RequestHeaderProvider`` only.
    """

    def in_context(self) -> bool:
        """Return True: whether there is a profile is looked up once, with the request."""
        return True

    def request_headers(self) -> dict[str, Any]:
        """Sign in the request that is being built; return no header for it.

        Without a profiles file stock behaviour is unchanged.
        """
        if find_config() is None:
            return {}
        try:
            from mlflow_plugins_pack.auth.signing.mlflow_hook import sign_in_request

            sign_in_request(sys._getframe(1), PROVIDER_NAME)
        except Exception as exc:  # noqa: BLE001 - MLflow would send the request without credentials
            message = getattr(exc, "message", f"internal {type(exc).__name__}")
            refusal = _Refusal(f"sign-in failed and nothing was sent: {message}")
            return {"X-Mlflow-Plugins-Pack-Refused": refusal}
        return {}


class PackAuthProvider:
    """Opt-in signing: ``MLFLOW_TRACKING_AUTH=plugins-pack``."""

    def get_name(self) -> str:
        """Return the value of ``MLFLOW_TRACKING_AUTH`` that chooses this provider."""
        return PROVIDER_NAME

    def get_auth(self) -> PackAuth:
        """Return the object that signs requests in; it refuses an address no profile names."""
        from mlflow_plugins_pack.auth.signing.signer import PackAuth

        return PackAuth(strict=True)
