"""Which of a node's own properties its Jinja reads, through ``model`` and ``config``."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping
from typing import Any

Tokens = list[tuple[str, str]]
Path = tuple[str, ...]

# What is read where everything is.
_SAID = ("meta", "tags", "description", "columns", "fqn", "name")
# Compared elsewhere, or different after each parse.
_LEFT_OUT = frozenset(
    {"raw_code", "compiled", "compiled_code", "compiled_path", "checksum", "created_at", "refs"}
    | {"sources", "metrics", "functions", "depends_on", "database", "schema", "relation_name"}
    | {"build_path", "root_path", "extra_ctes", "extra_ctes_injected", "config_call_dict"}
    | {"unrendered_config_call_dict", "patch_path", "defer_relation"}
)
_KEYS: Mapping[str, Path] = {
    "get": ("config",),
    "require": ("config",),
    "meta_get": ("meta",),
    "meta_require": ("meta",),
}
_DOCS = frozenset({"persist_relation_docs", "persist_column_docs"})


def read_properties(code: Tokens, local: Collection[str] = ()) -> Iterator[Path]:
    """Paths such as ``("config", "meta", "owner")``; the empty one is everything.

    Args:
        code: the tokens of Jinja's code.
        local: names that are a macro's own, such as its parameters.
    """
    for i, (kind, name) in enumerate(code):
        if kind != "name" or name in local or _is_elsewhere(code, i):
            continue
        if name == "model":
            yield _path(code, i + 1)
        elif name == "config":
            yield from _config(code, i + 1)
        elif name == "context" and not _is_other(code, i + 1):
            yield ()


def values(node: Mapping[str, Any], paths: Collection[Path]) -> list[Any]:
    """What a node says at ``paths``, in an order that is the same for the same paths."""
    if () in paths:
        config = sorted((node.get("config") or {}).items())
        return [config, *(node.get(key) for key in _SAID)]
    return [[path, _at(node, path)] for path in sorted(paths) if path[0] not in _LEFT_OUT]


def parameters(code: Tokens) -> Iterator[str]:
    """Names of the parameters of the macro that ``code`` defines."""
    names = [i for i, token in enumerate(code) if token == ("name", "macro")]
    for start in names[:1]:
        depth = 0
        for i in range(start + 2, len(code)):
            kind, value = code[i]
            depth += {"(": 1, ")": -1}.get(value, 0) if kind == "operator" else 0
            if depth == 0:
                return
            if depth == 1 and kind == "name" and code[i - 1][1] in ("(", ","):
                yield value


def literal(token: str) -> str:
    """What a string token says."""
    try:
        return str(ast.literal_eval(token))
    except (ValueError, SyntaxError):
        return token[1:-1]


def _is_elsewhere(code: Tokens, i: int) -> bool:
    """Whether a name is an attribute, a filter or the name of an argument."""
    before = _value(code, i - 1) if i else ""
    return before in (".", "|") or (before in ("(", ",") and _value(code, i + 1) == "=")


def _config(code: Tokens, i: int) -> Iterator[Path]:
    """``config("table")`` sets, ``config.get("materialized")`` reads."""
    if _value(code, i) == "(" or (i > 2 and code[i - 3][1] == "set_sql_header"):
        return
    method = _value(code, i + 1)
    if _value(code, i) != ".":
        yield ("config",)
    elif method in _DOCS:
        yield ("config", "persist_docs")
    elif method == "model":
        yield _path(code, i + 2)
    elif method in _KEYS:
        key = _argument(code, i + 2)
        path = _KEYS[method]
        yield (*path, key, *_path(code, _after(code, i + 2))) if key is not None else path
    elif method != "set":
        yield ("config",)


def _path(code: Tokens, i: int) -> Path:
    """What follows a value: ``.meta.owner``, ``["meta"]``, ``.get("owner", "")``."""
    path: list[str] = []
    while True:
        mark, (kind, value) = _value(code, i), code[i + 1] if i + 1 < len(code) else ("", "")
        if mark == "[" and kind == "string" and _value(code, i + 2) == "]":
            path.append(literal(value))
            i += 3
        elif mark == "." and value == "get" and (key := _argument(code, i + 2)) is not None:
            path.append(key)
            i = _after(code, i + 2)
        elif mark == "." and kind == "name" and _value(code, i + 2) != "(":
            path.append(value)
            i += 2
        else:
            return tuple(path)


def _is_other(code: Tokens, i: int) -> bool:
    """Whether what is taken out of ``context`` is neither ``model`` nor ``config``."""
    path = _path(code, i)
    return bool(path) and path[0] not in ("model", "config")


def _argument(code: Tokens, i: int) -> str | None:
    """The first argument of a call, if it is a literal string."""
    if _value(code, i) != "(" or i + 2 >= len(code) or code[i + 1][0] != "string":
        return None
    return literal(code[i + 1][1]) if code[i + 2][1] in (",", ")") else None


def _after(code: Tokens, i: int) -> int:
    """The place behind the parenthesis that closes the one at ``i``."""
    depth = 0
    for j in range(i, len(code)):
        kind, value = code[j]
        depth += {"(": 1, ")": -1}.get(value, 0) if kind == "operator" else 0
        if depth == 0:
            return j + 1
    return len(code)


def _value(code: Tokens, i: int) -> str:
    return code[i][1] if i < len(code) and code[i][0] != "string" else ""


def _at(node: Mapping[str, Any], path: Path) -> Any:
    value: Any = node
    for key in path:
        if not isinstance(value, Mapping) or key not in value:
            return None
        value = value[key]
    return value
