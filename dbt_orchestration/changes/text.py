"""Text that dbt renders, without what cannot matter, and the names its Jinja mentions.

Comments and runs of whitespace are left out of SQL, and of Jinja inside its delimiters. Whitespace
and comment marks inside a SQL string are content, also when the string has Jinja in it; so is the
text of macros, ``{% set %}`` blocks and the like, which may end up inside a string. Where it cannot
be told what is a string, the text stands as it is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import jinja2

from dbt_orchestration.changes.properties import Path, literal, parameters, read_properties

# dbt's delimiters are Jinja's own, and so is its treatment of whitespace.
_JINJA = jinja2.Environment(autoescape=False)
_NAME = re.compile(r"[A-Za-z_]\w*\Z")
# Blocks whose text is a value, not SQL in its place.
_CAPTURES = frozenset({"macro", "set", "call", "filter", "materialization", "test", "data_test"})
_SQL = re.compile(
    r"(?P<space>\s+)|(?P<line>--[^\n]*|//[^\n]*)|(?P<block>/\*(?!\+).*?\*/)|(?P<open>/\*)"
    r"|(?P<quote>['\"`]|\$\w*\$)|(?P<code>[^\s'\"`$/-]+(?: [^\s'\"`$/-]+)*|.)",
    re.DOTALL,
)


@dataclass(frozen=True)
class Text:
    """A template as dbt sees it.

    Attributes:
        content: equal for two templates only if they render the same SQL, but for comments and
            whitespace, wherever everything they mention is the same.
        names: identifiers in its Jinja.
        bare: those that are no attributes of something.
        alone: those of which no attribute is named either.
        strings: string literals in its Jinja.
        calls: (function, first argument) of calls with a literal first argument, such as
            ``("var", "start")``; the argument is None where it is not a literal.
        attributes: (object, attribute) pairs such as ``("adapter", "dispatch")``; the attribute is
            ``*`` where it is computed.
        properties: which of the node's own properties it reads; the empty path is all of them.
    """

    content: str
    names: frozenset[str] = frozenset()
    bare: frozenset[str] = frozenset()
    alone: frozenset[str] = frozenset()
    strings: frozenset[str] = frozenset()
    calls: frozenset[tuple[str, str | None]] = frozenset()
    attributes: frozenset[tuple[str, str]] = frozenset()
    properties: frozenset[Path] = frozenset()


def read_node(node: Mapping[str, Any]) -> Text:
    """The code of a node of the manifest."""
    code = node.get("raw_code") or ""
    language = node.get("language") or "sql"
    if language == "python":
        return read_python(code)
    # What is a comment in SQL is none in JavaScript.
    return read_sql(code) if language == "sql" else read_macro(code)


def read_overloads(node: Mapping[str, Any]) -> list[Text]:
    """The bodies that a function has for other arguments (dbt 1.12), each in a file of its own."""
    return [read_sql(each.get("raw_body") or "") for each in node.get("overloads") or ()]


@lru_cache(maxsize=100_000)
def read_sql(source: str) -> Text:
    """A model, snapshot, test or hook: SQL with Jinja in it."""
    return _read(source.removeprefix("\ufeff"), sql=True)


@lru_cache(maxsize=100_000)
def read_macro(source: str) -> Text:
    """A macro: its text may be used anywhere, so only its Jinja is normalised."""
    return _read(source, sql=False)


@lru_cache(maxsize=10_000)
def read_python(source: str) -> Text:
    """A Python model without comments, formatting and documentation strings."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return Text(source)
    if "__doc__" not in source:
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and len(body) > 1 and _is_string(body[0]):
                del body[0]
    return Text(ast.unparse(tree), properties=frozenset(_config_reads(tree)))


def _config_reads(tree: ast.AST) -> Iterator[Path]:
    """``dbt.config.get("meta")`` reads the config; ``dbt.config(materialized="table")`` sets it."""
    nodes = list(ast.walk(tree))
    called = [node.func for node in nodes if isinstance(node, ast.Call)]
    for node in nodes:
        if isinstance(node, ast.Attribute) and node.attr == "config" and node not in called:
            yield ()


def _is_string(node: ast.stmt) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _read(source: str, sql: bool) -> Text:
    if "{" not in source:
        return Text(_plain_sql(source) if sql else source)
    try:
        tokens = [(kind, value) for _, kind, value in _JINJA.lexer.tokeniter(source, None)]
    except jinja2.TemplateSyntaxError:
        return Text(source)
    code = [(k, v) for k, v in tokens if k in ("name", "string", "operator", "integer", "float")]
    names = frozenset(value for kind, value in code if kind == "name")
    captures = not sql or not _CAPTURES.isdisjoint(_block_names(tokens))
    dot = ("operator", ".")
    around = [("", ""), *code, ("", "")]
    bare = [i for i, (kind, _) in enumerate(code) if kind == "name" and around[i] != dot]
    content = _verbatim(tokens) if captures else _normalised(tokens)
    return Text(
        content or _verbatim(tokens),
        names,
        frozenset(code[i][1] for i in bare),
        frozenset(code[i][1] for i in bare if around[i + 2] != dot),
        frozenset(literal(value) for kind, value in code if kind == "string"),
        frozenset(_calls(code)),
        frozenset(_attributes(code)),
        frozenset(read_properties(code, () if sql else frozenset(parameters(code)))),
    )


