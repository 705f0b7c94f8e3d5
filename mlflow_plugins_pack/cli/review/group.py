"""``mlflow-pack review serve``: options, and the server that runs the review app."""

from __future__ import annotations

import os

import click

from mlflow_plugins_pack.errors import ConfigurationError
from mlflow_plugins_pack.settings import REVIEW_MLFLOW_URL
from mlflow_plugins_pack.uris import REGISTRY_WORD, is_pack_uri, without_credentials
from mlflow_plugins_pack.web_urls import parse_url


@click.group()
def review() -> None:
    """Serve the pages of approvals."""


@review.command()
@click.option(
    "--tracking-uri",
    envvar="MLFLOW_TRACKING_URI",
    required=True,
    metavar="URL",
    help="Address of the MLflow server; MLFLOW_TRACKING_URI if not given.",
)
@click.option(
    "--registry-store-uri",
    envvar="MLFLOW_REGISTRY_URI",
    required=True,
    metavar="URI",
    help="The server's registry: approval- and a database; MLFLOW_REGISTRY_URI if not given.",
)
@click.option(
    "--backend-store-uri",
    metavar="URI",
    help="The server's tracking database; with --artifacts-destination, pages read files and "
    "metrics there, and votes can apply a change by themselves (apply: auto).",
)
@click.option("--artifacts-destination", metavar="URI", help="The server's store of artifacts.")
@click.option(
    "--mlflow-url",
    metavar="URL",
    help="Address of MLflow's pages for links; --tracking-uri's by default.",
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=5001, show_default=True, help="Port to listen on.")
@click.option("--workers", default=1, show_default=True, help="Number of processes.")
@click.option(
    "--root-path",
    default="",
    help="Path in front of /approvals where a proxy serves the app, such as /mlflow.",
)
@click.option(
    "--proxy-ips",
    default="127.0.0.1",
    show_default=True,
    help="Addresses of proxies whose X-Forwarded-Proto is believed, separated by commas.",
)
def serve(
    tracking_uri: str,
    registry_store_uri: str,
    backend_store_uri: str | None,
    artifacts_destination: str | None,
    mlflow_url: str | None,
    host: str,
    port: int,
    workers: int,
    root_path: str,
    proxy_ips: str,
) -> None:
    """Serve the review app next to an MLflow server, in front of the same registry.

    It needs the server's policy file (MLFLOW_PACK_APPROVALS_POLICY) and its database. Who visits
    is asked of the MLflow server, with the visitor's own credentials.
    """
    if not is_pack_uri(REGISTRY_WORD, registry_store_uri):
        raise ConfigurationError(
            f"{without_credentials(registry_store_uri)!r} is a registry without approvals. Nothing "
            "was started. Give the server's own: approval- in front of a database's URI."
        )
    if parse_url(tracking_uri) is None:
        raise ConfigurationError(
            f"{without_credentials(tracking_uri)!r} is not the address of an MLflow server. "
            "Nothing was started. Give one such as http://127.0.0.1:5000."
        )
    # Imported here: `mlflow-pack --help` need not wait for them.
    import uvicorn

    from mlflow_plugins_pack.review import serving

    if (backend_store_uri is None) != (artifacts_destination is None):
        raise click.UsageError("Give both --backend-store-uri and --artifacts-destination.")
    if backend_store_uri is not None and artifacts_destination is not None:
        os.environ |= serving.stores_environment(backend_store_uri, artifacts_destination)
    os.environ[serving.SERVER_URL] = tracking_uri
    os.environ[serving.REGISTRY_URI] = registry_store_uri
    if not REVIEW_MLFLOW_URL.is_set():
        os.environ[REVIEW_MLFLOW_URL.name] = mlflow_url or tracking_uri
    uvicorn.run(
        f"{serving.__name__}:{serving.create_separate_app.__name__}",
        factory=True,
        host=host,
        port=port,
        workers=workers,
        root_path=root_path,
        forwarded_allow_ips=proxy_ips,
        server_header=False,
        log_level="warning",
    )
