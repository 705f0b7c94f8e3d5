"""Finds runs on a server by what they read and wrote.

The record's datasets are the index: one search with a list of digests finds the runs that read or
wrote any of them, and no other run is fetched. Only three questions read a tag of every run: about
a folder, about a configuration file, and about the start of a digest that no dataset has.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mlflow_plugins_pack.lineage.document import stored
from mlflow_plugins_pack.lineage.document.datasets import DIGEST_CHARACTERS, dataset_name
from mlflow_plugins_pack.lineage.document.graph import CONFIG, INTERMEDIATE, Entry, Graph, role_of
from mlflow_plugins_pack.lineage.document.tags import PREFIX
from mlflow_plugins_pack.lineage.query.targets import Place

_PAGE = 1_000
_EXPERIMENTS = 500
_DOCUMENTS = 300
_THREADS = 6
_DIGESTS_A_SEARCH = 100
_HEXADECIMAL = re.compile(rf"[0-9a-f]{{{DIGEST_CHARACTERS}}}")
_LOGGED = f"tags.`{PREFIX}datasets` LIKE '%'"
"""Matches runs to which a person logged datasets that stand for inputs."""
RUNS = 1_000
"""Most runs of an answer; the newest are kept."""


@dataclass(frozen=True)
class Match:
    """A run that read or wrote what was asked about.

    Attributes:
        run: The run, as MLflow gives it.
        entry: What of it is the content or place that was asked about.
        differs: Whether the file that was asked about has another content by now.
    """

    run: Any
    entry: Entry
    differs: bool = False


class RunSearch:
    """Finds runs on one server.

    Args:
        client: An `MlflowClient` of the server.
        limit: Most runs of an answer; the newest are kept.

    Attributes:
        client: The client.
        notes: What the searches left out, in sentences.
    """

    def __init__(self, client: Any, limit: int = RUNS) -> None:
        self.client = client
        self._limit = limit
        self._records: dict[str, Graph | None] = {}
        self.notes: dict[str, None] = {}

    # --- runs -------------------------------------------------------------------------------------

    @cached_property
    def _experiments(self) -> list[str]:
        found: list[str] = []
        token = None
        while True:
            page = self.client.search_experiments(max_results=_PAGE, page_token=token)
            found += [experiment.experiment_id for experiment in page]
            token = page.token
            if not token:
                return found

    def runs(self, filter_string: str, limit: int | None = None) -> Iterator[Any]:
        """Return the newest runs that a stock filter matches, page by page.

        Args:
            filter_string: As `mlflow.search_runs` takes it.
            limit: Runs after which the search ends; one more shows that there are. None: that of
                an answer.
        """
        most = self._limit if limit is None else limit
        found = 0
        for start in range(0, len(self._experiments), _EXPERIMENTS):
            token = None
            while True:
                page = self.client.search_runs(
                    self._experiments[start : start + _EXPERIMENTS],
                    filter_string,
                    max_results=min(_PAGE, most + 1),
                    page_token=token,
                )
                yield from page
                found += len(page)
                token = page.token
                if limit is None and found > most:
                    self.notes[f"More than {most:,} runs match; the newest are looked at."] = None
                if not token or found > most:
                    break

    def with_ids(self, run_ids: Iterable[str]) -> dict[str, Any]:
        """Return runs by their ids; those that do not exist, or were deleted, are left out."""
        return {run.info.run_id: run for run in self._in("attributes.run_id", run_ids)}

    def with_digests(self, digests: Iterable[str]) -> list[Any]:
        """Return the runs that have a dataset with one of some digests, the newest first.

        Where the person logged a dataset for an input, with a digest of its own, the tag counts.
        """
        listed = list(digests)
        found = self._in("dataset.digest", listed)
        if self._has_logged_datasets:
            whole = [d for d in listed if _HEXADECIMAL.fullmatch(d)]
            filters = [f"{_LOGGED} AND tags.`{PREFIX}inputs` LIKE '%:{d}%'" for d in whole]
            for runs in self.each(lambda text: list(self.runs(text)), filters):
                found += runs
        return _newest_first({run.info.run_id: run for run in found}.values())

    @cached_property
    def _has_logged_datasets(self) -> bool:
        return any(True for _ in self.runs(_LOGGED, limit=1))

    def _in(self, attribute: str, values: Iterable[str]) -> list[Any]:
        listed = sorted(set(values))
        filters = [
            "{} IN ({})".format(
                attribute, ",".join(f"'{v}'" for v in listed[start : start + _DIGESTS_A_SEARCH])
            )
            for start in range(0, len(listed), _DIGESTS_A_SEARCH)
        ]
        found = self.each(lambda text: list(self.runs(text)), filters)
        return _newest_first({run.info.run_id: run for runs in found for run in runs}.values())

    def each(self, work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Return a function's results for all items, some requests at a time."""
        listed = list(items)
        if len(listed) < 2:
            return list(map(work, listed))
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="lineage") as pool:
            return list(pool.map(work, listed))

    def record(self, run: Any) -> Graph | None:
        """Return all that a run's record lists; None if it has none. Each is read once."""
        run_id = run.info.run_id
        if run_id not in self._records:
            self._records[run_id] = stored.listed(self.client, run)
        return self._records[run_id]

    def document(self, run: Any) -> Graph | None:
        """Return a run's record with what only its artifact has: the code and the packages."""
        return stored.read(self.client, run)

    # --- data -> runs -----------------------------------------------------------------------------

    def readers(self, place: Place) -> list[Match]:
        """Return the runs that read a content, or that read anything from the same place."""
        return self._users("inputs", place, "")

    def writers(self, place: Place) -> list[Match]:
        """Return the runs that wrote a content, or anything to the same place."""
        return self._users("outputs", place, "w")

    def _users(self, tag: str, place: Place, mark: str) -> list[Match]:
        candidates: dict[str, Any] = {}
        filters = list(_filters(tag, place, mark))
        if tag == "inputs":
            pieces = [place.digest] if place.digest else []
            pieces += [f'"u":"{uri}' for uri in place.uris]
            filters += [f"{_LOGGED} AND tags.`{PREFIX}{tag}` LIKE '%{like(p)}%'" for p in pieces]
        for runs in self.each(lambda text: list(self.runs(text)), filters):
            candidates.update((run.info.run_id, run) for run in runs)
        matches = self._matches(tag, place, candidates.values())
        matches += self._in_folders(tag, place, candidates)
        if not matches and not place.uris and place.digest:
            # A configuration file is not among the datasets.
            scan = f"tags.`{PREFIX}{tag}` LIKE '%{like(place.digest)}%'"
            matches = self._matches(tag, place, self.runs(scan))
        return sorted(matches, key=lambda match: match.run.info.start_time or 0, reverse=True)

    def _matches(self, tag: str, place: Place, runs: Iterable[Any]) -> list[Match]:
        found = []
        for run in runs:
            record = self.record(run)
            for entry in getattr(record, tag, ()):
                if entry.role != INTERMEDIATE and _fits(entry, place):
                    found.append(Match(run, entry, _differs(entry, place)))
                    if not place.is_folder:
                        break
        return found

    @cached_property
    def _shortened(self) -> list[Any]:
        return list(self.runs(f"tags.`{PREFIX}truncated` LIKE '%'", _DOCUMENTS))[:_DOCUMENTS]

    def _in_folders(self, tag: str, place: Place, known: dict[str, Any]) -> list[Match]:
        """Return those of the runs whose tags name folders instead of files."""
        runs = [
            run
            for run in self._shortened
            if run.info.run_id not in known
            and (place.digest or self._has_folder_of(run, tag, place))
        ]
        found = []
        for run, record in zip(runs, self.each(self.record, runs), strict=True):
            if record is None:
                continue
            matches = self._matches(tag, place, [run])
            # Of the files behind a folder's entry only the names are known.
            folders = (record.folder_of(uri, getattr(record, tag)) for uri in place.uris)
            found += matches or [Match(run, entry) for entry in folders if entry is not None]
        return found

    def _has_folder_of(self, run: Any, tag: str, place: Place) -> bool:
        folders = [e.uri for e in getattr(stored.from_run(run), tag) if e.files is not None]
        return any(
            uri.startswith(folder) or (place.is_folder and folder.startswith(uri))
            for uri in place.uris
            for folder in folders
        )