def _plain_sql(source: str) -> str:
    sql = _Sql()
    sql.feed(source)
    return "".join(sql.parts).strip() if sql.in_code else source


def _block_names(tokens: list[tuple[str, str]]) -> Iterator[str]:
    for i, (kind, _) in enumerate(tokens):
        if kind == "block_begin":
            rest = (value for k, value in tokens[i + 1 : i + 4] if k == "name")
            name = next(rest, "")
            # {% set x = 1 %} is no block, {% set x %} is.
            if name != "set" or not _assigns(tokens, i):
                yield name
        elif kind == "raw_begin":
            yield "set"


def _assigns(tokens: list[tuple[str, str]], start: int) -> bool:
    for kind, value in tokens[start + 1 :]:
        if kind == "block_end":
            return False
        if kind == "operator" and value == "=":
            return True
    return False


def _calls(code: list[tuple[str, str]]) -> Iterator[tuple[str, str | None]]:
    for i in range(len(code) - 2):
        if code[i][0] == "name" and code[i + 1] == ("operator", "("):
            kind, value = code[i + 2]
            ends = i + 3 < len(code) and code[i + 3][1] in (",", ")")
            yield code[i][1], literal(value) if kind == "string" and ends else None


def _attributes(code: list[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for i in range(len(code) - 2):
        if code[i][0] == "name" and code[i + 1] == ("operator", "."):
            yield code[i][1], code[i + 2][1]
        elif code[i][0] == "name" and code[i + 1] == ("operator", "["):
            kind, value = code[i + 2]
            ends = i + 3 < len(code) and code[i + 3][1] == "]"
            yield code[i][1], literal(value) if kind == "string" and ends else "*"


_DROPPED = frozenset({"whitespace", "comment_begin", "comment", "comment_end", "linecomment"})
_EDGES = {
    "block_begin": "{%",
    "variable_begin": "{{",
    "block_end": "%}",
    "variable_end": "}}",
}


def _verbatim(tokens: list[tuple[str, str]]) -> str:
    return "".join(
        value if kind in ("data", "raw_begin", "raw_end") else f"{_EDGES.get(kind, value)}\0"
        for kind, value in tokens
        if kind not in _DROPPED
    )


def _normalised(tokens: list[tuple[str, str]]) -> str | None:
    """SQL with Jinja; None where it cannot be told what is inside a string."""
    sql = _Sql()
    for kind, value in tokens:
        if kind in _DROPPED:
            continue
        if kind == "data":
            sql.feed(value)
        elif (kind == "block_begin" and not sql.in_code) or (
            kind in ("block_begin", "variable_begin") and sql.in_line_comment
        ):
            return None
        else:
            sql.parts.append(f"{_EDGES.get(kind, value)}\0")
    return "".join(sql.parts).strip() if sql.in_code else None


class _Sql:
    """Reads SQL in pieces, knowing from one to the next whether it stands in a string."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.in_line_comment = False
        self._quote = ""
        self._unclear = False

    @property
    def in_code(self) -> bool:
        return not self._quote and not self._unclear

    def feed(self, text: str) -> None:
        position = 0
        if self.in_line_comment:
            # A Jinja comment stood in the SQL comment.
            position = text.find("\n") if "\n" in text else len(text)
            self.in_line_comment = position == len(text)
        while position < len(text):
            if self._quote:
                position = self._feed_string(text, position)
                continue
            match = _SQL.match(text, position)
            assert match
            position = match.end()
            kind, value = match.lastgroup, match.group()
            if kind == "line" and value.startswith("//"):
                # A comment on Snowflake, integer division on DuckDB: the line stays as it is.
                self._unclear = self._unclear or position == len(text) or "'" in value
                self.parts.append(f"{value}\n")
            elif kind in ("space", "line", "block"):
                self._gap("\n" in value)
                self.in_line_comment = kind == "line" and position == len(text)
            elif kind == "open":
                # A comment that ends after some Jinja.
                self._unclear = True
                self.parts.append(value)
            else:
                self._quote = value if kind == "quote" else ""
                self.parts.append(value)

    def _feed_string(self, text: str, position: int) -> int:
        end = text.find(self._quote, position)
        backslash = text.find("\\", position, end if end >= 0 else len(text))
        if backslash >= 0:
            # Snowflake reads \' as a quote in the string, DuckDB as its end.
            self._unclear = True
        if end < 0:
            self.parts.append(text[position:])
            return len(text)
        end += len(self._quote)
        self.parts.append(text[position:end])
        self._quote = ""
        return end

    def _gap(self, ends_line: bool) -> None:
        # What Jinja renders may end in a comment, which the end of the line ends.
        gap = "\n" if ends_line and self.parts and self.parts[-1].endswith("\0") else " "
        if self.parts and self.parts[-1] not in (" ", "\n"):
            self.parts.append(gap)
