"""Find misspellings, and words that a reader of this project has to guess at.

Runs codespell and the project's own list below over every tracked text file. Prints one line per
finding, ``file:line: found -> better``, and exits with status 1 if there is one. The list follows
from the rules in CONTRIBUTING.md ("Words"): the field's terms, no metaphors, plain sentences.

    python scripts/check_words.py [PATH ...]
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent

TEXTS = (".py", ".md", ".cfg", ".toml", ".sh", ".yaml", ".yml", ".ini", ".mako", ".html", ".conf")

# Words in identifiers count as well: `_` and a capital letter end a word, a small one does not.
METAPHORS = {
    "door": "hook, entry point, way in (a term that names the mechanism)",
    "doors": "hooks, entry points (a term that names the mechanism)",
    "gate": "Enforcer, enforcement",
    "gates": "Enforcer, enforcement",
    "gated": "protected, governed",
    "desk": "CommandRunner, commands",
    "keeper": "worker",
    "scene": "target snapshot",
    "vouched": "claimed",
    "readings": "digest jobs",
    "house": "project",
    "eyes": "snapshot reader",
    "stray": "drift finding",
    "strays": "drift findings",
}

# What reads as translated; `is None`, with its capital letter, is Python and stays.
PHRASES = {
    r"anew": "again",
    r"somebody": "someone, or better the role: a user, a client, an approver",
    r"anybody": "anyone",
    r"nobody": "no one, or turn the sentence round",
    r"whoever": "the user who",
    r"by the way": "incidentally, or leave it out",
    r"to be had": "available",
    r"(?<![Tt]here )(is|are|was|were) no(?! longer\b)": "is not a, has no, does not exist",
    r"(?<![Tt]here )(is|are|was|were) none": "does not exist, has none",
    r"(is|are|was|were) nothing": "does not exist, has nothing",
    r"lies": "is, is stored",
    r"lying": "is, is stored",
    r"beside": "next to, in addition to",
    r"nought": "zero",
    r"thereof": "split the sentence",
    r"whereof": "split the sentence",
    r"thereby": "split the sentence",
}

# How a docstring must not begin: the first word is an imperative verb with an object, or a noun.
OPENINGS = {
    r'"""(Tell|Say|Give)\b': "Return, Raise",
    r'"""(Whose|Who|How|Where|Nothing|Nobody)\b': "an imperative verb, or a noun phrase",
}


def _patterns() -> list[tuple[re.Pattern[str], str]]:
    words = [
        (rf"(?<![A-Za-z]){word}(?![a-z])|(?<![A-Z]){word.capitalize()}(?![a-z])", better)
        for word, better in METAPHORS.items()
    ]
    # "Break-glass" is the field's word for an emergency override; glass alone is not.
    words.append((r"(?<!reak[-_ ])(?<!Break)(?<!break)[Gg]lass(?![a-z])", "break-glass"))
    words.append((r"(?<!BREAK[-_])GLASS", "BREAK_GLASS"))
    for phrase, better in PHRASES.items():
        either = f"[{phrase[0]}{phrase[0].upper()}]{phrase[1:]}" if phrase[0].isalpha() else phrase
        words.append((rf"\b({either})\b", better))
    words += list(OPENINGS.items())
    return [(re.compile(pattern), better) for pattern, better in words]


def _files(arguments: list[str]) -> list[str]:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", *arguments],
        cwd=CHECKOUT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    own = Path(__file__).resolve()
    return [
        name
        for name in listed
        if name
        and (name.endswith(TEXTS) or name.startswith(".ci/"))
        and (CHECKOUT / name).is_file()
        and (CHECKOUT / name).resolve() != own
    ]


def _own_list(files: list[str]) -> list[str]:
    patterns = _patterns()
    findings = []
    for name in files:
        text = (CHECKOUT / name).read_text(encoding="utf-8", errors="replace")
        for number, line in enumerate(text.splitlines(), start=1):
            for pattern, better in patterns:
                if found := pattern.search(line):
                    findings.append(f"{name}:{number}: {found.group()} -> {better}")
    return findings


def _misspellings(files: list[str]) -> list[str]:
    spelled = subprocess.run(
        [sys.executable, "-m", "codespell_lib", *files],
        cwd=CHECKOUT,
        check=False,
        capture_output=True,
        text=True,
    )
    if spelled.returncode not in (0, 65):
        raise SystemExit(f"codespell failed: {spelled.stderr.strip()}")
    return [
        line.removeprefix("./").replace(" ==> ", " -> ") for line in spelled.stdout.splitlines()
    ]


def main(arguments: list[str]) -> int:
    """Print the findings; 1 if there are any."""
    files = _files(arguments)
    findings = _own_list(files) + (_misspellings(files) if files else [])
    for finding in sorted(findings):
        print(finding)
    print(f"{len(findings)} findings in {len(files)} files", file=sys.stderr)
    return 1 if findings else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
