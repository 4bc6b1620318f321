"""The macros of a project as Jinja finds them, and the names that hold within one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import jinja2
from jinja2 import nodes

from dbt_orchestration.changes.effects.texts import GAP, Statement, Text, Unclear

_JINJA = jinja2.Environment(
    autoescape=False, extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"]
)
_GIVES = (nodes.Assign, nodes.AssignBlock, nodes.For)


@dataclass
class Library:
    """Macros, and what is known of them.

    Attributes:
        macros: ``manifest["macros"]``.
        root: the name of the project.
        internal: packages whose macros belong to dbt and its adapter.
        trusted: packages whose macros write only what is their own.
        selects_write: SELECT may call a function that writes.
        known: what was read before, by macro, package and arguments.
    """

    macros: Mapping[str, Mapping[str, Any]]
    root: str
    internal: Collection[str]
    trusted: Collection[str]
    selects_write: bool = False
    known: dict[Any, tuple[Text, frozenset[Statement]]] = field(default_factory=dict)

    def find(self, name: str, scope: Scope) -> str | None:
        """The macro that a plain name is."""
        return self._first(name, (scope.package, self.root, scope.own, *self._internal))

    def find_in(self, package: str, name: str) -> str | None:
        """The macro that ``package.name`` is; dbt's own and its adapter's go by ``dbt``."""
        return self._first(name, (*self._internal, package) if package == "dbt" else (package,))

    def dispatched(self, name: str) -> list[str]:
        """What ``adapter.dispatch(name)`` may find, anywhere."""
        return [u for u, macro in self.macros.items() if macro["name"].partition("__")[2] == name]

    def overriding(self, package: str) -> list[str]:
        """Others' versions of what a package leaves to dispatch."""
        names = {m["name"] for m in self.macros.values() if m["package_name"] == package}
        skipped = {*self.trusted, *self.internal}
        return [
            unique_id
            for unique_id, macro in self.macros.items()
            if macro["package_name"] not in skipped and macro["name"].partition("__")[2] in names
        ]

    def is_internal(self, unique_id: str) -> bool:
        return self.macros[unique_id]["package_name"] in self.internal

    @cached_property
    def packages(self) -> frozenset[str]:
        return frozenset({"dbt", *(str(m["package_name"]) for m in self.macros.values())})

    @cached_property
    def _internal(self) -> tuple[str, ...]:
        # The adapter's come before dbt's own.
        return tuple(sorted(self.internal, key=lambda package: (package == "dbt", package)))

    def _first(self, name: str, packages: Iterable[str]) -> str | None:
        return next((u for p in packages if (u := f"macro.{p}.{name}") in self.macros), None)


@lru_cache(maxsize=20_000)
def parsed(source: str) -> nodes.Template:
    """Raises:
    Unclear: it does not parse.
    """
    try:
        return _JINJA.parse(source)
    except jinja2.TemplateSyntaxError as error:
        raise Unclear(f"Jinja that does not parse: {error}") from None


class Scope:
    """The names of one macro, or of a hook's own text.

    Attributes:
        package: that of the node for which it is rendered.
        own: that of the macro.
        bound: arguments.
        given: what names are set to, anywhere in the text.
        returned: what it returns.
        reading: names that are being read.
        read: names that were read.
        circles: how often a name was needed to read that name.
    """

    def __init__(
        self, package: str, own: str, body: Iterable[nodes.Node], bound: Mapping[str, Text]
    ) -> None:
        self.package = package
        self.own = own
        self.bound = dict(bound)
        self.given: dict[str, list[nodes.Node | Text]] = {}
        self.returned: list[Text] = []
        self.reading: set[str] = set()
        self.read: dict[str, Text] = {}
        self.circles = 0
        for part in body:
            for node in (part, *part.find_all(_GIVES)):
                if isinstance(node, _GIVES):
                    self._note(node)

    def has(self, name: str) -> bool:
        """Whether a name is one of the macro's own."""
        return name in self.given or name in self.bound

    def _note(self, node: nodes.Assign | nodes.AssignBlock | nodes.For) -> None:
        values: list[nodes.Node | Text] = [GAP]
        if isinstance(node, nodes.AssignBlock):
            values = [node]
        elif isinstance(node, nodes.Assign):
            values = [node.node]
        elif isinstance(node.iter, nodes.List | nodes.Tuple):
            values = [*node.iter.items]
        if isinstance(node.target, nodes.Name):
            self.given.setdefault(node.target.name, []).extend(values)
        else:
            for name in node.target.find_all(nodes.Name):
                self.given.setdefault(name.name, []).append(GAP)
