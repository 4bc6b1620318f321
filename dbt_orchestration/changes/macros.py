"""Which macros a text reaches, by name and through packages, dispatch and overrides.

dbt's own list (``depends_on.macros``) leaves out what is called through a variable, and names one
of several macros that dispatch may choose. So every identifier or string in Jinja that names a
macro counts as a call of all macros of that name: too much now and then, never too little.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

from dbt_orchestration.changes.properties import Path
from dbt_orchestration.changes.text import Text, read_macro

# Jinja that asks the warehouse or the run, so that compiled SQL is no function of the project.
_ASKING = {
    "run_query": "runs a query",
    "statement": "runs a query",
    "load_result": "runs a query",
    "invocation_args_dict": "reads the command line",
    "selected_resources": "reads the selection",
    "flags": "reads flags",
    "run_started_at": "reads the clock",
    "random": "picks at random",
    "thread_id": "reads the thread",
    "submit_python_job": "runs Python",
    "dbt_metadata_envs": "reads the environment",
}
_PURE_ADAPTER = frozenset({"dispatch", "quote", "quote_as_configured", "quote_seed_column", "type"})
_CLOCK = frozenset({"now", "utcnow", "today", "localtime", "time"})
_STRATEGY = re.compile(r"get_incremental_\w+_sql|snapshot_\w+_strategy")
_NOTHING: frozenset[Any] = frozenset()
_COMPUTED = "calls a macro whose name is computed"
# Its answer is given when compiling: once yes, once no.
_INTERNAL_PURE = frozenset({"is_incremental"})


@dataclass(frozen=True)
class Reached:
    """What a text reaches.

    Attributes:
        macros: unique ids of the project's and packages' macros; dbt's own are left out, because
            both states are always read by the same dbt.
        called: unique ids of all macros, dbt's own included.
        variables: names given to ``var``; None stands for a name that is computed.
        env_vars: names given to ``env_var``, likewise.
        asks: why compiled SQL may differ from one run to the next; empty if it may not.
        incremental: it reaches ``is_incremental``.
        properties: which of the node's own properties it reads; the empty path is all of them.
        graph: it reads the properties of all nodes.
        dispatches: a macro of the project or a package leaves it to dbt which macro it calls.
        names: identifiers and strings in the Jinja of the project and packages.
        target: attributes of ``target`` that the project and packages read; "*" stands for any.
        computed: names of what is looked into by a computed key; ``dispatch`` if it computes.
    """

    macros: frozenset[str]
    called: frozenset[str]
    variables: frozenset[str | None]
    env_vars: frozenset[str | None]
    asks: frozenset[str]
    incremental: bool
    properties: frozenset[Path]
    graph: bool
    dispatches: bool
    names: frozenset[str]
    target: frozenset[str] = frozenset()
    computed: frozenset[str] = frozenset()

    @classmethod
    def together(cls, parts: Iterable[Reached]) -> Reached:
        parts = list(parts)
        none: frozenset[Any] = frozenset()
        return cls(
            none.union(*(part.macros for part in parts)),
            none.union(*(part.called for part in parts)),
            none.union(*(part.variables for part in parts)),
            none.union(*(part.env_vars for part in parts)),
            none.union(*(part.asks for part in parts)),
            any(part.incremental for part in parts),
            none.union(*(part.properties for part in parts)),
            any(part.graph for part in parts),
            any(part.dispatches for part in parts),
            none.union(*(part.names for part in parts)),
            none.union(*(part.target for part in parts)),
            none.union(*(part.computed for part in parts)),
        )


@dataclass
class Macros:
    """The macros of one manifest.

    Attributes:
        nodes: ``manifest["macros"]``.
        internal: packages whose macros belong to dbt and its adapter.
        root: the name of the project.
        searched: packages that ``dispatch`` of dbt_project.yml names for dbt's own macros.
    """

    nodes: Mapping[str, Mapping[str, Any]]
    internal: frozenset[str]
    root: str = ""
    searched: frozenset[str] = frozenset()
    _closures: dict[tuple[frozenset[str], str, frozenset[str]], Reached] = field(
        default_factory=dict
    )

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for unique_id, macro in self.nodes.items():
            name = macro["name"]
            names.setdefault(name, []).append(unique_id)
            if "__" in name:
                # What adapter.dispatch("x") chooses from: default__x, snowflake__x, …
                names.setdefault(name.split("__", 1)[1], []).append(unique_id)
        return names

    @cached_property
    def _plain(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = {}
        for unique_id, macro in self.nodes.items():
            names.setdefault(macro["name"], []).append(unique_id)
        return names

    @cached_property
    def _packages(self) -> frozenset[str]:
        return frozenset(macro["package_name"] for macro in self.nodes.values())

    def reached(self, texts: Iterable[Text], roots: Iterable[str] = (), *, package: str) -> Reached:
        """Everything ``texts`` reach; ``roots`` are further macros they are known to call.

        Args:
            package: that of the node for which they are rendered.
        """
        texts = list(texts)
        start = {m for text in texts for m in self._called(text, package)} | {
            root for root in roots if root in self.nodes
        }
        return Reached.together([self._closure(frozenset(start), package), *map(_read, texts)])

    def without_hooks(
        self, roots: Iterable[str], text: Text, hooks: Iterable[Text], *, package: str
    ) -> list[str]:
        """Those of ``roots``, which a node calls, that not only its hooks call.

        dbt does not say which. What a text calls stands in it by name, unless the name is computed.
        """
        alone = self.reached([text], package=package)
        if alone.computed & {"context", "dispatch", *self._packages}:
            return list(roots)
        of_hooks = self.reached(hooks, package=package).called
        return [root for root in roots if root in alone.called or root not in of_hooks]

    def materialization(
        self, name: str, adapter: str, package: str, aside: Iterable[str] = ()
    ) -> Reached:
        """What dbt builds a node of this materialization through, without the macros ``aside``."""
        names = [f"materialization_{name}_{adapter}", f"materialization_{name}_default"]
        start = {m for n in names for m in self._plain.get(n, ())}
        if name == "incremental":
            start.update(self._strategies(package))
        return self._closure(frozenset(start), package, frozenset(aside))

    @property
    def own(self) -> list[Mapping[str, Any]]:
        """The macros of the project and its packages."""
        return [
            macro for unique_id, macro in self.nodes.items() if not self._is_internal(unique_id)
        ]

    def same_as(self, other: Macros) -> bool:
        """Whether all macros, dbt's own included, have the same text."""
        return self.nodes.keys() == other.nodes.keys() and all(
            macro["macro_sql"] == other.nodes[unique_id]["macro_sql"]
            for unique_id, macro in self.nodes.items()
        )

    def content(self, unique_id: str) -> str:
        """A macro's text without comments."""
        return read_macro(self.nodes[unique_id]["macro_sql"]).content

    def where(self, unique_id: str) -> str:
        """``macro minutes_between (macros/minutes.sql)``"""
        macro = self.nodes[unique_id]
        return f"macro {macro['name']} ({macro['original_file_path']})"

    def _is_internal(self, unique_id: str) -> bool:
        return self.nodes[unique_id]["package_name"] in self.internal

    def _called(self, text: Text, package: str, own: str = "") -> set[str]:
        """Macros that Jinja of the project or a package names.

        Args:
            package: the package of the node it is rendered for.
            own: the package of the macro whose text it is.
        """
        if "context" in text.names or text.alone & self._packages:
            # By a name that stands elsewhere in the text.
            return {m for n in text.names | text.strings for m in self._by_name.get(n, ())}
        found = {
            unique_id
            for name in text.bare
            for unique_id in self._plain.get(name, ())
            if self._is_near(unique_id, package, own)
        }
        for base, name in text.attributes:
            if base in self._packages:
                known = self._plain.get(name, ())
                inside = self.internal if base == "dbt" else {base}
                found.update(m for m in known if self.nodes[m]["package_name"] in inside)
        dispatched = [name for function, name in text.calls if function == "dispatch" and name]
        # Any package may be searched, and macros may be called as if they were dispatched to.
        found.update(m for name in dispatched for m in self._by_name.get(name, ()))
        return found

    def _called_by_dbt(self, text: Text, package: str) -> set[str]:
        """dbt's own macros call by name and by dispatch; other names in them are variables."""
        names = {function for function, _ in text.calls}
        names |= {name for function, name in text.calls if function == "dispatch" and name}
        found = (unique_id for name in names for unique_id in self._by_name.get(name, ()))
        return {m for m in found if self._is_near(m, package) or self._is_searched(m)}

    def _is_near(self, unique_id: str, package: str, own: str = "") -> bool:
        """Whether a plain name may be this macro, for a node of ``package``.

        https://docs.getdbt.com/reference/dbt-jinja-functions/dispatch
        """
        where = self.nodes[unique_id]["package_name"]
        return where in (package, own, self.root) or where in self.internal

    def _is_searched(self, unique_id: str) -> bool:
        return self.nodes[unique_id]["package_name"] in self.searched

    def _strategies(self, package: str) -> list[str]:
        """What the adapter looks up in Python, by the name of a strategy."""
        names = [n for n in self._plain if _STRATEGY.fullmatch(n)]
        return [m for n in names for m in self._plain[n] if self._is_near(m, package)]

    def _closure(
        self, start: frozenset[str], package: str, without: frozenset[str] = _NOTHING
    ) -> Reached:
        if (known := self._closures.get((start, package, without))) is not None:
            return known
        seen: set[str] = set()
        waiting = list(start)
        parts: list[Reached] = []
        while waiting:
            unique_id = waiting.pop()
            if unique_id in seen or unique_id in without:
                continue
            seen.add(unique_id)
            macro = self.nodes[unique_id]
            internal = self._is_internal(unique_id)
            if internal and macro["name"] in _INTERNAL_PURE:
                continue
            text = read_macro(macro["macro_sql"])
            part = _read(text)
            if internal and _COMPUTED in part.asks:
                # dbt computes one name: that of a snapshot's strategy.
                part = replace(part, asks=part.asks - {_COMPUTED})
                waiting.extend(self._strategies(package))
            if internal:
                part = replace(part, properties=_NOTHING, graph=False, dispatches=False)
                part = replace(part, names=_NOTHING, target=_NOTHING, computed=_NOTHING)
            parts.append(part)
            if internal:
                waiting.extend(self._called_by_dbt(text, package))
            else:
                waiting.extend(self._called(text, package, macro["package_name"]))
            # dbt lists macros of any package by name; what runs is one that is near.
            own = "" if internal else macro["package_name"]
            waiting.extend(
                m
                for m in macro["depends_on"]["macros"]
                if m in self.nodes
                and (
                    self._is_near(m, package, own)
                    or self._is_searched(m)
                    or self.nodes[m]["package_name"] in text.names | text.strings
                )
            )
            if _COMPUTED in part.asks:
                waiting.extend(m for m in self.nodes if not self._is_internal(m))
        below = Reached.together(parts)
        macros = frozenset(unique_id for unique_id in seen if not self._is_internal(unique_id))
        known = replace(below, macros=macros, called=frozenset(seen))
        self._closures[start, package, without] = known
        return known


