"""Installed next to MLflow with nothing configured, the pack's one visible effect is lineage.

Stock is the same interpreter with the pack hidden (`tests/support/without_pack`). Each comparison
runs the same script in two fresh processes against a real server, through a proxy that records
every request.
"""

from __future__ import annotations

import importlib.metadata
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.recording_proxy import Request, recording_proxy
from tests.support.servers import clean_environment, mlflow_server

HERE = Path(__file__).parent
HIDING = str(ROOT / "tests" / "support" / "without_pack")
IMPORT_BUDGET_SECONDS = 0.050

# What a plugin module may not pull into `import mlflow`: what stock does not import there itself.
HEAVY = {
    "alembic", "azure", "boto3", "botocore", "cryptography", "flask", "jinja2", "pyfastcdc",
    "pydantic", "requests", "rich", "s3transfer", "sqlalchemy", "zstandard", "pandas", "pyarrow",
}  # fmt: skip


def stock_or_pack(*, pack: bool, **settings: str) -> dict[str, str]:
    """Return the environment of a process with or without the pack."""
    hide = {} if pack else {"HIDE_PACK": "1"}
    return clean_environment(
        PYTHONPATH=HIDING, MLFLOW_DISABLE_TELEMETRY="true", PYTHONHASHSEED="0", **hide, **settings
    )


