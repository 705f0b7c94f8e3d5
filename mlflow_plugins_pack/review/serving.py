"""Makes the application for each way of serving it: next to an MLflow server, or inside one."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from mlflow_plugins_pack.approvals.api.mlflow_server import MlflowServer
from mlflow_plugins_pack.approvals.api.review import Review, Site
from mlflow_plugins_pack.approvals.web.app import create_app
from mlflow_plugins_pack.errors import ConfigurationError
from mlflow_plugins_pack.identity.roles import has_roles
from mlflow_plugins_pack.review import lineage_page
from mlflow_plugins_pack.settings import REVIEW_MLFLOW_URL

if TYPE_CHECKING:
    from fastapi import FastAPI

    from mlflow_plugins_pack.approvals.store.store import ApprovalStoreMixin

SERVER_URL = "_MLFLOW_PACK_REVIEW_SERVER"
REGISTRY_URI = "_MLFLOW_PACK_REVIEW_REGISTRY"
"""Environment variables by which `mlflow-pack review serve` tells its workers what to open."""


def create_separate_app() -> FastAPI:
    """Return the application that runs next to an MLflow server; see `mlflow-pack review serve`."""
    from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES

    from mlflow_plugins_pack.approvals.background.worker import is_server_process

    url, registry = os.environ[SERVER_URL], os.environ[REGISTRY_URI]
    site = Site(
        mlflow_url=REVIEW_MLFLOW_URL.get().rstrip("/"),
        has_workspaces=bool(MLFLOW_ENABLE_WORKSPACES.get()),
        has_stores=is_server_process(),
    )
    store = functools.cache(lambda: _open(registry))
    return create_review_app(Review(store, MlflowServer(url), site))


def create_review_app(review: Review) -> FastAPI:
    """Return the review app with all of its pages."""
    return create_app(review, (lineage_page.router,), (("Lineage", "/lineage"),))


def stores_environment(backend: str, artifacts: str) -> dict[str, str]:
    """Return the variables by which MLflow's own code finds a server's stores."""
    from mlflow.server import constants

    return {
        constants.BACKEND_STORE_URI_ENV_VAR: backend,
        constants.ARTIFACTS_DESTINATION_ENV_VAR: artifacts,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
    }


def _open(registry: str) -> ApprovalStoreMixin:
    from mlflow_plugins_pack.approvals.store.store import open_store

    store = open_store(registry)
    if has_roles(store.governance.policies.current().file.groups):
        _open_roles()
    return store


def _open_roles() -> None:
    """Open MLflow's database of users, whose roles the policy's groups name.

    Raises:
        ConfigurationError: If its configuration is not set.
    """
    from mlflow.environment_variables import MLFLOW_AUTH_CONFIG_PATH

    if not MLFLOW_AUTH_CONFIG_PATH.get():
        raise ConfigurationError(
            "The policy's groups name roles of MLflow's basic-auth, and this process does not know "
            "where they are. Nothing was started. Set MLFLOW_AUTH_CONFIG_PATH as for the server."
        )
    from mlflow.server import auth

    auth.store.init_db(auth.auth_config.database_uri)
