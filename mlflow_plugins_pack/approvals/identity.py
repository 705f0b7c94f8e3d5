"""Who is calling: only what an authenticating server has verified counts.

Handlers run inside a Flask request, also under uvicorn, so a store can ask there. Never from tags,
bodies, headers or ``request.authorization``: nobody verified those.
"""

from __future__ import annotations

from collections.abc import Sequence


def current_user(sources: Sequence[str]) -> str | None:
    """Return the name of the signed-in caller, or None.

    Args:
        sources: Resolvers the policy allows. ``basic_auth`` reads what MLflow's basic-auth app,
            or any ``authorization_function`` under it, has verified.
    """
    import flask

    if not flask.has_request_context() or "basic_auth" not in sources:
        return None
    user = getattr(flask.g, "mlflow_authenticated_user", None)
    return user if isinstance(user, str) and user else None


def in_server() -> bool:
    """Tell whether this code runs inside a server's request."""
    import flask

    return bool(flask.has_request_context())
