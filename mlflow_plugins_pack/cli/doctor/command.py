"""``mlflow-pack doctor``: finds what is wrong with an installation and says what to do."""

from __future__ import annotations

import importlib.metadata
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import Any

import click

from mlflow_plugins_pack import __version__
from mlflow_plugins_pack.artifacts.uri.schemes import PACK_SCHEMES
from mlflow_plugins_pack.cli.doctor.advisories import advisories_for
from mlflow_plugins_pack.cli.doctor.uri_traps import Role, find_trap
from mlflow_plugins_pack.cli.output import echo, json_option, print_json
from mlflow_plugins_pack.findings import Finding
from mlflow_plugins_pack.uris import (
    ARTIFACT_WORD,
    REGISTRY_WORD,
    is_pack_uri,
    without_credentials,
)

_DISTRIBUTION = "mlflow-plugins-pack"

_MARKS = {"ok": ("ok", "green"), "warning": ("warn", "yellow"), "error": ("FAIL", "red")}


def _uri_option(name: str, *variables: str, help_text: str = "As for `mlflow server`.") -> Any:
    shown = f"{help_text} Default: {' or '.join(variables)}."
    return click.option(name, envvar=list(variables), metavar="URI", help=shown)


@click.command()
@_uri_option("--tracking-uri", "MLFLOW_TRACKING_URI", help_text="A client's tracking URI.")
@_uri_option("--backend-store-uri", "MLFLOW_BACKEND_STORE_URI")
@_uri_option("--registry-store-uri", "MLFLOW_REGISTRY_STORE_URI", "MLFLOW_REGISTRY_URI")
@_uri_option("--artifacts-destination", "MLFLOW_ARTIFACTS_DESTINATION")
@_uri_option("--default-artifact-root", "MLFLOW_DEFAULT_ARTIFACT_ROOT")
@json_option
def doctor(
    tracking_uri: str | None,
    backend_store_uri: str | None,
    registry_store_uri: str | None,
    artifacts_destination: str | None,
    default_artifact_root: str | None,
    as_json: bool,
) -> None:
    """Check this installation, and the URIs that are given or set in the environment.

    Takes the same options as `mlflow server` and reads the same variables. Ends with 1 if anything
    is wrong.
    """
    uris: list[tuple[str, Role, str | None]] = [
        ("tracking URI", "tracking", tracking_uri),
        ("backend store", "backend", backend_store_uri),
        ("registry store", "registry", registry_store_uri),
        ("artifacts destination", "artifacts", artifacts_destination),
        ("default artifact root", "artifacts", default_artifact_root),
    ]
    checks: list[Callable[[], Iterator[Finding]]] = [
        _check_versions,
        _check_advisories,
        _check_entry_points,
        _check_schemes,
        _check_settings,
        lambda: _check_traps(uris),
        _check_auth,
        lambda: _check_registry(registry_store_uri),
        lambda: _check_artifacts([artifacts_destination, default_artifact_root]),
        lambda: _check_server(tracking_uri),
    ]
    findings: list[Finding] = []
    for check in checks:
        for finding in check():
            findings.append(finding)
            if not as_json:
                print_finding(finding)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    if any(finding.level == "error" for finding in findings):
        raise click.exceptions.Exit(1)


def _check_versions() -> Iterator[Finding]:
    import mlflow.version

    from mlflow_plugins_pack.versions import NEWEST_TRIED_MLFLOW, OLDEST_MLFLOW, mlflow_version

    python = ".".join(map(str, sys.version_info[:3]))
    summary = f"pack {__version__}, MLflow {mlflow.version.VERSION}, Python {python}"
    if OLDEST_MLFLOW <= mlflow_version() <= NEWEST_TRIED_MLFLOW:
        yield Finding("ok", "versions", summary)
    else:
        oldest, newest = (".".join(map(str, v)) for v in (OLDEST_MLFLOW, NEWEST_TRIED_MLFLOW))
        yield Finding(
            "warning",
            "versions",
            f"{summary}: not a version of MLflow that the pack was tested on ({oldest} to "
            f"{newest}). Try a promotion and a download before you rely on it.",
        )


def _check_advisories() -> Iterator[Finding]:
    import mlflow.version
    from packaging.version import Version

    yield from advisories_for(Version(mlflow.version.VERSION).release)


