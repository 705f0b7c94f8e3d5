"""What the README and the docs say is what the code has."""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest

import mlflow_plugins_pack
from mlflow_plugins_pack import settings
from mlflow_plugins_pack.cli.main import cli

ROOT = Path(__file__).parents[2]
PACKAGE = Path(mlflow_plugins_pack.__file__).parent
DOCUMENTS = sorted(
    path
    for folder in (ROOT, ROOT / "docs", ROOT / "examples", ROOT / "benchmarks")
    for path in folder.glob("*.md" if folder == ROOT else "**/*.md")
)
PAGES = pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: str(page.relative_to(ROOT)))


def _script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reference_is_what_the_code_says() -> None:
    pages = _script("make_reference").pages()
    folder = ROOT / "docs" / "reference"
    made = {
        path.name
        for path in folder.iterdir()
        if path.suffix == ".json" or "<!-- Written by scripts/make_reference.py" in path.read_text()
    }
    assert made == set(pages)
    outdated = [name for name, text in pages.items() if (folder / name).read_text() != text]
    assert not outdated, "run: scripts/docs"


def _commands(group: click.Group, words: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    context = click.Context(group)
    found: list[tuple[str, ...]] = []
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        found.append((*words, name))
        if isinstance(command, click.Group):
            found += _commands(command, (*words, name))
    return found


@pytest.mark.parametrize("words", _commands(cli), ids=" ".join)
def test_each_command_explains_itself(words: tuple[str, ...]) -> None:
    command: click.Command = cli
    for word in words:
        assert isinstance(command, click.Group)
        found = command.get_command(click.Context(command), word)
        assert found is not None
        command = found
    assert command.help
    undescribed = [
        option.name
        for option in command.params
        if isinstance(option, click.Option) and not option.help
    ]
    assert not undescribed


def _typed_commands(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each ``mlflow-pack`` command in code: a block's line, or a span of a sentence."""
    text = text.replace("\\\n", " ")
    blocks = re.findall(r"^```[^\n]*\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    spans = re.findall(
        r"`([^`]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    )
    lines = [line for block in blocks for line in block.splitlines()]
    for code in [*lines, *(" ".join(span.split()) for span in spans)]:
        if found := re.search(r"(?:^|[ /])mlflow-pack ([a-z].*)", code):
            words = (
                re.split(r" +#| && | \| | > |;", found[1])[0].replace("[", " ").replace("]", " ")
            )
            yield code, words.split()


@PAGES
def test_typed_commands_and_their_options_exist(page: Path) -> None:
    for code, words in _typed_commands(page.read_text()):
        command: click.Command = cli
        while words and isinstance(command, click.Group):
            found = command.get_command(click.Context(command), words[0])
            if found is None:
                break
            command, words = found, words[1:]
        assert command is not cli, code
        if isinstance(command, click.Group):
            assert not words or not re.fullmatch(r"[a-z-]+", words[0]), code
            continue
        known = {name for option in command.params for name in option.opts}
        known |= {"--help", "-h"}
        for word in words[: words.index("--")] if "--" in words else words:
            if word.startswith("--") or re.fullmatch(r"-[a-z]", word):
                assert word.partition("=")[0] in known, code


@PAGES
def test_named_settings_exist(page: Path) -> None:
    named = set(re.findall(r"MLFLOW_PACK_[A-Z_]+[A-Z]\b(?!_)", page.read_text()))
    known = {setting.name for setting in settings.all_settings()}
    assert named - known <= {"MLFLOW_PACK_REQUIRE"}


@PAGES
def test_named_modules_exist(page: Path) -> None:
    """Names such as `artifacts/store/store.py` or `lineage/capture/` are of the package."""
    tops = "|".join(path.name for path in PACKAGE.iterdir() if path.is_dir())
    named = re.findall(
        rf"`(?:mlflow_plugins_pack/)?((?:{tops})/(?:[\w/]*/|[\w/]+\.py)?)`", page.read_text()
    )
    missing = [name for name in named if not (PACKAGE / name).exists()]
    assert not missing


@PAGES
def test_named_tests_exist(page: Path) -> None:
    named = re.findall(r"\b((?:tests|scripts)/[\w/]+\.py)", page.read_text())
    assert not [name for name in named if not (ROOT / name).exists()]


def _anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@PAGES
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in _anchors(target), link


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text().split()) <= 1000


def test_each_document_is_linked_from_the_readme_or_a_page_it_links() -> None:
    reached = {ROOT / "README.md"}
    waiting = [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        for link in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            target = (page.parent / link).resolve()
            if target.is_dir():
                target /= "README.md"
            if target.suffix == ".md" and target.exists() and target not in reached:
                reached.add(target)
                waiting.append(target)
    assert not set(DOCUMENTS) - reached


# Of MLflow's Python API as documented; what plugins may rely on.
_PUBLISHED = {
    "mlflow",
    "mlflow.artifacts",
    "mlflow.data",
    "mlflow.entities",
    "mlflow.exceptions",
    "mlflow.models",
    "mlflow.protos.databricks_pb2",
    "mlflow.tracking",
}


def _uses_unpublished(source: str) -> bool:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
            private = any(alias.name.startswith("_") for alias in node.names)
        elif isinstance(node, ast.Import):
            names, private = [alias.name for alias in node.names], False
        else:
            continue
        for name in names:
            if name.split(".")[0] == "mlflow" and (private or name not in _PUBLISHED):
                return True
    return False


def test_each_use_of_unpublished_mlflow_is_on_the_compatibility_page() -> None:
    page = ROOT / "docs" / "reference" / "compatibility.md"
    table = page.read_text().partition("does not publish")[2]
    listed = re.findall(r"`([\w/]+(?:/|\.py))`", table)
    using = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if _uses_unpublished(path.read_text())
    ]
    assert len(using) > 10
    unlisted = [name for name in using if not any(name.startswith(row) for row in listed)]
    assert not unlisted


@pytest.mark.parametrize(
    ("module", "constant", "shown"),
    [
        ("artifacts.format.object_keys", "MAX_NAME_BYTES", "{} bytes"),
        ("artifacts.format.manifest", "MAX_SEGMENT_BYTES", "MiB"),
        ("artifacts.format.index_delta", "MAX_DELTA_BYTES", "MiB"),
        ("artifacts.format.pack", "MAX_CHUNK_BYTES", "MiB"),
        ("artifacts.format.pack", "MAX_RECORDS", "{:,} records"),
        ("artifacts.format.condemned_list", "_MAX_LIST_BYTES", "MiB"),
        ("artifacts.format.format_file", "_MAX_FORMAT_BYTES", "KiB"),
        ("artifacts.store.keyring", "_MAX_KEY_TEXT", "{:,} characters"),
        ("auth.profiles.file", "_LARGEST_BYTES", "KiB"),
        ("auth.sources.file", "_LARGEST_BYTES", "KiB"),
        ("auth.sources.command", "_LARGEST_BYTES", "KiB"),
        ("auth.oidc.transport", "_LARGEST_BYTES", "MiB"),
        ("auth.token_store.stores", "_LARGEST_BYTES", "KiB"),
        ("lineage.capture.child_spool", "_BYTES_LIMIT", "MiB"),
        ("lineage.fingerprints.dvc", "_YAML_BYTES", "MiB"),
        ("lineage.fingerprints.dvc", "_LISTING_BYTES", "MiB"),
        ("approvals.policy.parse", "MAX_POLICY_BYTES", "{:,} bytes"),
        ("lineage.capture.libraries.sql_statements", "_LONGEST", "{:,} characters"),
        ("identity.keys", "_LARGEST_BYTES", "MiB"),
    ],
)
def test_bounds_are_those_of_the_code(module: str, constant: str, shown: str) -> None:
    value = getattr(importlib.import_module(f"mlflow_plugins_pack.{module}"), constant)
    if shown in ("KiB", "MiB"):
        shown = f"{value // (1024 if shown == 'KiB' else 1024 * 1024)} {shown}"
    page = (ROOT / "docs" / "explanation" / "input-bounds.md").read_text()
    row = next(line for line in page.splitlines() if f"`{module.replace('.', '/')}.py`" in line)
    assert shown.format(value) in row


@pytest.mark.parametrize("plugin", ["artifacts", "lineage", "auth", "approvals"])
def test_each_room_is_in_the_architecture(plugin: str) -> None:
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text()
    rooms = [
        f"{path.name}/" if path.is_dir() else path.name
        for path in (PACKAGE / plugin).iterdir()
        if not path.name.startswith("__")
    ]
    assert not [room for room in rooms if f"| `{plugin}/{room}`" not in page.replace(", `", "| `")]
