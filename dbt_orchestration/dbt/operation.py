"""Our own macros, run in a warehouse, and what they answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from dbt_orchestration.dbt.internals import manifests
from dbt_orchestration.dbt.invocation import DbtInvocation, DbtTarget

_MACROS = Path(__file__).parent / "macros"


def operate(target: DbtTarget, manifest: Any, macro: str, scratch: str, **arguments: Any) -> Any:
    """Run a macro of the folder ``macros``, and return what it logged as its answer, if anything.

    Args:
        manifest: dbt's own; the macros are added to it.
        scratch: a folder for what dbt writes.

    Raises:
        DbtError: the warehouse cannot be reached, or refused.
    """
    _add_macros(manifest)
    command = ["run-operation", f"dbt_orchestration__{macro}", "--args", json.dumps(arguments)]
    command += ["--no-write-json", "--quiet", "--target-path", scratch]
    invocation = DbtInvocation(target, command, manifest)
    invocation.finish()
    return invocation.answer


def table_of(nodes: Mapping[str, Mapping[str, Any]], unique_id: str) -> dict[str, Any]:
    """A node's relation, as our macros are told of it."""
    node = nodes[unique_id]
    return {
        "unique_id": unique_id,
        "database": node["database"],
        "schema": node["schema"],
        "identifier": node["alias"],
    }


def take_as_built(manifest: Any, unique_id: str) -> None:
    """Make dbt take a node's table as it stands, and test it.

    Args:
        manifest: dbt's own; our macros are added to it.
    """
    _add_macros(manifest)
    manifests.take_as_built(manifest, unique_id, "dbt_orchestration__as_built")


def make_pointers(
    target: DbtTarget,
    nodes: Mapping[str, Mapping[str, Any]],
    load: Callable[[], Any],
    scratch: str,
    options: Sequence[str],
) -> None:
    """Have dbt make the views that point at models, as their latest versions, and nothing else.

    Args:
        nodes: models whose tables stand, by unique id, also such as have no such view.
        load: dbt's own manifest, a new one.
        scratch: a folder for what dbt writes.
        options: for dbt, as for the build.

    Raises:
        DbtError: the warehouse cannot be reached, or refused.
    """
    versioned = {u: node for u, node in nodes.items() if node.get("version") is not None}
    latest = {u for u, node in versioned.items() if node["version"] == node["latest_version"]}
    if not latest:
        return
    manifest = load()
    pointed_at = {u for u in latest if manifests.has_pointer(manifest, u)}
    if not pointed_at:
        return
    for unique_id in pointed_at:
        take_as_built(manifest, unique_id)
    manifests.select_exactly(manifest, pointed_at)
    command = ["run", "--no-write-json", "--quiet", "--target-path", scratch, *options]
    DbtInvocation(target, command, manifest).finish()


def _add_macros(manifest: Any) -> None:
    for file in sorted(_MACROS.glob("*.sql")):
        manifests.add_macros(manifest, file)
