"""Markdown as Dagster shows it, of texts that may hold anything: nothing in them is markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&:])")
_TICKS = re.compile(r"`+")


def inline(text: str) -> str:
    """A text within a line."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def code(text: str, language: str = "") -> str:
    """A block that shows ``text`` as it is."""
    longest = max((len(ticks) for ticks in _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts."""
    lines = [headings, ["---"] * len(headings), *([inline(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def shortened(text: str, characters: int) -> str:
    """At most so many characters of ``text``; says how many it leaves out."""
    left = len(text) - characters
    return text if left <= 0 else f"{text[:characters]} … and {left:,} characters more"
