"""Text of which parts are not known, and the statements it may be made of.

A gap is what Jinja puts there and nobody knows. It is taken for a value or a name in the statement
it stands in, never for the end of one; a statement that begins with a gap is unknown.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from dbt_orchestration.changes.effects.kinds import (
    GAP,
    MOST_TOKENS,
    THIS,
    Statement,
    classified,
    is_writing,
)

__all__ = ["GAP", "THIS", "Again", "Either", "Statement", "Text", "Unclear", "pieces", "statements"]

_MOST_STATES = 400
_TOKEN = re.compile(
    r"(?P<space>\s+)|(?P<quote>--|/\*|'|\"|`|\$\w*\$)|(?P<word>(?:[\w\0\1@#%]|\$(?!\w*\$))+)"
    r"|(?P<unclear>//)|(?P<mark>.)",
    re.DOTALL,
)
_ENDS = {"--": "\n", "/*": "*/"}


class Unclear(Exception):  # noqa: N818 - an answer, not a failure
    """It cannot be told what is sent."""


@dataclass(frozen=True, slots=True)
class Either:
    """One of several texts."""

    texts: tuple[Text, ...]


@dataclass(frozen=True, slots=True)
class Again:
    """A text any number of times."""

    text: Text


# A tuple is one text after the other.
Text = str | tuple["Text", ...] | Either | Again


def pieces(text: Text) -> list[str]:
    """All strings in ``text``."""
    found: list[str] = []
    waiting = [text]
    while waiting:
        part = waiting.pop()
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, Again):
            waiting.append(part.text)
        else:
            waiting.extend(part.texts if isinstance(part, Either) else part)
    return found


def statements(text: Text, *, selects_write: bool = False) -> frozenset[Statement]:
    """Every statement ``text`` may be made of.

    Args:
        selects_write: a SELECT may call a function that writes, as on PostgreSQL.

    Raises:
        Unclear: it may be read in too many ways, or has a string whose end is not clear.
    """
    found: set[tuple[tuple[str, ...], bool]] = set()

    def end(state: _State) -> None:
        if state.tokens:
            found.add((state.tokens[:MOST_TOKENS], state.writes))

    for state in _read(text, frozenset({_State()}), end):
        if state.quote not in ("", "--"):
            raise Unclear("a string that does not end")
        end(state)
    return frozenset(classified(tokens, writes, selects_write) for tokens, writes in found)


@dataclass(frozen=True, slots=True)
class _State:
    """Where a reader stands.

    Attributes:
        tokens: the first of the statement.
        quote: what opened the string, the quoted name or the comment it is in; "" outside.
        open: the last token goes on if a word follows.
        writes: a word that writes stands somewhere in the statement.
    """

    tokens: tuple[str, ...] = ()
    quote: str = ""
    open: bool = False
    writes: bool = False


def _read(
    text: Text, states: frozenset[_State], ended: Callable[[_State], None]
) -> frozenset[_State]:
    if len(states) > _MOST_STATES:
        raise Unclear("too many ways to read it")
    if isinstance(text, str):
        return frozenset(_feed(state, text, ended) for state in states)
    if isinstance(text, Either):
        return frozenset().union(*(_read(option, states, ended) for option in text.texts))
    if isinstance(text, Again):
        while (more := states | _read(text.text, states, ended)) != states:
            states = more
        return states
    for part in text:
        states = _read(part, states, ended)
    return states


def _feed(state: _State, text: str, ended: Callable[[_State], None]) -> _State:
    tokens, quote, is_open, writes = list(state.tokens), state.quote, state.open, state.writes
    position = 0
    while position < len(text):
        if quote:
            position, is_open = _skip(tokens, quote, text, position), False
            quote = quote if position < 0 else ""
            if position < 0:
                break
            continue
        match = _TOKEN.match(text, position)
        assert match
        position, kind, value = match.end(), match.lastgroup, match.group()
        if kind == "unclear":
            # A comment on Snowflake, a division on DuckDB.
            raise Unclear("a double slash")
        if kind == "word" and is_open and tokens:
            tokens[-1] += value
        elif value == ";":
            ended(_State(tuple(tokens), writes=writes))
            tokens, writes = [], False
        elif kind in ("word", "mark"):
            tokens.append(value)
        elif kind == "quote":
            quote = value
            if value not in _ENDS:
                # A name goes on with what is in the quotes, a string does not matter.
                tokens.append('"' if value in ('"', "`") else "'")
        is_open = kind == "word"
        writes = writes or (is_open and is_writing(tokens[-1]))
        del tokens[MOST_TOKENS + 1 :]
    return _State(tuple(tokens), quote, is_open, writes)


def _skip(tokens: list[str], quote: str, text: str, position: int) -> int:
    """The place behind what ends a string, a quoted name or a comment; -1 if it goes on."""
    end = text.find(_ENDS.get(quote, quote), position)
    inside = text[position : end if end >= 0 else len(text)]
    if "\\" in inside and quote == "'":
        # Snowflake reads \' as a quote in the string, DuckDB as its end.
        raise Unclear("a backslash in a string")
    if quote in ('"', "`") and tokens:
        tokens[-1] += inside
    return end + len(_ENDS.get(quote, quote)) if end >= 0 else -1
