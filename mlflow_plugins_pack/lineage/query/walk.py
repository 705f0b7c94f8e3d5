"""Walks from runs to what they were made from and to what came of them, step by step."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

from mlflow_plugins_pack.lineage.document import network
from mlflow_plugins_pack.lineage.document.datasets import name_digest, read_digest, written_digest
from mlflow_plugins_pack.lineage.document.graph import INTERMEDIATE, Entry, Graph
from mlflow_plugins_pack.lineage.document.network import Network, Node
from mlflow_plugins_pack.lineage.query.nodes import add_data, add_run, data_key, prompts_of
from mlflow_plugins_pack.lineage.query.registry import Registry
from mlflow_plugins_pack.lineage.query.search import RunSearch

NODES = 2_000
"""Most nodes of an answer."""
_FILES = 1_000
"""Most files of one step that are searched for; an answer with more says so."""
_EMPTY = "sha256:e3b0c44298fc1c14"
"""The start of the digest of nothing: empty files are not copies of one another."""


class Walk:
    """Answers from one server.

    Args:
        search: Finds runs there.
        registry: Finds models and versions there.
        limit: Most nodes of an answer.
        looks_further: Whether the last step finds out if there is another one, by a search.
    """

    def __init__(
        self,
        search: RunSearch,
        registry: Registry,
        limit: int = NODES,
        *,
        looks_further: bool = True,
    ) -> None:
        self._search = search
        self._registry = registry
        self._limit = limit
        self._looks_further = looks_further

    def downstream(self, runs: Iterable[Any], answer: Network, depth: int) -> None:
        """Add what came of runs, and of what they wrote, so many runs far."""
        self._steps(runs, answer, depth, self._followers, "downstream")

    def upstream(self, runs: Iterable[Any], answer: Network, depth: int) -> None:
        """Add what runs were made from, so many runs back.

        Nothing that happened later than a run is among what it was made from.
        """
        self._steps(runs, answer, depth, self._makers, "upstream")

    def _steps(
        self, runs: Iterable[Any], answer: Network, depth: int, step: Any, direction: str
    ) -> None:
        waiting = list(runs)
        seen: set[str] = set()
        for number in range(depth):
            level = {r.info.run_id: r for r in waiting if r.info.run_id not in seen}
            if not level:
                return
            if len(answer.nodes) >= self._limit:
                answer.note(f"The answer was cut at {self._limit} nodes.")
                return
            seen |= level.keys()
            for run in level.values():
                add_run(run, self._search.record(run), answer)
            is_end = number == depth - 1 and not self._looks_further
            waiting = step(level, answer, is_end=is_end)
            if is_end:
                answer.note(f"What is further {direction} was not looked for.")
        if any(run.info.run_id not in seen for run in waiting):
            answer.note(f"There is more {direction} than was asked for; --depth follows more runs.")

    # --- towards models ---------------------------------------------------------------------------

    def _followers(self, level: dict[str, Any], answer: Network, *, is_end: bool) -> list[Any]:
        written: dict[str, list[tuple[str, Entry]]] = defaultdict(list)
        for run_id, run in level.items():
            for entry in self._record(run).outputs:
                answer.join(run_id, add_data(entry, answer), network.WROTE)
                written[read_digest(entry)].append((run_id, entry))
        versions = self._registry.versions_of(level.values())
        names = {run_id: run_id for run_id in level}
        for run_id, run in level.items():
            for key in self._registry.add_models(run, versions.get(run_id, ()), answer):
                names[key] = run_id
        digests = [*self._bounded(written, answer), *map(name_digest, names)]
        found = []
        for reader in level.values() if is_end else self._search.with_digests(digests):
            reader_id = reader.info.run_id
            record = self._record(reader)
            edges = [
                (data_key(output), network.READ)
                for entry in _read(record)
                for run_id, output in written.get(read_digest(entry), ())
                if run_id != reader_id and could_feed(level[run_id], output, reader, entry)
            ]
            edges += [
                (name, network.FED)
                for name in (*record.upstream_runs, *record.upstream_models)
                if names.get(name, reader_id) != reader_id
            ]
            for source, kind in edges:
                answer.join(source, reader_id, kind)
            if edges:
                found.append(reader)
        return found

    # --- towards origins --------------------------------------------------------------------------

    def _makers(self, level: dict[str, Any], answer: Network, *, is_end: bool) -> list[Any]:
        wanted: dict[str, list[tuple[Any, Entry]]] = defaultdict(list)
        for run_id, run in level.items():
            for entry in _read(self._record(run)):
                answer.join(add_data(entry, answer), run_id, network.READ)
                wanted[written_digest(entry)].append((run, entry))
        candidates: dict[tuple[str, str], list[tuple[Any, Entry]]] = defaultdict(list)
        read = {}
        digests = self._bounded(wanted, answer)
        for maker in level.values() if is_end else self._search.with_digests(digests):
            for output in self._record(maker).outputs:
                for run, entry in wanted.get(written_digest(output), ()):
                    is_other = maker.info.run_id != run.info.run_id
                    if is_other and could_feed(maker, output, run, entry):
                        key = (run.info.run_id, data_key(entry))
                        candidates[key].append((maker, output))
                        read[key] = entry
        found = []
        for key, makers in candidates.items():
            for maker, _ in origins(read[key], makers):
                answer.join(maker.info.run_id, key[1], network.WROTE)
                found.append(maker)
        return found + self._named_makers(level, answer, is_end=is_end)

    def _named_makers(self, level: dict[str, Any], answer: Network, *, is_end: bool) -> list[Any]:
        """Return the runs that the records of others name, or whose models these fetched."""
        fed: dict[str, list[str]] = defaultdict(list)
        for run_id, run in level.items():
            record = self._record(run)
            for other in record.upstream_runs:
                fed[other].append(run_id)
            for name in record.upstream_models:
                maker, key = self._registry.add_named_model(name, answer)
                answer.join(key, run_id, network.FED)
                if maker:
                    fed.setdefault(maker, [])
            for name in prompts_of(run):
                answer.add(Node(name, network.PROMPT, name.removeprefix("prompts:/")))
                answer.join(name, run_id, network.READ)
        makers = {} if is_end else self._search.with_ids(fed)
        for other, readers in fed.items():
            for run_id in readers:
                answer.join(other, run_id, network.FED)
            if other not in makers and not is_end:
                answer.note(f"Run {other} does not exist any more, or was deleted.")
                answer.add(Node(other, network.RUN, other, lacks=("the run was deleted",)))
        return list(makers.values())

    def _record(self, run: Any) -> Graph:
        return self._search.record(run) or Graph()

    def _bounded(self, digests: dict[str, Any], answer: Network) -> list[str]:
        if len(digests) > _FILES:
            answer.note(f"Of {len(digests)} files of one step, {_FILES} were searched for.")
        return list(digests)[:_FILES]


def _read(record: Graph) -> Iterator[Entry]:
    return (entry for entry in record.inputs if entry.role != INTERMEDIATE)


def could_feed(maker: Any, output: Entry, reader: Any, entry: Entry) -> bool:
    """Return whether what one run wrote can be what another one read, by the times of both.

    Args:
        maker: The run that wrote.
        output: What it wrote.
        reader: The run that read.
        entry: What it read, which has the content of `output`.
    """
    is_same_place = output.uri == entry.uri
    if not is_same_place and (output.size == 0 or (output.digest or "").startswith(_EMPTY)):
        return False
    ended = reader.info.end_time or time.time() * 1000
    if (maker.info.start_time or 0) > ended:
        return False
    if output.modified is not None and output.modified * 1000 > ended:
        return False
    if not is_same_place or output.modified is None or entry.modified is None:
        return True
    return output.modified <= entry.modified


def origins(entry: Entry, makers: Iterable[tuple[Any, Entry]]) -> list[tuple[Any, Entry]]:
    """Return those of the runs that wrote a content which it came from.

    A place holds what was written there last. Only if none wrote to the place that was read,
    because the file was copied or downloaded, every place where the content was counts. What has no
    digest and no version, as a table, is made of all that was ever written to it.
    """
    places: dict[str, list[tuple[Any, Entry]]] = defaultdict(list)
    for maker, output in makers:
        places[output.uri].append((maker, output))
    chosen = {entry.uri: places[entry.uri]} if entry.uri in places else places
    if not entry.digest and not entry.version:
        return [pair for pairs in chosen.values() for pair in pairs]
    return [max(pairs, key=_written_at) for pairs in chosen.values()]


def _written_at(pair: tuple[Any, Entry]) -> tuple[int, int]:
    run, output = pair
    return (output.modified or 0, run.info.start_time or 0)