def python(
    *arguments: str, pack: bool = True, cwd: Path | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    """Run a fresh interpreter with or without the pack."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=stock_or_pack(pack=pack, **settings),
        cwd=cwd or HERE,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def pack_entry_points() -> list[importlib.metadata.EntryPoint]:
    """Return what stock MLflow may load of the pack."""
    found = importlib.metadata.distribution("mlflow-plugins-pack").entry_points
    return sorted(point for point in found if point.group.startswith("mlflow."))


# --- loading --------------------------------------------------------------------------------------


def test_hiding_really_gives_stock_mlflow() -> None:
    code = (
        "import importlib.metadata as m, mlflow, sys\n"
        "points = [p for d in m.distributions() for p in d.entry_points]\n"
        "print([p for p in points if 'plugins_pack' in p.value],\n"
        "      [n for n in sys.modules if n.startswith('mlflow_plugins_pack')])\n"
        "import mlflow_plugins_pack"
    )
    done = python("-c", code, pack=False)
    assert done.stdout.strip() == "[] []"
    assert "is hidden: this process is stock MLflow" in done.stderr


def test_importing_mlflow_warns_of_nothing() -> None:
    done = python("-W", "error::UserWarning", "-c", "import mlflow")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


LOADED_BY_STOCK = """
import json, warnings
warnings.simplefilter("error", UserWarning)
import mlflow
from mlflow.store.artifact.artifact_repository_registry import _artifact_repository_registry as art
from mlflow.tracking.context.registry import _run_context_provider_registry as context
from mlflow.tracking.request_auth.registry import _request_auth_provider_registry as auth
from mlflow.tracking.request_header.registry import _request_header_provider_registry as header
from mlflow.tracking._model_registry.utils import _get_store_registry as registry
from mlflow.data.dataset_source_registry import get_registered_sources
from mlflow.utils.plugins import get_entry_points
def name(thing):
    return f"{thing.__module__}:{thing.__qualname__}"
def names(providers):
    return [name(type(provider)) for provider in providers]
print(json.dumps({
    "mlflow.artifact_repository": {k: name(v) for k, v in art._registry.items() if "-" in k},
    "mlflow.model_registry_store": sorted(registry()._registry),
    "mlflow.run_context_provider": names(context),
    "mlflow.request_header_provider": names(header),
    "mlflow.request_auth_provider": names(auth),
    "mlflow.dataset_source": [name(source) for source in get_registered_sources()],
    # `mlflow server --app-name` hands the name of the object to the web server.
    "mlflow.app": [app.value for app in get_entry_points("mlflow.app")],
}))
"""


def test_stock_resolves_every_scheme_and_provider() -> None:
    done = python("-c", LOADED_BY_STOCK)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    loaded = json.loads(done.stdout)
    points = pack_entry_points()
    assert points
    for point in points:
        seen = loaded[point.group]
        if point.group == "mlflow.artifact_repository":
            assert seen[point.name] == point.value
        elif point.group == "mlflow.model_registry_store":
            assert point.name in seen
        else:
            assert point.value in seen


def test_the_wheel_names_every_plugin() -> None:
    groups = Counter(point.group for point in pack_entry_points())
    assert groups["mlflow.artifact_repository"] == 5
    assert groups["mlflow.run_context_provider"] == 1
    assert groups["mlflow.request_header_provider"] == 2
    assert groups["mlflow.request_auth_provider"] == 1
    assert groups["mlflow.model_registry_store"] >= 9
    assert groups["mlflow.dataset_source"] == 1
    assert groups["mlflow.app"] == 2
    leaves = {point.module.rpartition(".")[2] for point in pack_entry_points()}
    assert leaves == {"plugin", "dataset_source"}


LEAVES = """
import importlib, json, sys
import mlflow
sys.meta_path[:] = [f for f in sys.meta_path if type(f).__name__ != "_Refuse"]
added = {}
for name in sys.argv[1:]:
    before = set(sys.modules)
    importlib.import_module(name)
    added[name] = sorted(set(sys.modules) - before)
print(json.dumps(added))
"""


def test_plugin_modules_are_leaves() -> None:
    modules = sorted({point.module for point in pack_entry_points()})
    done = python("-c", LEAVES, *modules, pack=False)
    assert done.returncode == 0, done.stderr
    for module, added in json.loads(done.stdout).items():
        heavy = [name for name in added if name.partition(".")[0] in HEAVY]
        stores = [name for name in added if name.startswith("mlflow.store")]
        assert not heavy, f"{module} imports {heavy}"
        assert not stores, f"{module} imports {stores}"


def test_import_mlflow_stays_within_its_budget() -> None:
    """What the pack adds, by the interpreter's own account: steadier than two wall clocks.

    `benchmarks import` times the whole of `import mlflow`, stock and pack interleaved.
    """
    stock = python("-c", "import mlflow, sys; print(*sys.modules)", pack=False)
    stock_modules = set(stock.stdout.split())
    assert "mlflow" in stock_modules
    for _attempt in range(3):
        done = python("-X", "importtime", "-c", "import mlflow")
        own_microseconds = {
            fields[2].strip(): int(fields[0])
            for line in done.stderr.splitlines()
            if len(fields := line.removeprefix("import time:").split("|")) == 3
            and fields[0].strip().isdigit()
        }
        assert "mlflow" in own_microseconds
        added = {n: us for n, us in own_microseconds.items() if n not in stock_modules}
        if sum(added.values()) / 1e6 <= IMPORT_BUDGET_SECONDS:
            return
    pytest.fail(f"import mlflow costs {sum(added.values())} us more: {added}")


# --- an ordinary day ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Day:
    """What one process did and said.

    Attributes:
        code: Exit code.
        seen: What its calls gave back, and the history afterwards.
        said: Lines it printed, but for the document.
        requests: What it sent.
    """

    code: int
    seen: dict[str, Any]
    said: list[str]
    requests: list[Request]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the breast-cancer data as a CSV and a parquet file."""
    from tests.end_to_end.support.data import write_breast_cancer

    return write_breast_cancer(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def day_of(
    tmp_path_factory: pytest.TempPathFactory, data: tuple[Path, Path]
) -> Iterator[Callable[[str], Day]]:
    """Return what runs one of the four combinations, each once."""
    combinations: dict[str, tuple[bool, bool, dict[str, str]]] = {
        # name: (pack on the server, pack at the client, client's settings)
        "stock": (False, False, {}),
        "pack": (False, True, {}),
        "pack, lineage off": (False, True, {"MLFLOW_PACK_LINEAGE_ENABLED": "false"}),
        "pack on the server": (True, False, {}),
    }
    # One folder name for all: what is written down must not differ by it.
    folders = {name: tmp_path_factory.mktemp(f"day{i}") for i, name in enumerate(combinations)}

    def spend(name: str) -> Day:
        server_has_pack, client_has_pack, settings = combinations[name]
        folder = folders[name]
        environment = stock_or_pack(pack=server_has_pack)
        chosen = {
            key: environment[key] for key in ("PYTHONPATH", "HIDE_PACK") if key in environment
        }
        with (
            mlflow_server(folder / "server", **chosen) as server,
            recording_proxy(server.url) as proxy,
        ):
            done = python(
                "-W", "default", str(HERE / "support" / "ordinary_day.py"), *map(str, data),
                pack=client_has_pack,
                cwd=folder,
                MLFLOW_TRACKING_URI=proxy.url,
                MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
                **settings,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            *printed, answer = done.stdout.splitlines()
            return Day(
                done.returncode,
                neutral_json(json.loads(answer)),
                sorted(neutral(line) for line in (*printed, *done.stderr.splitlines())),
                proxy.requests,
            )

    with ThreadPoolExecutor(2) as pool:
        # Two at a time: each waits for its server most of the while.
        days = {name: pool.submit(spend, name) for name in combinations}
        yield cache(lambda name: days[name].result())


def neutral(text: str) -> str:
    """Return the text without what differs between any two runs: ids, clocks, ports, folders."""
    text = re.sub(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])", "<id>", text)
    text = re.sub(r"\b1[789]\d{11}\b", "<ms>", text)
    text = re.sub(r"\d{4}[-/]\d\d[-/]\d\d[ T]\d\d:\d\d:\d\d(\.\d+)?", "<time>", text)
    text = re.sub(r"127\.0\.0\.1:\d+", "<server>", text)
    text = re.sub(r"/day\d+/", "/<day>/", text)
    text = re.sub(r"/tmp[a-z0-9_]{8}\b", "/<tmp>", text)
    return re.sub(r"<string>:\d+", "<string>", text)


def neutral_json(value: Any) -> Any:
    """Return a JSON value made neutral, key by key."""
    if isinstance(value, dict):
        return {neutral(key): neutral_json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [neutral_json(item) for item in value]
    if isinstance(value, str):
        return neutral(value)
    is_clock = isinstance(value, int) and neutral(str(value)) == "<ms>"
    return "<ms>" if is_clock else value


def shape(value: Any) -> Any:
    """Return a JSON value's keys and types, with its values left out."""
    if isinstance(value, dict):
        return {key: shape(item) for key, item in sorted(value.items())}
    if isinstance(value, list):
        return sorted((shape(item) for item in value), key=repr)
    return type(value).__name__


def facts(request: Request) -> str:
    """Return what a request says, apart from ids, clocks and lineage's tags on what is created."""
    headers = {
        name: neutral(value)
        for name, value in request.headers
        # A clock in JSON may be one digit of a fraction longer.
        if name.lower() not in {"content-length", "host"}
    }
    parsed = request.json()
    if isinstance(parsed, dict) and "tags" in parsed:
        parsed["tags"] = [tag for tag in parsed["tags"] if not is_lineage_key(tag)]
        parsed["tag keys"] = {str(tag.get("key")): "" for tag in parsed["tags"]}
    body = shape(parsed) if parsed is not None else f"{bool(request.body)}"
    return json.dumps([request.method, neutral(request.path), headers, body, request.status])


def sent(day: Day) -> Counter[str]:
    return Counter(map(facts, day.requests))


def test_the_ordinary_day_is_worth_comparing(day_of: Callable[[str], Day]) -> None:
    day = day_of("stock")
    assert day.code == 0
    assert len(day.requests) > 40
    history = day.seen["history"]
    assert [len(history[key]) for key in ("runs", "logged_models", "versions")] == [3, 1, 1]
    assert len(day.seen["predictions"]) == 569
    assert not any("no error" in error for error in day.seen["errors"])


@pytest.mark.parametrize("name", ["pack, lineage off", "pack on the server"])
def test_without_lineage_nothing_differs_at_all(day_of: Callable[[str], Day], name: str) -> None:
    stock, with_pack = day_of("stock"), day_of(name)
    assert with_pack.code == stock.code
    assert with_pack.seen == stock.seen
    assert with_pack.said == stock.said
    assert sent(with_pack) - sent(stock) == Counter()
    assert sent(stock) - sent(with_pack) == Counter()
    assert not [request for request in with_pack.requests if b"lineage." in request.body]


def test_with_lineage_on_only_lineage_is_added(day_of: Callable[[str], Day]) -> None:
    stock, with_pack = day_of("stock"), day_of("pack")
    assert with_pack.code == stock.code
    assert with_pack.said == stock.said
    for key in ("predictions", "model", "downloaded", "errors"):
        assert with_pack.seen[key] == stock.seen[key]
    assert without_lineage(with_pack.seen["history"]) == stock.seen["history"]


def test_with_lineage_on_requests_differ_by_lineage_alone(day_of: Callable[[str], Day]) -> None:
    stock, with_pack = day_of("stock"), day_of("pack")
    plain = Counter(facts(r) for r in with_pack.requests if not is_lineage(r))
    assert sent(stock) - plain == Counter(), "a stock request is missing or was changed"
    unexplained = [line for line in plain - sent(stock) if not LINEAGE_READS.match(line)]
    assert not unexplained, "requests are new, and lineage does not explain them"
    assert any(is_lineage(request) for request in with_pack.requests)


def test_the_run_tells_what_it_read(day_of: Callable[[str], Day], data: tuple[Path, Path]) -> None:
    """Guards the comparisons above: with lineage on there must be something to leave out."""
    for run in day_of("pack").seen["history"]["runs"]:
        if run["run"]["info"]["run_name"] == "search":
            inputs = json.loads(run["run"]["data"]["tags"]["lineage.inputs"])
            assert {Path(entry["u"]).name for entry in inputs} == {path.name for path in data}
            return
    pytest.fail("no run named search")


# What lineage looks up: whose run it is, which run a model that was read came from, and which
# versions were made of the run. The third is the job itself, listing the folder that lineage wrote.
LINEAGE_READS = re.compile(
    r'\["GET", "/api/2\.0/(mlflow/runs/get\?|mlflow/logged-models/m-<id>"'
    r"|mlflow-artifacts/artifacts\?path=1%2F<id>%2Fartifacts%2Flineage"
    r"|mlflow/model-versions/search\?filter=run_id%3D%27[0-9a-f]{32}%27"
    # The version that was just registered without its number being returned.
    r"|mlflow/model-versions/search\?filter=name%3D%27ordinary%27&max_results=1&"
    # Asked by stock's client before it changes a version's tags, which a prompt has not.
    r"|mlflow/registered-models/get\?name=)"
    r'|\["POST", "/api/2\.0/mlflow/(runs|logged-models)/search"'
)


def is_lineage_key(tag: dict[str, Any]) -> bool:
    return str(tag.get("key")).startswith("lineage.")


def is_lineage(request: Request) -> bool:
    """Return whether the request writes lineage and nothing else."""
    body = request.json()
    if "/artifacts/lineage/lineage.json" in request.path or "lineage%2Flineage" in request.path:
        return True
    if not isinstance(body, dict):
        return False
    if body.get("tags") and all(is_lineage_key(tag) for tag in body["tags"]):
        return not body.get("metrics") and not body.get("params")
    if is_lineage_key(body):
        return True
    if body.get("datasets"):
        tags = [tag for dataset in body["datasets"] for tag in dataset.get("tags", [])]
        return any(is_lineage_key(tag) for tag in tags)
    return False


def without_lineage(history: dict[str, Any]) -> dict[str, Any]:
    """Return the history with lineage's tags, datasets and artifact taken out."""
    copy: dict[str, Any] = json.loads(json.dumps(history))

    def prune(tags: dict[str, str]) -> None:
        for key in [key for key in tags if key.startswith("lineage.")]:
            del tags[key]

    for run in copy["runs"]:
        prune(run["run"]["data"]["tags"])
        inputs = run["run"]["inputs"]["dataset_inputs"]
        run["run"]["inputs"]["dataset_inputs"] = [
            entry
            for entry in inputs
            if not any(key.startswith("lineage.") for key in entry["tags"])
        ]
        run["artifacts"] = [
            entry for entry in run["artifacts"] if entry[0].split("/")[0] != "lineage"
        ]
    for model in copy["logged_models"]:
        prune(model["tags"])
    # Lineage goes along with what is registered.
    versions = [v for model in copy["registered"] for v in model["latest_versions"]]
    for version in (*copy["versions"], *versions):
        prune(version["tags"])
    return copy


# --- the command line -----------------------------------------------------------------------------


COMMANDS = {
    "works": ["experiments", "search"],
    "fails": ["runs", "describe", "--run-id", "0" * 32],
    "is used wrongly": ["runs", "list"],
    "has no such option": ["server", "--none"],
}

# One process for all commands: each of its own would wait for the database's migrations again.
COMMAND_LINE = """
import json, sys
from click.testing import CliRunner
from mlflow.cli import cli
CliRunner().invoke(cli, ["experiments", "search"])  # creates the database, and says so
answers = {}
for name, arguments in json.loads(sys.argv[1]).items():
    done = CliRunner().invoke(cli, arguments, prog_name="mlflow")
    answers[name] = [done.exit_code, done.output, repr(done.exception)]
print(json.dumps(answers))
"""


def test_the_stock_command_line_answers_the_same(tmp_path: Path) -> None:
    def answers(pack: bool) -> dict[str, Any]:
        folder = tmp_path / f"day{pack:d}"
        folder.mkdir()
        done = python(
            *("-c", COMMAND_LINE, json.dumps(COMMANDS)),
            pack=pack,
            cwd=folder,
            MLFLOW_TRACKING_URI="sqlite:///mlflow.db",
        )
        assert done.returncode == 0, done.stderr
        answer: dict[str, Any] = neutral_json(json.loads(done.stdout.splitlines()[-1]))
        return answer

    with ThreadPoolExecutor(2) as pool:
        stock, with_pack = pool.map(answers, (False, True))
    assert [stock[name][0] for name in COMMANDS] == [0, 1, 2, 2], stock
    assert with_pack == stock
