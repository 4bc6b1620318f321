"""dbt's selection on a manifest that was read as JSON, without dbt's making its nodes of it.

That takes seconds on a large project. dagster-dbt does the same, but knows nothing of the method
``selector:``, and needs Dagster. ``tests/test_dbt_internals.py`` holds a contract test.
"""

from __future__ import annotations

import inspect
from argparse import Namespace
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Of which dbt reads attributes only; of others it asks for their classes.
_PLAIN = ("nodes", "sources", "exposures", "metrics")
_TYPED = {
    "semantic_models": "SemanticModel",
    "saved_queries": "SavedQuery",
    "unit_tests": "UnitTestDefinition",
    "functions": "FunctionNode",
}


class _Dotted(dict[str, Any]):
    """A mapping whose values are attributes."""

    def __getattr__(self, name: str) -> Any:
        value = self.get(name)
        return _Dotted(value) if isinstance(value, dict) else value


def select(
    manifest: Mapping[str, Any], project_dir: Path, chosen: str, exclude: str, selector: str
) -> AbstractSet[str]:
    """The unique ids of all that is chosen: tests and sources as well.

    Args:
        project_dir: what ``path:`` starts at.
        chosen: dbt's selection; it does not count where there is a ``selector``.
        selector: the name of a selector of selectors.yml.

    Raises:
        ValueError: there is no such selector.
        DbtBaseException: dbt does not understand it.
    """
    from dbt.contracts.graph import nodes
    from dbt.contracts.graph.manifest import Manifest
    from dbt.contracts.selection import SelectorFile
    from dbt.graph import cli
    from dbt.graph.graph import Graph
    from dbt.graph.selector import NodeSelector
    from dbt_common.events.contextvars import task_contextvars
    from networkx import DiGraph

    parts: dict[str, Any] = {
        kind: {u: _Dotted(each) for u, each in (manifest.get(kind) or {}).items()}
        for kind in _PLAIN
    }
    for kind, name in _TYPED.items():
        found = manifest.get(kind) or {}
        parts[kind] = {u: getattr(nodes, name).from_dict(each) for u, each in found.items()}
    with _flags(), task_contextvars(project_root=str(project_dir)):
        file = {"selectors": list((manifest.get("selectors") or {}).values())}
        selectors: Any = cli.parse_from_selectors_definition(SelectorFile.from_dict(file))
        if selector and selector not in selectors:
            raise ValueError(f"selectors.yml has no {selector!r}")
        wanted: Any = (
            selectors[selector]["definition"] if selector else cli.parse_union([chosen], True)
        )
        if exclude:
            without = cli.parse_union([exclude], False)
            wanted = cli.SelectionDifference(components=[wanted, without])
        graph = Graph(DiGraph(incoming_graph_data=manifest["child_map"]))
        # dbt 1.11 has no method of that name, and refuses it as it does any other.
        knows = "selectors" in inspect.signature(NodeSelector).parameters
        named = {"selectors": selectors} if knows else {}
        found, _ = NodeSelector(graph, Manifest(**parts), **named).select_nodes(wanted)
    return frozenset(found)


@contextmanager
def _flags() -> Iterator[None]:
    """The tests on what is chosen are chosen, whatever dbt was told last in this process."""
    from dbt import flags
    from dbt.graph.selector_spec import IndirectSelection

    before = flags.get_flags()
    said = {name.upper(): value for name, value in flags.get_flag_dict().items()}
    eager = {"INDIRECT_SELECTION": IndirectSelection.Eager, "WARN_ERROR": True}
    flags.set_flags(Namespace(**{**said, **eager}))
    try:
        yield
    finally:
        flags.set_flags(before)
