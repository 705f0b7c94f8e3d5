"""Lists the calls of an MLflow server by what they reach: the registry, or files of versions.

What reaches one of these is listed by name, with the rows of `attack_table` or the reason why it
needs none; everything else by the beginning of its path. test_server_routes.py compares the lists
with the installed MLflow's code, so that a call which a newer MLflow adds is looked at.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

REGISTRY = "_get_model_registry_store"
SINKS = frozenset({REGISTRY, "get_artifact_repository", "MlflowClient"})
"""What a handler calls to reach the registry or files."""
WRITES_FILES = 41
"""The row of `attack_table` about the server's calls that write files."""

NO_VERSION_CHANGES = "it changes neither a version nor what points to one"
OTHER_RUN = "it reads or writes what is the caller's to read or write by MLflow's own permissions"
OWN_FILES = "the tracking store, as row 26; files are written and deleted at paths that it makes up"
A_JOB = "a job opens the registry itself, without a signed-in user: interface `direct`"

REACHING: dict[str, int | str] = {
    # --- calls that write the registry ---
    "_create_registered_model": "a new model has no versions; its name decides its policy",
    "_create_model_version": 10,
    "_update_model_version": 14,
    "_update_registered_model": 14,
    "_set_registered_model_alias": 1,
    "_delete_registered_model_alias": 2,
    "_transition_stage": 4,
    "_delete_model_version": 6,
    "_delete_registered_model": 7,
    "_rename_registered_model": 8,
    "_set_model_version_tag": 11,
    "_delete_model_version_tag": 11,
    "_set_registered_model_tag": 15,
    "_delete_registered_model_tag": 15,
    "_create_webhook": NO_VERSION_CHANGES,
    "_update_webhook": NO_VERSION_CHANGES,
    "_delete_webhook": NO_VERSION_CHANGES,
    "_test_webhook": NO_VERSION_CHANGES,
    # --- calls that read it ---
    "_get_registered_model": 35,
    "_search_registered_models": 35,
    "_search_model_versions": 35,
    "_get_latest_versions": 10,
    "_get_model_version": 10,
    "_get_model_version_download_uri": 10,
    "_get_model_version_by_alias": 10,
    "serve_model_version_artifact": 10,
    "_list_webhooks": NO_VERSION_CHANGES,
    "_get_webhook": NO_VERSION_CHANGES,
    # --- calls that write files ---
    "_upload_artifact": WRITES_FILES,
    "_delete_artifact_mlflow_artifacts": WRITES_FILES,
    "_create_multipart_upload_artifact": WRITES_FILES,
    "_complete_multipart_upload_artifact": WRITES_FILES,
    "_abort_multipart_upload_artifact": WRITES_FILES,
    "_create_presigned_upload_url": WRITES_FILES,
    "serve_upload_artifact": WRITES_FILES,
    # --- calls that read files, which MLflow's permissions decide about ---
    "_download_artifact": OTHER_RUN,
    "_list_artifacts": OTHER_RUN,
    "_list_artifacts_mlflow_artifacts": OTHER_RUN,
    "_list_logged_model_artifacts": OTHER_RUN,
    "_get_presigned_download_url": OTHER_RUN,
    "_create_presigned_download_url": OTHER_RUN,
    "serve_artifacts": OTHER_RUN,
    "serve_get_logged_model_artifact": OTHER_RUN,
    "serve_get_trace_artifact": OTHER_RUN,
    "_get_server_info": "it says whether parts are offered",
    # --- calls that load more of MLflow, which could reach either ---
    "serve_create_promptlab_run": "it makes a run of its own and writes there",
    "_generate_demo": "its prompts are registered by the store of the server: row 13",
    "_delete_demo": "its prompts are deleted by the store of the server: row 13",
    "_graphql": 42,
    "_get_provider_config": "it names what providers of models need",
    "_sync_issue_detection_schedule_state_handler": A_JOB,
    "_get_job": A_JOB,
    "_cancel_job": A_JOB,
    "_invoke_scorer_handler": A_JOB,
    "_invoke_genai_evaluate_handler": A_JOB,
    "_invoke_issue_detection_handler": A_JOB,
    "_create_prompt_optimization_job": A_JOB,
    "_get_prompt_optimization_job": A_JOB,
    "_search_prompt_optimization_jobs": A_JOB,
    "_cancel_prompt_optimization_job": A_JOB,
    "_delete_prompt_optimization_job": A_JOB,
    "_link_prompts_to_trace": "it writes a trace's tag; of the registry it uses a class only",
    "_create_gateway_guardrail": "it writes the tracking store; of MLflow it loads a class only",
}

