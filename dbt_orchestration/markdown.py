"""Markdown as Dagster shows it, of texts that may hold anything: nothing in them is markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_MARKUP = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&:])")
_TICKS = re.compile(r"`+")


class Link(str):
    """A link, in Markdown."""

    __slots__ = ()


def link(label: str, address: str) -> Link:
    """A link, also within a table.

    Args:
        label: in Markdown.
    """
    return Link(f"[{label}](<{address.replace('>', '%3E').replace('|', '%7C')}>)")


def inline(text: str) -> str:
    """A text within a line."""
    return _MARKUP.sub(r"\\\1", " ".join(text.split()))


def code(text: str, language: str = "") -> str:
    """A block that shows ``text`` as it is."""
    longest = max((len(ticks) for ticks in _TICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of plain texts, and of links."""
    cells = [[c if isinstance(c, Link) else inline(c) for c in row] for row in rows]
    lines = [headings, ["---"] * len(headings), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def shortened(text: str, characters: int) -> str:
    """At most so many characters of ``text``; says how many it leaves out."""
    left = len(text) - characters
    return text if left <= 0 else f"{text[:characters]} … and {left:,} characters more"
