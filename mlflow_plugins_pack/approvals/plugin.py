"""What stock MLflow's ``mlflow.model_registry_store`` entry points name.

Importing this module imports no store: MLflow loads it while its own stores are half imported.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow_plugins_pack.approvals.store.store import ApprovalStoreMixin


def build_store(
    store_uri: str,
    tracking_uri: str | None = None,  # noqa: ARG001 - MLflow passes it by name
) -> ApprovalStoreMixin:
    """Open the registry store that enforces approvals.

    Args:
        store_uri: ``approval-`` in front of a stock database URI.
        tracking_uri: Unused.

    Returns:
        The store, workspace-aware when the server is.

    Raises:
        UnsupportedUriError: If what follows ``approval-`` is not a database we serve.
        PolicyInvalidError: If the policy file is missing or wrong.
    """
    from mlflow_plugins_pack.approvals.store.store import open_store

    return open_store(store_uri)
