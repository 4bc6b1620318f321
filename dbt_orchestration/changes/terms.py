"""Terms: what decides a value, as a tree whose leaves are the parents' rows and columns.

A term is made once per query text, with parents named but not looked into. *Linking* puts the
parents' own digests in the place of the leaves and yields one digest: a Merkle tree over columns.
Two digests are equal only if the same things, combined in the same way, decide the value.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

ROWS = "*rows*"
REST = "*rest*"
WHOLE = "*"


def digest(*parts: str) -> str:
    """128 bits of blake2b over ``parts``, in 32 hexadecimal characters."""
    return hashlib.blake2b("\x1f".join(parts).encode(), digest_size=16).hexdigest()


def digest_value(value: Any) -> str:
    """The digest of a JSON value. The order of keys counts: Jinja goes through them in order."""
    return digest(json.dumps(value, default=str))


@dataclass(frozen=True, slots=True, order=True)
class Reference:
    """A leaf: of a node its rows, a named column, the columns of unknown names, or everything."""

    node: str
    column: str


class Term:
    """An operation on terms. Without references below it a term is only its key.

    ``key`` is the digest before linking: equal keys are the same computation on the same parents.
    """

    __slots__ = ("args", "key", "op", "reference", "unordered")

    def __init__(
        self,
        op: str,
        args: Iterable[Term] = (),
        unordered: bool = False,
        reference: Reference | None = None,
    ) -> None:
        self.op: str = op
        self.args: tuple[Term, ...] = tuple(args)
        self.unordered: bool = unordered
        self.reference: Reference | None = reference
        keys = [arg.key for arg in self.args]
        if unordered:
            keys.sort()
        self.key: str = digest("u" if unordered else "o", op, *keys)
        if reference is None and not any(arg.args or arg.reference for arg in self.args):
            self.op, self.args = self.key, ()

    def __getstate__(self) -> tuple[object, ...]:
        return (self.op, self.args, self.unordered, self.reference, self.key)

    def __setstate__(
        self, state: tuple[str, tuple[Term, ...], bool, Reference | None, str]
    ) -> None:
        self.op, self.args, self.unordered, self.reference, self.key = state

    def references(self) -> list[Reference]:
        """The leaves, each once, sorted."""
        found: set[Reference] = set()
        seen: set[str] = set()
        waiting = [self]
        while waiting:
            term = waiting.pop()
            if term.key in seen:
                continue
            seen.add(term.key)
            if term.reference:
                found.add(term.reference)
            waiting.extend(term.args)
        return sorted(found)


def refer(node: str, column: str) -> Term:
    """A leaf term."""
    return Term(f"ref {node} {column}", reference=Reference(node, column))


def link(term: Term, resolve: Callable[[Reference], str], memo: dict[str, str]) -> str:
    """The digest of ``term`` with each reference replaced by ``resolve(reference)``.

    ``memo`` maps the keys of terms to their digests; share it between the terms of one node.
    """
    if (known := memo.get(term.key)) is not None:
        return known
    if term.reference is not None:
        result = resolve(term.reference)
    elif not term.args:
        result = term.key
    else:
        parts = [link(arg, resolve, memo) for arg in term.args]
        if term.unordered:
            parts.sort()
        result = digest("u" if term.unordered else "o", term.op, *parts)
    memo[term.key] = result
    return result


class Name(str):
    """A name as the engine compares it.

    Attributes:
        written: as the engine keeps and shows it; ``str`` where that is the same.
    """

    __slots__ = ("written",)
    written: str

    def __new__(cls, name: str, written: str = "") -> Name:
        made = super().__new__(cls, name)
        made.written = written or name
        return made

    def __reduce__(self) -> tuple[type[Name], tuple[str, str]]:
        return Name, (str(self), self.written)


def written(name: str) -> str:
    """A column's name as the engine keeps it."""
    return name.written if isinstance(name, Name) else name


@dataclass(frozen=True, slots=True)
class Relation:
    """What a query yields.

    Attributes:
        rows: decides which rows there are, and how many times each.
        columns: name and term, in order; a name may occur twice. A ``Name`` says how it is written.
        rest: decides the columns whose names are not known; None if all are in ``columns``.
        positions: whether the order of ``columns`` is known.
        order: a model's own ORDER BY. It sorts what is stored, and who reads it sees no order.
    """

    rows: Term
    columns: tuple[tuple[str, Term], ...]
    rest: Term | None = None
    positions: bool = True
    order: str = ""

    def column(self, name: str) -> Term | None:
        """What decides the column ``name``; None if there is none of that name."""
        found = [term for known, term in self.columns if known == name]
        if len(found) == 1 and self.rest is None:
            return found[0]
        if found or self.rest is not None:
            # Twice the same name, or perhaps once more among the unknown: any of them.
            rest = [] if self.rest is None else [Term(f"column {name}", (self.rest,))]
            return Term("any", (*found, *rest)) if found else rest[0]
        return None

    def everything(self) -> tuple[Term, ...]:
        """All that decides the content: rows, columns with their names, unknown columns."""
        named = tuple(Term(f"named {name}", (term,)) for name, term in self.columns)
        return (self.rows, *named, *(() if self.rest is None else (self.rest,)))

    def record(self) -> tuple[Term, ...]:
        """The same for who reads the names as data: JSON of a row shows in which case they are."""
        named = tuple(Term(f"named {written(name)}", (term,)) for name, term in self.columns)
        return (self.rows, *named, *(() if self.rest is None else (self.rest,)))
