"""Random input that parsers misread: nested, huge, cut off, in odd letters and odd numbers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

NUMBERS = ("9" * 400, "-" + "9" * 400, "1e999", "-0.0", "NaN", "Infinity", "0x7f", "1_000", "٣", "")
LETTERS = (
    *("\0", "\n", "\r\n", "\t", "\x1b[2J", "\x1b]0;x\x07", "\x7f", "\x85", "\x9b31m", "\a"),
    *("\u202e", "\u200b", "\ufeff", "\ud800", "\udfff", "\uffff", "\U0010ffff", "🚀", "Ａ", "ſ"),
    *("İ", "ß", "é", "e\u0301", "\u0345" * 3, "不", "ł", "ﷺ", "\u3002", "\uff0f", "\u2028"),
    *("/", "\\", "..", "%2e%2e", "%", "%00", "?", "#", "*", "**", ":", ";", "'", '"', "`", "--"),
    *("{", "}", "[", "]", "<", ">", "&", "|", "=", ",", "@", "$(x)", "${x}", "{{x}}", " ", "x"),
)
TYPES = ("bool", "int", "float", "timestamp", "binary", "null", "set", "omap", "str")
DEPTHS = (10, 90, 400, 990, 1000, 5000)
LENGTHS = (0, 1, 250, 256, 300, 5000, 8001, 70_000)


@dataclass
class Odd:
    """A source of odd input.

    Attributes:
        chance: Its random numbers; with the same seed it gives the same input.
        largest: The longest text or byte string, roughly.
    """

    chance: random.Random
    largest: int = 1 << 20

    def pick(self, values: Sequence[Any]) -> Any:
        return self.chance.choice(values)

    def length(self) -> int:
        return min(self.pick((*LENGTHS, self.largest)), self.largest)

    def depth(self) -> int:
        return min(self.pick((*DEPTHS, self.largest // 8)), self.largest // 8)

    def text(self, *words: str) -> str:
        """Return a text; sometimes one of the words with something odd in it."""
        ways: tuple[Callable[[], str], ...] = (
            lambda: self.pick(NUMBERS),
            lambda: "".join(self.chance.choices(LETTERS, k=self.chance.randint(1, 12))),
            lambda: (self.pick(LETTERS) * self.length())[: self.largest],
            lambda: self.pick(("[", "{", '{"a":', "(", "<a>", "- ", "a.")) * self.depth(),
            lambda: self.in_a_word(*(words or ("prod",))),
            lambda: self.json(),
        )
        return self.pick(ways)()[: self.largest]

    def in_a_word(self, *words: str) -> str:
        """Return a word with something odd at some place in it."""
        word = self.pick(words)
        for _ in range(self.chance.randint(1, 3)):
            at = self.chance.randint(0, len(word))
            odd = self.pick((*LETTERS, *NUMBERS, "x" * self.length()))
            word = word[:at] + odd + word[at + self.chance.randint(0, 1) :]
        return word

    def value(self, depth: int = 3) -> Any:
        """Return what a JSON document may hold."""
        kind = self.chance.randint(0, 8 if depth else 5)
        if kind >= 7:
            return {self.pick(LETTERS): self.value(depth - 1) for _ in range(3)}
        if kind == 6:
            return [self.value(depth - 1) for _ in range(self.chance.randint(0, 4))]
        odd = "".join(self.chance.choices(LETTERS, k=3))
        return (None, True, -1, 10**400, float(self.pick(("nan", "inf", "1e308"))), odd)[kind]

    def json(self, valid: Any = None) -> str:
        """Return JSON, or what almost is; sometimes a valid document with an odd part."""
        ways: tuple[Callable[[], str], ...] = (
            lambda: "[" * self.depth(),
            lambda: "[" * (n := self.depth()) + "]" * n,
            lambda: '{"a":' * (n := self.depth()) + "1" + "}" * n,
            lambda: json.dumps(self.value()),
            lambda: json.dumps([0] * (self.length() // 3)),
            lambda: json.dumps({str(n): n for n in range(self.length() // 8)}),
            lambda: self.pick(NUMBERS),
            lambda: '"\\ud800"',
        )
        if valid is None or self.chance.random() < 0.3:
            return self.pick(ways)()
        if isinstance(valid, (dict, list)) and self.chance.random() < 0.7:
            return json.dumps(self._with_an_odd_part(valid))
        return self.cut(json.dumps(valid))

    def _with_an_odd_part(self, valid: Any) -> Any:
        if isinstance(valid, dict) and valid:
            key = self.pick(sorted(valid))
            if self.chance.random() < 0.2:
                return {name: part for name, part in valid.items() if name != key}
            return {**valid, key: self._with_an_odd_part(valid[key])}
        if isinstance(valid, list) and valid:
            at = self.chance.randrange(len(valid))
            return [*valid[:at], self._with_an_odd_part(valid[at]), *valid[at + 1 :]]
        return self.value()

    def yaml(self, valid: str) -> str:
        """Return YAML, or what almost is."""
        bomb = "a: &a [x, x]\n" + "".join(
            f"{chr(98 + n)}: &{chr(98 + n)} [*{chr(97 + n)}, *{chr(97 + n)}]\n" for n in range(20)
        )
        n = self.depth()
        ways: tuple[Callable[[], str], ...] = (
            lambda: f"a: {'[' * n}",
            lambda: f"a: {'[' * n}{']' * n}",
            lambda: "".join(f"{' ' * level}a:\n" for level in range(min(n, 1000))),
            lambda: "- " * n,
            lambda: bomb,
            lambda: "a: !!python/object/apply:os.system [x]\n",
            lambda: f"a: {self.pick(NUMBERS)}\n",
            lambda: f"{valid}a: !!{self.pick(TYPES)} {self.pick((*NUMBERS, 'x', '2026-01-01'))}\n",
            lambda: "".join(f"k{i}: {{a: [1, {{b: c}}]}}\n" for i in range(self.length() // 20)),
            lambda: f"? {self.json()}\n: x\n",
            lambda: valid.replace(self.pick(valid.split() or ["x"]), self.text(), 1),
            lambda: self.cut(valid),
            lambda: valid + self.text(),
        )
        return self.pick(ways)()[: self.largest]

    def cut(self, text: str) -> str:
        """Return a text with a part missing, doubled or replaced."""
        at, end = sorted(self.chance.randint(0, len(text)) for _ in range(2))
        return text[:at] + self.pick(("", text[at:end] * 2, self.pick(LETTERS))) + text[end:]

    def data(self, valid: bytes = b"") -> bytes:
        """Return bytes: random, damaged, cut off, or text in no encoding."""
        ways: tuple[Callable[[], bytes], ...] = (
            lambda: self.chance.randbytes(min(self.length(), 70_000)),
            lambda: self.text().encode("utf-8", "surrogatepass"),
            lambda: b"\0" * self.length(),
            lambda: valid[: self.chance.randint(0, len(valid))],
            lambda: valid + self.chance.randbytes(self.chance.randint(1, 40)),
            lambda: self.flipped(valid),
            lambda: self.flipped(self.flipped(valid)),
            lambda: valid * 3,
        )
        return self.pick(ways)()[: self.largest]

    def flipped(self, data: bytes) -> bytes:
        """Return bytes of which some few are replaced by extreme ones."""
        if not data:
            return data
        at = self.chance.randrange(len(data))
        odd = self.pick((b"\0", b"\xff", b"\x7f", b"\xff" * 8, self.chance.randbytes(4)))
        return data[:at] + odd + data[at + len(odd) :]