@lru_cache(maxsize=100_000)
def _read(text: Text) -> Reached:
    """What a text reaches by itself, without the macros it calls."""
    variables = {argument for name, argument in text.calls if name in ("var", "has_var")}
    env_vars = {argument for name, argument in text.calls if name == "env_var"}
    asks = {why for name, why in _ASKING.items() if name in text.names}
    objects = {thing for thing, _ in text.attributes}
    for thing, attribute in text.attributes:
        if thing == "adapter" and attribute not in _PURE_ADAPTER:
            asks.add(f"asks the warehouse (adapter.{attribute})")
        elif thing == "context" and attribute == "*":
            asks.add(_COMPUTED)
    if "modules" in text.names and text.names & _CLOCK:
        asks.add("reads the clock")
    if "adapter" in text.names and "adapter" not in objects:
        asks.add("asks the warehouse")
    return Reached(
        frozenset(),
        frozenset(),
        frozenset(variables or ({None} if "var" in text.names else ())),
        frozenset(env_vars or ({None} if "env_var" in text.names else ())),
        frozenset(asks),
        "is_incremental" in text.names,
        text.properties,
        "graph" in text.names,
        "dispatch" in text.names,
        text.names | text.strings,
        frozenset(attribute for thing, attribute in text.attributes if thing == "target")
        or frozenset({"*"} if "target" in text.names else ()),
        frozenset(thing for thing, attribute in text.attributes if attribute == "*")
        | ({"dispatch"} if ("dispatch", None) in text.calls else frozenset()),
    )
