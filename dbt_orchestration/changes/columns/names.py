"""How a dialect reads identifiers, and which adapter speaks which dialect."""

from __future__ import annotations

import re

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect, NormalizationStrategy

from dbt_orchestration.changes.terms import Name

_DIALECTS = {"sqlserver": "tsql", "synapse": "tsql", "fabricspark": "spark"}
_ORIGINAL_NAME = "name"
_PART = re.compile(r"""(?:["`\[]([^"`\]]+)["`\]]|([^."`\[\]]+))""")


class Opaque(Exception):  # noqa: N818 - an answer, not a failure
    """What decides a query's columns cannot be proven. The message says what is in the way."""


def dialect_of(adapter: str) -> Dialect:
    """sqlglot's dialect for a dbt adapter type such as ``duckdb`` or ``snowflake``.

    Raises:
        Opaque: sqlglot has none.
    """
    try:
        dialect = Dialect.get_or_raise(_DIALECTS.get(adapter, adapter))
    except ValueError:
        raise Opaque(f"no SQL dialect for the adapter {adapter}") from None
    # Functions that sqlglot thinks are synonyms keep the name they were called by.
    dialect.ORIGINAL_NAME_META_KEY = _ORIGINAL_NAME
    if type(dialect).__name__ == "DuckDB":
        # A path: 'a.b' is a key with a dot in it, '$.a.b' is a key of an object.
        setattr(dialect, "to_json_path", _as_it_is)  # noqa: B010 - a method to mypy
    return dialect


def _as_it_is(path: exp.Expr | None) -> exp.Expr | None:
    return path


def called(function: exp.Expr) -> str:
    """The name a function was called by, in upper case; empty if it has a syntax of its own."""
    return str(function.meta.get(_ORIGINAL_NAME, "")).upper() if function._meta else ""


class Names:
    """Identifiers as a dialect resolves them: ``Foo``, ``foo`` and ``"foo"`` may be one name."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._strategy = dialect.NORMALIZATION_STRATEGY
        self._insensitive = self._strategy in (
            NormalizationStrategy.CASE_INSENSITIVE,
            NormalizationStrategy.CASE_INSENSITIVE_UPPERCASE,
        )

    def normal(self, name: str, quoted: bool) -> str:
        if self._insensitive:
            return name.lower()
        if quoted or self._strategy is NormalizationStrategy.CASE_SENSITIVE:
            return name
        upper = self._strategy is NormalizationStrategy.UPPERCASE
        return name.upper() if upper else name.lower()

    def path(self, relation_name: str) -> tuple[str, ...]:
        """The parts of a relation's name as dbt writes it into SQL."""
        parts = _PART.findall(relation_name)
        return tuple(self.normal(bare or quoted, not bare) for quoted, bare in parts)

    def named(self, name: str, quoted: bool = False) -> Name:
        """The name of what is defined as ``name``."""
        return Name(self.normal(name, quoted), name if self._insensitive else "")

    def of(self, identifier: object) -> str:
        """The name of an identifier, or of what sqlglot parsed where one stands; "" for nothing."""
        if isinstance(identifier, exp.Identifier):
            return self.named(identifier.this, bool(identifier.args.get("quoted")))
        if isinstance(identifier, exp.Column):
            return self.of(identifier.this)
        if isinstance(identifier, exp.Expr):
            return self.named(identifier.name)
        return "" if identifier is None else self.normal(str(identifier), quoted=False)
