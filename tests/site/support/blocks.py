"""The code blocks of a page, in the reader's order, with what the page's comments say about them.

Each block names its language. What is in a language of `RUN` is run, unless the block has a title:
then it is a file that the reader saves. A comment of its own line, which the site hides,
stands before the block it is about:

- ``<!-- docs: skip REASON -->``: the block cannot run in a test;
- ``<!-- docs: server -->``: the command goes on in another terminal, once it answers;
- ``<!-- docs: stop -->``: stands alone; the reader stops that server;
- ``<!-- docs: refused TEXT -->``: the block fails, and what it prints has the text;
- ``<!-- docs: file PATH -->``: stands alone; the site shows that file, the reader saves it;
- ``<!-- docs: as NAME -->``: stands alone; what follows is typed by that person.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

RUN = ("sh", "python")
"""Languages of blocks that a reader runs: commands, and Python that goes on from block to block."""

_LINE = re.compile(r"<!-- docs: (\w+) ?(.*?) -->")
_FENCE = re.compile(r"( *)```(\w*) *(.*)")


@dataclass
class Block:
    """A code block, or a comment that stands alone.

    Attributes:
        kind: The language of the block, or ``stop``, ``as`` or ``file``.
        text: What is in it, without indentation; for ``as`` and ``file``, the name.
        line: Line of the page, from 1.
        title: The file that the block shows, if it has a title.
        notes: What comments say of it: ``skip``, ``server``, ``refused``, each with its text.
    """

    kind: str
    text: str
    line: int
    title: str = ""
    notes: dict[str, str] = field(default_factory=dict)

    @property
    def is_run(self) -> bool:
        """Whether a reader runs the block, and a test can."""
        return self.kind in RUN and not self.title and "skip" not in self.notes


def blocks_of(page: str) -> Iterator[Block]:
    """Yield the blocks of a page's text."""
    notes: dict[str, str] = {}
    lines = iter(enumerate(page.splitlines(), 1))
    for number, line in lines:
        if found := _LINE.fullmatch(line.strip()):
            kind, text = found.groups()
            if kind in ("stop", "as", "file"):
                yield Block(kind, text, number)
            else:
                notes[kind] = text
        elif found := _FENCE.fullmatch(line):
            indent, kind, info = found.groups()
            title = re.search(r'title="([^"]+)"', info)
            body = []
            for _, inner in lines:
                if inner.strip() == "```":
                    break
                body.append(inner.removeprefix(indent))
            text = "\n".join(body) + "\n"
            yield Block(kind, text, number, title[1] if title else "", notes)
            notes = {}
