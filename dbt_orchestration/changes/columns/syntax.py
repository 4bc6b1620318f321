"""SQL as the engine reads it: sqlglot's tree, where the engine groups operators in the same way.

sqlglot binds some operators more or less tightly than the engine, and drops a unary plus. Where
parentheses do not say what belongs together, and the engine may think otherwise, nothing is known.

The ranks of DuckDB are those of its parser, and tests/changes/test_syntax.py compares them with it.
Snowflake documents those of NOT, AND and OR, of the set operations, of casts; what it does not
document is not taken for granted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from sqlglot import exp
from sqlglot.dialects.dialect import Dialect
from sqlglot.errors import SqlglotError
from sqlglot.tokenizer_core import Token, TokenType

from dbt_orchestration.changes.columns.names import Opaque, called

# The lowest and the highest rank an operator may have. The higher one binds more tightly.
Rank = tuple[int, int]
Kind = type[exp.Expr]
Ranks = Mapping[Kind, Rank]
_UNKNOWN: Rank = (-1, 1000)
_COMPARED = (exp.EQ, exp.NEQ, exp.LT, exp.LTE, exp.GT, exp.GTE)
_TESTED = (exp.Between, exp.In, exp.Like, exp.ILike)
_PRODUCTS = (exp.Mul, exp.Div, exp.IntDiv, exp.Mod)
_BITS = (exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseLeftShift, exp.BitwiseRightShift)
_ARRAYS = (
    *(exp.ArrayContainedBy, exp.ArrayContainsAll, exp.ArrayOverlaps, exp.RegexpFullMatch),
    exp.StartsWith,
)
_COMMON: Ranks = {
    exp.Or: (10, 10),
    exp.And: (20, 20),
    exp.Not: (30, 30),
    **dict.fromkeys((exp.Add, exp.Sub), (80, 80)),
    **dict.fromkeys(_PRODUCTS, (90, 90)),
    exp.Neg: (130, 130),
}
# What is compared by IS, = or LIKE is no part of another such comparison, but for parentheses.
_ELSEWHERE: Ranks = {
    **_COMMON,
    **dict.fromkeys((*_COMPARED, *_TESTED, exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ), (40, 60)),
    **dict.fromkeys((exp.Glob, exp.RegexpLike, exp.RegexpILike, exp.SimilarTo), (40, 60)),
    **dict.fromkeys((exp.DPipe, *_BITS), (65, 120)),
    **dict.fromkeys((exp.JSONExtract, exp.JSONExtractScalar), (65, 1000)),
    exp.AtTimeZone: (100, 125),
}
_RANKS: Mapping[str, Ranks] = {
    "DuckDB": {
        **_COMMON,
        exp.JSONExtract: (0, 0),
        **dict.fromkeys((exp.Is, exp.NullSafeEQ, exp.NullSafeNEQ), (40, 40)),
        **dict.fromkeys(_COMPARED, (50, 50)),
        **dict.fromkeys((*_TESTED, exp.Glob, exp.SimilarTo), (60, 60)),
        **dict.fromkeys(_ARRAYS, (60, 70)),
        exp.BitwiseNot: (65, 1000),
        **dict.fromkeys((exp.DPipe, exp.JSONExtractScalar), (70, 70)),
        **dict.fromkeys(_BITS, (75, 75)),
        exp.Collate: (80, 120),
        exp.Pow: (100, 100),
        exp.AtTimeZone: (110, 110),
    },
    "Snowflake": {**_ELSEWHERE, exp.DPipe: (70, 80), exp.JSONExtract: (1000, 1000)},
}
# a - b - c is (a - b) - c.
_FROM_THE_LEFT = (exp.Or, exp.And, exp.Add, exp.Sub, *_PRODUCTS, *_BITS, exp.DPipe, exp.Pow)
# Without the name of a function, these are written as operators.
_WRITTEN_AS_OPERATORS = (
    *(exp.Binary, exp.Unary, exp.Between, exp.In, exp.AtTimeZone),
    *(exp.Abs, exp.Cbrt, exp.Coalesce, exp.Sqrt, exp.StartsWith),
)
# In these, an operand is everything up to the next comma or bracket.
_CONTAINERS = (exp.Paren, exp.Dot, exp.Kwarg, exp.PropertyEQ)
_MODIFIERS = ("order", "limit", "offset", "sort", "distribute", "cluster")


def parse(sql: str, dialect: Dialect) -> exp.Query:
    """The one query that ``sql`` is.

    Raises:
        Opaque: it is none, or the engine may read it in another way. Nothing else is raised.
    """
    sql = sql.lstrip().removeprefix("\ufeff")  # some editors begin a file with it
    try:
        tokens = dialect.tokenize(sql)
        statements = [s for s in dialect.parser().parse(tokens, sql) if s is not None]
        if len(statements) != 1 or not isinstance(statements[0], exp.Query):
            raise Opaque("SQL that is not one query")
        _refuse_lost(tokens, dialect)
        _refuse_misread(statements[0], _RANKS.get(type(dialect).__name__, _ELSEWHERE))
    except RecursionError:
        raise Opaque("SQL nested too deeply") from None
    except (SqlglotError, AttributeError, TypeError, ValueError) as error:
        detail = getattr(error, "errors", None)
        where = f", line {detail[0]['line']}" if detail and detail[0].get("line") else ""
        raise Opaque(f"SQL that sqlglot does not parse{where}") from None
    return statements[0]


# Operators


def _refuse_misread(tree: exp.Expr, ranks: Ranks) -> None:
    for node in tree.walk():
        kind: Any = type(node)
        if check := _check(kind):
            check(node, ranks)


@cache
def _check(kind: Kind) -> Callable[[exp.Expr, Ranks], None] | None:
    """What to ask of nodes of a kind."""
    written: Any = kind
    if _may_be_operator(written):
        return _refuse_operands
    checks = (
        (exp.Interval, _refuse_interval),
        (exp.Select, _refuse_comma),
        (exp.SetOperation, _refuse_set_operation),
    )
    return next((check for known, check in checks if issubclass(kind, known)), None)


@cache
def _may_be_operator(kind: Kind) -> bool:
    return issubclass(kind, _WRITTEN_AS_OPERATORS) and not issubclass(kind, _CONTAINERS)


def _is_operator(node: exp.Expr) -> bool:
    """Whether ``node`` is written without brackets around its operands."""
    kind: Any = type(node)
    return _may_be_operator(kind) and not called(node)


def _refuse_operands(node: exp.Expr, ranks: Ranks) -> None:
    if called(node):
        return
    for operand, from_the_left in _operands(node):
        if not _belongs(node, operand, from_the_left, ranks):
            raise _unclear(node, operand)


def _refuse_interval(node: exp.Expr, _: Ranks) -> None:
    if node.this is not None and _is_operator(node.this):
        raise _unclear(node, node.this)


def _operands(node: exp.Expr) -> Iterator[tuple[exp.Expr, bool]]:
    """The operands of an operator, and whether the operator stands to the right of them."""
    prefix = isinstance(node, (exp.Unary, exp.Abs, exp.Cbrt, exp.Sqrt))
    for key, value in node.args.items():
        if isinstance(node, exp.In) and key != "this":
            continue
        for operand in value if isinstance(value, list) else (value,):
            if isinstance(operand, exp.Expr):
                yield operand, key == "this" and not prefix


def _belongs(node: exp.Expr, operand: exp.Expr, from_the_left: bool, ranks: Ranks) -> bool:
    """Whether the engine takes all of ``operand`` as an operand of ``node``."""
    operand = _bare(node, operand) if from_the_left else operand
    if not _is_operator(operand):
        return True
    if isinstance(node, exp.Escape) and from_the_left:
        return isinstance(operand, (exp.Like, exp.ILike))
    if isinstance(node, exp.JSONExtractScalar) and isinstance(operand, exp.JSONExtract):
        # DuckDB reads a -> b ->> c as a -> (b ->> c), and evaluates both as (a -> b) ->> c.
        return from_the_left
    outer, inner = _rank(node, ranks), _rank(operand, ranks)
    same = type(operand) is type(node)
    if from_the_left and isinstance(node, _FROM_THE_LEFT):
        return inner[0] >= outer[1] or same
    return inner[0] > outer[1] or (isinstance(node, exp.Unary) and same)


def _bare(node: exp.Expr, operand: exp.Expr) -> exp.Expr:
    """``operand`` without parentheses that only sqlglot writes.

    Of ``a NOT LIKE b LIKE c`` it makes ``(a NOT LIKE b) LIKE c``.
    """
    if not isinstance(operand, exp.Paren) or isinstance(node, (*_COMPARED, *_FROM_THE_LEFT)):
        return operand
    inner: exp.Expr = operand.this
    within: exp.Expr = inner.this if isinstance(inner, (exp.Escape, exp.Not)) else inner
    if isinstance(inner, exp.Not) and _is_operator(within):
        return within
    return inner if within.args.get("negate") else operand


def _rank(node: exp.Expr, ranks: Ranks) -> Rank:
    if isinstance(node, exp.Escape):
        return _rank(node.this, ranks)
    if isinstance(node, exp.JSONExtractScalar) and isinstance(node.this, exp.JSONExtract):
        node = node.this
    return ranks.get(type(node), _UNKNOWN)


def _unclear(node: exp.Expr, operand: exp.Expr) -> Opaque:
    names = sorted({type(node).__name__.upper(), type(operand).__name__.upper()})
    return Opaque(f"{' and '.join(names)} without parentheses")


# Queries


def _refuse_set_operation(node: exp.Expr, _: Ranks) -> None:
    for side in (node.this, node.args["expression"]):
        if any(side.args.get(key) for key in _MODIFIERS):
            raise Opaque("ORDER BY or LIMIT between set operations")
        if isinstance(node, exp.Intersect) and isinstance(side, (exp.Union, exp.Except)):
            raise _unclear(node, side)


def _refuse_comma(node: exp.Expr, _: Ranks) -> None:
    """``a, b RIGHT JOIN c`` is ``a CROSS JOIN (b RIGHT JOIN c)``."""
    comma = False
    for join in node.args.get("joins") or ():
        if comma and (
            join.side in ("RIGHT", "FULL") or join.args.get("using") or join.method == "NATURAL"
        ):
            raise Opaque("a comma in FROM before USING or an outer join")
        comma = comma or not any(
            join.args.get(key) for key in ("on", "using", "side", "kind", "method")
        )


# Tokens

# What may stand before a plus sign with no operand between. It may be a name, too.
_BEFORE_OPERAND = frozenset(
    {
        *(TokenType.ALL, TokenType.ANY, TokenType.CASE, TokenType.COLLATE, TokenType.DEFAULT),
        *(TokenType.DIV, TokenType.ESCAPE, TokenType.FILTER, TokenType.INTERVAL, TokenType.IS),
        *(TokenType.LIMIT, TokenType.OFFSET, TokenType.OPERATOR, TokenType.OVERLAPS),
        *(TokenType.SET, TokenType.SOME, TokenType.TOP),
    }
)
# What may end an operand, besides names.
_ENDS_OPERAND = frozenset(
    {
        *(TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE, TokenType.NUMBER),
        *(TokenType.STRING, TokenType.RAW_STRING, TokenType.HEREDOC_STRING, TokenType.HEX_STRING),
        *(TokenType.NATIONAL_STRING, TokenType.UNICODE_STRING, TokenType.BYTE_STRING),
        *(TokenType.BIT_STRING, TokenType.IDENTIFIER, TokenType.VAR, TokenType.END),
    }
)
_OPENS = frozenset({TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE})
_CLOSES = frozenset({TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE})
# Functions of which sqlglot leaves out, or reads as a word, what comes after so many arguments.
_LEFT_OUT = {
    "DuckDB": {
        "ARRAY_REVERSE_SORT": 1,
        "DECODE": 1,
        "ENCODE": 1,
        "LIST_REVERSE_SORT": 1,
        "TIME_BUCKET": 2,
    },
    "Snowflake": {"TRY_PARSE_JSON": 1},
}
# DuckDB's functions of which the first argument is a unit, and may be a column.
_OF_UNITS = frozenset({"DATEDIFF", "DATETRUNC", "DATE_DIFF", "DATE_TRUNC"})


def _refuse_lost(tokens: Sequence[Token], dialect: Dialect) -> None:
    """What sqlglot leaves out of the tree without a word."""
    duckdb = type(dialect).__name__ == "DuckDB"
    left_out = _LEFT_OUT.get(type(dialect).__name__, {})
    ends = _ENDS_OPERAND | (dialect.parser_class.ID_VAR_TOKENS - _BEFORE_OPERAND)
    for place, token in enumerate(tokens):
        kind = token.token_type
        if kind is TokenType.PLUS:
            # It makes a number of a string.
            if not place or tokens[place - 1].token_type not in ends:
                raise Opaque("a plus sign before its only operand")
        elif kind is TokenType.NULLSAFE_EQ and duckdb:
            raise Opaque("<=>, which is a distance here")
        elif kind is TokenType.L_PAREN and place:
            name = tokens[place - 1].text.upper()
            if name in left_out and _commas(tokens[place:]) >= left_out[name]:
                raise Opaque(f"{name.lower()}() with more than {left_out[name]} arguments")
            unit = tokens[place + 1 : place + 2]
            if duckdb and name in _OF_UNITS and unit[0].token_type is not TokenType.STRING:
                raise Opaque(f"{name.lower()}() of a unit that is not written out")


def _commas(tokens: Sequence[Token]) -> int:
    """How many commas stand in the parentheses that ``tokens`` begin with."""
    depth = commas = 0
    for token in tokens:
        depth += (token.token_type in _OPENS) - (token.token_type in _CLOSES)
        commas += token.token_type is TokenType.COMMA and depth == 1
        if depth <= 0:
            break
    return commas