def _check_entry_points() -> Iterator[Finding]:
    points = [
        point
        for point in importlib.metadata.distribution(_DISTRIBUTION).entry_points
        if point.group.startswith("mlflow.")
    ]
    failed = False
    for point in points:
        try:
            point.load()
        except Exception as exc:  # noqa: BLE001 - whatever it is, this is where it is reported
            failed = True
            yield Finding(
                "error",
                f"entry point {point.group}: {point.name}",
                f"does not load: {exc}. Stock MLflow will not know it; reinstall the pack.",
            )
    if not failed:
        yield Finding("ok", "entry points", f"all {len(points)} load")


def _check_schemes() -> Iterator[Finding]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.store.artifact.artifact_repository_registry import (
            get_registered_artifact_repositories,
        )
        from mlflow.tracking._model_registry.utils import _get_store_registry

        artifacts = get_registered_artifact_repositories()
        registry = _get_store_registry()
    wanted = [
        point.name
        for point in importlib.metadata.distribution(_DISTRIBUTION).entry_points
        if point.group == "mlflow.model_registry_store"
    ]
    missing = [scheme for scheme in PACK_SCHEMES if scheme not in artifacts]
    missing += [scheme for scheme in wanted if scheme not in registry._registry]
    if missing:
        yield Finding(
            "error",
            "schemes",
            f"stock MLflow does not know {', '.join(missing)}: the plugin was skipped with a "
            "warning at import. Run `python -W error -c 'import mlflow'` to see it.",
        )
    else:
        yield Finding(
            "ok", "schemes", f"stock MLflow resolves {', '.join(PACK_SCHEMES)} and approval-*"
        )


def _check_settings() -> Iterator[Finding]:
    from mlflow_plugins_pack import settings
    from mlflow_plugins_pack.errors import ConfigurationError

    known = {setting.name: setting for setting in settings.all_settings()}
    for setting in known.values():
        try:
            setting.get()
        except ConfigurationError as exc:
            yield Finding("error", setting.name, exc.message)
    for name in os.environ:
        if name.startswith("MLFLOW_PACK_") and name not in known and name not in _OTHER_VARIABLES:
            yield Finding("warning", name, "is set, and no such setting exists. A typing error?")


_OTHER_VARIABLES = frozenset({"MLFLOW_PACK_REQUIRE", "MLFLOW_PACK_SCREENSHOTS"})


def _check_traps(uris: list[tuple[str, Role, str | None]]) -> Iterator[Finding]:
    for subject, role, uri in uris:
        if not uri:
            continue
        trap = find_trap(role, uri)
        shown = without_credentials(uri)
        if trap is None:
            yield Finding("ok", subject, shown)
        else:
            advice = f" Write {trap.instead}." if trap.instead else ""
            yield Finding("error", subject, f"{shown}: {trap.consequence}.{advice}")


def _check_auth() -> Iterator[Finding]:
    from mlflow_plugins_pack.auth.tools.doctor import check

    yield from check()


def _check_registry(uri: str | None) -> Iterator[Finding]:
    from mlflow_plugins_pack.approvals.reports.doctor import check

    yield from check(uri if uri and is_pack_uri(REGISTRY_WORD, uri) else None)


def _check_artifacts(uris: list[str | None]) -> Iterator[Finding]:
    from mlflow_plugins_pack.artifacts.maintenance.doctor import check

    for uri in uris:
        if uri and is_pack_uri(ARTIFACT_WORD, uri) and find_trap("artifacts", uri) is None:
            yield from check(uri)


def _check_server(uri: str | None) -> Iterator[Finding]:
    if not uri or not uri.startswith(("http://", "https://")):
        return
    import mlflow
    from mlflow.exceptions import MlflowException

    try:
        mlflow.MlflowClient(tracking_uri=uri).search_experiments(max_results=1)
    except MlflowException as exc:
        yield Finding(
            "error",
            "tracking server",
            f"{uri} does not let us in: {exc.message} Run `mlflow-pack auth status` to see which "
            "profile signs in there.",
        )
    else:
        yield Finding("ok", "tracking server", f"{uri} answers, and accepts who we are")


def print_finding(finding: Finding) -> None:
    """Print one finding as a line."""
    mark, colour = _MARKS[finding.level]
    lead = click.style(f"{mark:<4}", fg=colour)
    echo(f"  {finding.subject}: {finding.message}", lead=lead)