TRACKING = "the tracking store, which no alias, stage or version is in"
ELSEWHERE = {
    "/mlflow/experiments/": TRACKING,
    "/mlflow/runs/": f"{TRACKING}; what a run's tags say is contestable: row 37",
    "/mlflow/logged-models": f"{TRACKING}; a model's files are those of row {WRITES_FILES}",
    "/mlflow/metrics/": TRACKING,
    "/mlflow/traces": TRACKING,
    "/mlflow/unified-traces": TRACKING,
    "/mlflow/get-online-trace-details": TRACKING,
    "/mlflow/datasets/": TRACKING,
    "/mlflow/gateway": TRACKING,
    "/mlflow/issues": TRACKING,
    "/mlflow/label-schemas/": TRACKING,
    "/mlflow/review-queues/": TRACKING,
    "/mlflow/scorers/": TRACKING,
    "/mlflow/workspaces": "row 19",
    "/mlflow/ui-telemetry": "what MLflow's pages count",
    "/mlflow/server-info": "a server's settings",
    "/": "MLflow's page",
    "/build/": "a file of MLflow's pages",
    "/static-files/": "a file of MLflow's pages",
    "/health": "a constant",
    "/version": "a constant",
}
"""Beginnings of the paths (after the version of the interface) of calls that reach neither."""

STREAMED = {
    "/api/2.0/mlflow-artifacts/artifacts/{artifact_path}": f"row {WRITES_FILES}",
    "/ajax-api/2.0/mlflow-artifacts/artifacts/{artifact_path}": f"row {WRITES_FILES}",
    "/v1/traces": TRACKING,
    "/v1/metrics": TRACKING,
    "/ajax-api/3.0/jobs/": A_JOB,
    "/gateway/": "calls of language models",
    "/ajax-api/3.0/mlflow/assistant/": "a program on the server's own host, for users of that host",
    "/api/3.0/mlflow/mcp-servers": "row 26",
    "/ajax-api/3.0/mlflow/mcp-servers": "row 26",
    "/api/3.0/mlflow/skills": OWN_FILES,
    "/ajax-api/3.0/mlflow/skills": OWN_FILES,
    "/api/3.0/mlflow/server-info": "a server's settings",
    "/ajax-api/3.0/mlflow/server-info": "a server's settings",
    "/health": "a constant",
}
"""Beginnings of the paths that FastAPI answers, without the Flask application."""

KNOWN_MODULES = frozenset(
    {"__init__", "handlers", "artifact_router", "auth/__init__", "skill_registry/artifacts"}
)
"""Modules of ``mlflow.server`` that mention the registry store or artifact repositories."""
READ_BY_AUTH = frozenset(
    {"get_registered_model", "search_registered_models", "search_model_versions"}
)
"""What MLflow's basic-auth calls of the registry store, to decide about permissions."""


@dataclass(frozen=True)
class Route:
    """A call that the Flask application answers.

    Attributes:
        handler: the name of the function that answers it.
        path: its path, without the version of the interface.
        verbs: its HTTP methods.
        reaches: names of `SINKS`, and modules of MLflow that the handler loads when it is called.
    """

    handler: str
    path: str
    verbs: frozenset[str]
    reaches: frozenset[str]


def flask_routes() -> Iterator[Route]:
    """Yield each route of MLflow's Flask application."""
    from mlflow.server import app

    for rule in app.url_map.iter_rules():
        handler = inspect.unwrap(app.view_functions[rule.endpoint]).__name__
        path = str(rule)
        for prefix in ("/ajax-api/", "/api/"):
            if path.startswith(prefix):
                path = path.removeprefix(prefix)[len("2.0") :]
        path = f"/{path}" if not path.startswith("/") else path
        verbs = frozenset(rule.methods or ()) - {"HEAD", "OPTIONS"}
        yield Route(handler, path, verbs, _reached_by(handler))


@cache
def _reached_by(handler: str) -> frozenset[str]:
    """Return what a function reaches, by itself or by functions that it calls."""
    functions, seen, found, waiting = _functions(), set(), set(), [handler]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in functions:
            continue
        seen.add(name)
        names, modules = functions[name]
        found |= (names & SINKS) | modules
        waiting += names
    return frozenset(found - {"mlflow.server", "mlflow.server.auth"})


@cache
def _functions() -> dict[str, tuple[set[str], set[str]]]:
    """Return, for each function of the handlers, the names it uses and modules it loads."""
    from mlflow import server
    from mlflow.server import handlers

    functions: dict[str, tuple[set[str], set[str]]] = {}
    for module in (handlers, server):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                names, modules = functions.setdefault(node.name, (set(), set()))
                for part in ast.walk(node):
                    names.update(_names(part))
                    if isinstance(part, ast.ImportFrom) and str(part.module).startswith("mlflow"):
                        modules.add(str(part.module))
    return functions


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Name):
        return [node.id]
    return [node.attr] if isinstance(node, ast.Attribute) else []


def registry_calls_of_auth() -> set[str]:
    """Return the methods of the registry store that MLflow's basic-auth names."""
    import mlflow.server

    source = Path(str(mlflow.server.__file__)).parent / "auth" / "__init__.py"
    return {
        node.attr
        for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Call)
        and REGISTRY in _names(node.value.func)
    }
