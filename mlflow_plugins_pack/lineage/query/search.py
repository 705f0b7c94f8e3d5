"""Finds runs on a server by what they read and wrote.

Each question is a search that the server filters: by dataset digest, or by a piece of a tag. No
run is fetched that does not match, so a server with ten thousand runs answers as one with ten.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import Any

from mlflow_plugins_pack.lineage.document import stored
from mlflow_plugins_pack.lineage.document.graph import (
    INTERMEDIATE,
    Entry,
    Graph,
)
from mlflow_plugins_pack.lineage.document.tags import PREFIX

_PAGE = 1_000
_EXPERIMENTS = 500
_DOCUMENTS = 300
_THREADS = 6


class RunSearch:
    """Finds runs on one server.

    Args:
        tracking_uri: Where the runs are; the current tracking URI if None.
        registry_uri: Where the model versions are; the tracking URI if None.
    """

    # Long: walks in both directions share the clients, the limit and what was already read.

    def __init__(self, tracking_uri: str | None = None, registry_uri: str | None = None) -> None:
        from mlflow import MlflowClient

        self.client = MlflowClient(tracking_uri, registry_uri)

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

    def runs(self, filter_string: str) -> Iterator[Any]:
        """Return every run that a stock filter matches, page by page."""
        for start in range(0, len(self._experiments), _EXPERIMENTS):
            token = None
            while True:
                page = self.client.search_runs(
                    self._experiments[start : start + _EXPERIMENTS],
                    filter_string,
                    max_results=_PAGE,
                    page_token=token,
                )
                yield from page
                token = page.token
                if not token:
                    break

    # --- data -> runs -----------------------------------------------------------------------------

    def readers(self, *, digest: str | None, uri: str | None) -> list[tuple[Any, Entry]]:
        """Return the runs that read a content, or else a place, each with its entry."""
        return self._users("inputs", digest, uri)

    def writers(self, *, digest: str | None, uri: str | None) -> list[tuple[Any, Entry]]:
        """Return the runs that wrote a content, or else a place."""
        return self._users("outputs", digest, uri)

    def _users(self, tag: str, digest: str | None, uri: str | None) -> list[tuple[Any, Entry]]:
        def fits(entry: Entry) -> bool:
            if entry.role == INTERMEDIATE:
                return False
            if digest is not None:
                return bool(entry.digest and entry.digest.startswith(digest))
            return entry.uri == uri

        piece = digest if digest is not None else f'"u":"{uri}"'
        found: dict[str, tuple[Any, Entry]] = {}
        for run in self.runs(f"tags.`{PREFIX}{tag}` LIKE '%{like(piece)}%'"):
            entry = next((e for e in self._from_tags(run, tag) if fits(e)), None)
            if entry is not None:
                found[run.info.run_id] = (run, entry)
        for run, graph in self._rolled_up(tag, uri if digest is None else None, found):
            entries = getattr(graph, tag)
            entry = next((e for e in entries if fits(e)), None)
            if entry is None and uri is not None:
                # Of the files behind a folder's entry only the names are known.
                entry = graph.folder_of(uri, entries)
            if entry is not None:
                found[run.info.run_id] = (run, entry)
        return sorted(found.values(), key=lambda pair: pair[0].info.start_time or 0, reverse=True)

    def _from_tags(self, run: Any, tag: str) -> tuple[Entry, ...]:
        tags = {PREFIX + tag: run.data.tags.get(PREFIX + tag, "[]")}
        graph = stored.graph_from_tags({k.removeprefix(PREFIX): v for k, v in tags.items()})
        entries: tuple[Entry, ...] = getattr(graph, tag)
        return entries

    @cached_property
    def _runs_with_folders(self) -> list[Any]:
        return list(self.runs(f"tags.`{PREFIX}truncated` LIKE '%rolled_up%'"))

    def _rolled_up(
        self, tag: str, uri: str | None, known: dict[str, Any]
    ) -> Iterator[tuple[Any, Graph]]:
        """Return those runs in full whose tags name folders instead of files."""
        runs = []
        for run in self._runs_with_folders:
            folders = [e.uri for e in self._from_tags(run, tag) if e.files is not None]
            holds = any(uri is None or uri.startswith(folder) for folder in folders)
            if run.info.run_id not in known and holds:
                runs.append(run)
        chosen = runs[:_DOCUMENTS]
        graphs = self.each(lambda run: stored.read(self.client, run), chosen)
        for run, graph in zip(chosen, graphs, strict=True):
            if graph is not None:
                yield run, graph

    def each(self, work: Callable[[Any], Any], items: Iterable[Any]) -> list[Any]:
        """Return a function's results for all items, some requests at a time."""
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="lineage") as pool:
            return list(pool.map(work, items))


def like(text: str) -> str:
    """Return a text for a stock LIKE filter; a quote, which would end it, matches any character."""
    return text.replace("'", "_").replace("\\", "_")
