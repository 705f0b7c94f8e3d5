"""What stock MLflow's ``mlflow.app`` entry points name: MLflow's app with the review app in it.

Importing this module imports no server: ``mlflow server`` does it in its own process first.
"""

from __future__ import annotations

from typing import Any


def create_app() -> Any:
    """Return the app of ``mlflow server --app-name approvals``.

    It is the app that MLFLOW_PACK_REVIEW_INNER_APP names, or MLflow's own without sign-in, and the
    review app under ``/approvals/``.

    Raises:
        ConfigurationError: If there is no app of that name.
    """
    from mlflow_plugins_pack.review.inside import wrapped
    from mlflow_plugins_pack.settings import REVIEW_INNER_APP

    return wrapped(REVIEW_INNER_APP.get())


def create_basic_auth_app() -> Any:
    """Return the app of ``mlflow server --app-name approvals-basic-auth``."""
    from mlflow_plugins_pack.review.inside import wrapped

    return wrapped("basic-auth")
