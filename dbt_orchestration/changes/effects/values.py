"""Values that Jinja hands about, as far as they are known."""

from __future__ import annotations

from collections.abc import Mapping
from string import Formatter

from jinja2 import nodes

from dbt_orchestration.changes.effects.library import Scope
from dbt_orchestration.changes.effects.texts import GAP, Again, Either, Text, Unclear, pieces

# Of a call, by place or by name.
Arguments = Mapping[str | int, Text]

# Values of more pieces than this are gaps.
_MOST_PIECES = 2_000


def position(argument: tuple[str | int, Text]) -> int:
    """Named arguments, such as a version, come before the others."""
    return argument[0] if isinstance(argument[0], int) else -1


def dispatched(node: nodes.Call, scope: Scope) -> str:
    """The name given to ``adapter.dispatch``; "" if it is another call."""
    callee = node.node
    if not (
        isinstance(callee, nodes.Getattr)
        and callee.attr == "dispatch"
        and isinstance(callee.node, nodes.Name)
        and callee.node.name == "adapter"
        and not scope.has("adapter")
    ):
        return ""
    given = [*node.args[:1], *(k.value for k in node.kwargs if k.key == "macro_name")]
    if not given or not isinstance(given[0], nodes.Const):
        raise Unclear("dispatch of a name that is computed")
    return str(given[0].value)


def formatted(value: Text) -> Text:
    """A text whose braces are filled in."""
    if isinstance(value, Either):
        return Either(tuple(formatted(text) for text in value.texts))
    if isinstance(value, Again):
        return Again(formatted(value.text))
    if not isinstance(value, str):
        return tuple(formatted(text) for text in value)
    parts: list[Text] = []
    try:
        for literal, name, _, _ in Formatter().parse(value):
            parts += [literal, GAP] if name is not None else [literal]
    except ValueError:
        return gap({0: value})
    return tuple(parts)


def gap(arguments: Arguments) -> Text:
    """What a call yields that is not followed."""
    for value in arguments.values():
        let_go(value)
    return GAP


def let_go(value: Text) -> None:
    """A value that is not followed any further. It may not end a statement."""
    if any(";" in piece for piece in pieces(value)):
        raise Unclear("a semicolon in a value that is not followed")


def short(value: Text) -> Text:
    """A value, or a gap where it has too many pieces to follow."""
    if len(pieces(value)) <= _MOST_PIECES:
        return value
    return gap({0: value})
