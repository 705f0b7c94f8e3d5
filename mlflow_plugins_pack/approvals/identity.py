"""Who is calling: only what an authenticating server has verified counts.

Handlers run inside a Flask request, also under uvicorn, so a store can ask there. Never from tags,
bodies, headers or ``request.authorization``: nobody verified those.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence

_logger = logging.getLogger(__name__)


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


def is_server_process() -> bool:
    """Tell whether this process is one of a server's, whose environment has the server's stores."""
    from mlflow.server.constants import BACKEND_STORE_URI_ENV_VAR

    return BACKEND_STORE_URI_ENV_VAR in os.environ


def run_user(run_id: str | None) -> str | None:
    """Return who a run says it belongs to; the client sets it, so it may ban but never grant."""
    if not run_id:
        return None
    from mlflow.exceptions import MlflowException

    try:
        if in_server():
            from mlflow.server import handlers

            run = handlers._get_tracking_store().get_run(run_id)
        else:
            from mlflow.tracking import MlflowClient

            run = MlflowClient().get_run(run_id)
    except MlflowException as exc:
        _logger.info("The run %s could not be read for its user: %s", run_id, exc)
        return None
    user: str | None = run.data.tags.get("mlflow.user")
    return user
