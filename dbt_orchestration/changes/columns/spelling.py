"""Spellings that mean the same: of types, of numbers that may change places, of bounds, of lists.

tests/changes/test_spelling.py runs both spellings on DuckDB, on values of every type. What cannot
be told from the text alone is not called the same.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

_T = exp.DType
# Types that are stored alike. Of those in _CHARACTERS, one alone has the length 1 on Snowflake.
_SYNONYMS: Mapping[str, Mapping[exp.DType, exp.DType]] = {
    "DuckDB": {
        **dict.fromkeys((_T.BPCHAR, _T.CHAR, _T.NCHAR, _T.NVARCHAR, _T.VARCHAR), _T.TEXT),
        _T.TIMESTAMP: _T.TIMESTAMPNTZ,
    },
    "Snowflake": {
        **dict.fromkeys((_T.BIGINT, _T.INT, _T.SMALLINT, _T.TINYINT), _T.DECIMAL),
        **dict.fromkeys((_T.CHAR, _T.NCHAR, _T.NVARCHAR, _T.TEXT), _T.VARCHAR),
        _T.DATETIME: _T.TIMESTAMPNTZ,
        _T.FLOAT: _T.DOUBLE,
        _T.VARBINARY: _T.BINARY,
    },
}
_CHARACTERS = (_T.CHAR, _T.NCHAR)
_TIMES = (_T.TIME, _T.TIMESTAMPLTZ, _T.TIMESTAMPNTZ, _T.TIMESTAMPTZ)
_EXACT = frozenset(
    {
        *(_T.BIGINT, _T.DECIMAL, _T.INT, _T.SMALLINT, _T.TINYINT),
        *(_T.UBIGINT, _T.UINT, _T.USMALLINT, _T.UTINYINT),
    }
)
# What is computed twice gives the same twice.
_STEADY = (
    *(exp.Add, exp.Cast, exp.Column, exp.DataType, exp.DataTypeParam, exp.Identifier, exp.Literal),
    *(exp.Mul, exp.Neg, exp.Paren, exp.Sub),
)


def canonical_type(kind: exp.DataType, dialect: str) -> exp.DataType:
    """One of the names that a type has."""
    known = _SYNONYMS.get(dialect)
    parameters = kind.expressions
    plain = all(isinstance(p, exp.DataTypeParam) and not p.expression for p in parameters)
    if known is None or not plain or not isinstance(kind.this, exp.DType):
        return kind
    name = known.get(kind.this, kind.this)
    sizes = [size.name for size in parameters]
    if dialect == "DuckDB" and name is _T.TEXT:
        sizes = []  # which DuckDB ignores
    elif name is _T.DECIMAL and kind.this is not name:
        sizes = ["38", "0"]
    elif name is _T.DECIMAL and len(sizes) == 1:
        sizes = [*sizes, "0"]
    elif dialect == "Snowflake" and kind.this in _CHARACTERS:
        sizes = sizes or ["1"]
    elif dialect == "Snowflake" and name in _TIMES and sizes == ["9"]:
        sizes = []
    parameters = [exp.DataTypeParam(this=exp.Literal.number(size)) for size in sizes]
    return exp.DataType(**{**kind.args, "this": name, "expressions": parameters})


def is_exact(node: exp.Expr) -> bool:
    """Whether ``node`` is a whole number or a decimal: + with another operand may be turned round.

    With two operands of unknown types it may not: DuckDB appends lists with +.
    """
    node = node.unnest()
    if isinstance(node, exp.Neg):
        return is_exact(node.this)
    if isinstance(node, exp.Literal):
        return not node.is_string and node.name.replace(".", "", 1).isdigit()
    return isinstance(node, exp.Cast) and node.to.this in _EXACT


def is_list_in_any_order(node: exp.In) -> bool:
    """Whether ``node`` is ``x IN (1, 2)``, of constants of one kind."""
    if any(node.args.get(key) for key in ("query", "unnest", "field")):
        return False
    kinds = {_kind(item) for item in node.expressions if not isinstance(item, exp.Null)}
    return len(kinds) <= 1 and "" not in kinds


def bounds(node: exp.Expr) -> tuple[exp.Expr, exp.Expr] | None:
    """``x >= a`` and ``x <= b`` for ``x BETWEEN a AND b``, if those are the same.

    All three are compared in one type, so a and b have to be constants of one.
    """
    if not isinstance(node, exp.Between) or node.args.get("symmetric") is not None:
        return None
    kinds = {_kind(node.args["low"]), _kind(node.args["high"])}
    if len(kinds) > 1 or "" in kinds or not all(isinstance(n, _STEADY) for n in node.this.walk()):
        return None
    low = exp.GTE(this=node.this.copy(), expression=node.args["low"].copy())
    return low, exp.LTE(this=node.this.copy(), expression=node.args["high"].copy())


def _kind(node: exp.Expr) -> str:
    """Constants with the same answer have the same type; "" for what is no constant."""
    node = node.unnest()
    if isinstance(node, exp.Cast):
        return f"{type(node).__name__} {node.to!r}" if isinstance(node.this, exp.Literal) else ""
    if isinstance(node, exp.Neg):
        node = node.this
    if not isinstance(node, exp.Literal):
        return ""
    if node.is_string or node.name.isdigit():
        return "text" if node.is_string else "whole"
    digits, _, decimals = node.name.partition(".")
    return f"{len(digits)} {len(decimals)}" if (digits + decimals).isdigit() else ""