def _filters(tag: str, place: Place, mark: str) -> Iterator[str]:
    """Return the searches whose answers together have every run that may fit."""
    if place.digest and not place.is_exact:
        digits = f"{mark}{place.digest.removeprefix('sha256:')}"[:DIGEST_CHARACTERS]
        is_whole = len(digits) == DIGEST_CHARACTERS
        yield f"dataset.digest {'=' if is_whole else 'LIKE'} '{digits}{'' if is_whole else '%'}'"
    for uri in place.uris:
        piece = f'tags.`{PREFIX}{tag}` LIKE \'%"u":"{like(uri)}%\''
        if place.is_folder or (role_of(uri) == CONFIG and tag == "inputs"):
            yield piece
        else:
            # The dataset's name leaves few runs whose tag must be read.
            name = dataset_name(uri)
            operator = "=" if like(name) == name else "LIKE"
            yield f"dataset.name {operator} '{like(name)}' AND {piece}"


def _fits(entry: Entry, place: Place) -> bool:
    if place.is_folder:
        return any(entry.uri.startswith(uri) for uri in place.uris)
    has_content = bool(place.digest and entry.digest and entry.digest.startswith(place.digest))
    if place.is_exact:
        return has_content and entry.uri in place.uris
    return has_content or entry.uri in place.uris


def _differs(entry: Entry, place: Place) -> bool:
    """Return whether the file that is asked about has another content now than this entry."""
    if not place.is_local or not place.exists or not place.digest or not entry.digest:
        return False
    return entry.uri in place.uris and entry.digest != place.digest


def _newest_first(runs: Iterable[Any]) -> list[Any]:
    return sorted(runs, key=lambda run: run.info.start_time or 0, reverse=True)


def like(text: str) -> str:
    """Return a text for a stock LIKE filter; a quote, which would end it, matches any character."""
    return text.replace("'", "_").replace("\\", "_")
