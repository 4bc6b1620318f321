"""Which microbatch models of a project may have several of their batches run as one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from dbt_orchestration.changes.columns.names import Names, Opaque, dialect_of
from dbt_orchestration.changes.merging.mergeable import batch_dependent, why_not_mergeable
from dbt_orchestration.changes.policy import partitions_meta
from dbt_orchestration.changes.project import Project


def unmergeable(project: Project) -> dict[str, str]:
    """Why the batches of each microbatch model cannot be run together; "" if they can.

    Args:
        project: with the compiled SQL of its models.
    """
    return {
        unique_id: why_unmergeable(project, unique_id)
        for unique_id, node in project.nodes.items()
        if node["resource_type"] == "model"
        if (node.get("config") or {}).get("incremental_strategy") == "microbatch"
    }


def why_alone(node: Mapping[str, Any], proof: str) -> str:
    """Why several batches of a microbatch model may give other rows than one; "" if they do not.

    Args:
        node: of the manifest. It may say what nobody can prove.
        proof: as ``unmergeable`` has it.
    """
    return "" if partitions_meta(node).get("mergeable") else proof


def why_unmergeable(project: Project, unique_id: str) -> str:
    """Why the batches of a microbatch model cannot be run together; "" if they can."""
    node = project.nodes[unique_id]
    config, compiled = node["config"], project.compiled.get(unique_id)
    if why := _of_config(node):
        return why
    for code in _jinja(project, node):
        if why := batch_dependent(code):
            return why
    if compiled is None:
        return f"its SQL is not known: {project.uncompiled.get(unique_id, 'not compiled')}"
    try:
        names = Names(dialect_of(project.adapter))
        inputs = dict(_inputs(project, unique_id, names))
    except Opaque as opaque:
        return str(opaque)
    return why_not_mergeable(
        compiled.full, project.adapter, config["batch_size"], str(config["event_time"]), inputs
    )


def _of_config(node: Mapping[str, Any]) -> str:
    config = node["config"]
    if node.get("language") == "python":
        return "a Python model"
    if config.get("pre-hook") or config.get("post-hook"):
        return "has hooks, which run with each batch"
    if config.get("incremental_predicates") or config.get("predicates"):
        return "has incremental_predicates"
    return ""


def _jinja(project: Project, node: Mapping[str, Any]) -> Iterator[str]:
    """The model's own and that of every macro of the project that it calls."""
    yield node["raw_code"]
    macros = project.manifest["macros"]
    waiting, seen = list(node["depends_on"].get("macros") or ()), set[str]()
    while waiting:
        unique_id = waiting.pop()
        macro = macros.get(unique_id)
        if unique_id in seen or macro is None:
            continue
        seen.add(unique_id)
        if macro["package_name"] in ("dbt", f"dbt_{project.adapter}"):
            continue  # how SQL is spelled; what they could know of the batch, they do not use
        yield macro["macro_sql"]
        waiting += macro["depends_on"].get("macros") or ()


def _inputs(
    project: Project, unique_id: str, names: Names
) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """What the SQL reads, and by which column dbt filters it.

    dbt filters what the model itself refers to. What an ephemeral model refers to is read whole.

    Raises:
        Opaque: a relation is read in both ways.
    """
    found: dict[tuple[str, ...], str | None] = {}
    waiting = [(parent, True) for parent in project.parents(unique_id)]
    while waiting:
        parent, direct = waiting.pop()
        node = project.nodes[parent]
        config = node.get("config") or {}
        path = names.path(node.get("relation_name") or "")
        time = config.get("event_time") if direct else None
        if config.get("materialized") == "ephemeral":
            path = (names.normal(f"__dbt__cte__{node['name']}", quoted=False),)
            waiting += [(above, False) for above in project.parents(parent)]
        if path in found and found[path] != time:
            raise Opaque(f"reads {node['name']} directly and through an ephemeral model")
        found[path] = time
    yield from found.items()
