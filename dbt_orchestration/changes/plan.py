"""The plan: what to build to get from one state of a project to another, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dbt_orchestration.changes.actions import Action, Change, action_for, partition_changes
from dbt_orchestration.changes.fingerprints import Fingerprint, Fingerprints, cast_type
from dbt_orchestration.changes.materializations import own_materializations
from dbt_orchestration.changes.policy import HistoryPolicy
from dbt_orchestration.changes.reasons import Reasons, differing, display_name
from dbt_orchestration.changes.relation_names import names_read, relation_name

__all__ = ["Change", "ChangedTest", "Deleted", "DueNode", "Plan", "diff"]

VERSION = 1

# These decide which partitions there are, and not what is in one.
_PARTITION_SET = frozenset({"config:begin", "config:batch_size", "config:meta.dagster.partitions"})


@dataclass(frozen=True)
class DueNode:
    """A node to build.

    Attributes:
        action: ``build``, ``partitions`` (rebuild history, partition by partition) or
            ``full_refresh``.
        reasons: chains from the node to what was edited, the shortest first.
        note: why it is this action, where another might be expected, or that it waits for somebody.
    """

    unique_id: str
    name: str
    resource_type: str
    action: Action
    changes: tuple[Change, ...]
    reasons: tuple[tuple[str, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class ChangedTest:
    """A test whose definition changed. The node that it tests is not due because of it."""

    unique_id: str
    name: str
    reasons: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Deleted:
    """A node that is gone, and the relation it leaves in the warehouse; "" if none."""

    unique_id: str
    name: str
    relation: str


@dataclass(frozen=True)
class Plan:
    """What is due from ``base`` to ``head``, parents before children.

    Attributes:
        opaque: unique id and why, of nodes whose columns cannot be told apart.
        unchanged: how many nodes are left alone.
        notes: what made the plan less precise than it could be.
    """

    due: tuple[DueNode, ...]
    checks: tuple[ChangedTest, ...]
    deleted: tuple[Deleted, ...]
    opaque: tuple[tuple[str, str], ...]
    unchanged: int
    base: str | None = None
    head: str | None = None
    notes: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        """Whether anything is due."""
        return bool(self.due or self.checks)

    def only(self, unique_ids: Collection[str]) -> Plan:
        """The plan for these nodes and tests."""
        return replace(
            self,
            due=tuple(node for node in self.due if node.unique_id in unique_ids),
            checks=tuple(check for check in self.checks if check.unique_id in unique_ids),
            opaque=tuple(pair for pair in self.opaque if pair[0] in unique_ids),
        )

    def as_json(self) -> dict[str, Any]:
        """docs/plan.md documents it."""
        return {
            "version": VERSION,
            "base": self.base,
            "head": self.head,
            "due": [
                {
                    "unique_id": node.unique_id,
                    "name": node.name,
                    "resource_type": node.resource_type,
                    "action": node.action,
                    "change": [
                        {"kind": c.kind, **({"what": c.what} if c.what else {})}
                        for c in node.changes
                    ],
                    "reason": [list(chain) for chain in node.reasons],
                    **({"note": node.note} if node.note else {}),
                }
                for node in self.due
            ],
            "checks": [
                {"unique_id": c.unique_id, "name": c.name, "reason": [list(r) for r in c.reasons]}
                for c in self.checks
            ],
            "deleted": [
                {"unique_id": d.unique_id, "name": d.name, "relation": d.relation}
                for d in self.deleted
            ],
            "opaque": [{"unique_id": unique_id, "why": why} for unique_id, why in self.opaque],
            "unchanged": self.unchanged,
            "notes": list(self.notes),
        }


def diff(
    base: Fingerprints, head: Fingerprints, alone: Callable[[str], str] = lambda _: ""
) -> Plan:
    """What must be built so that a warehouse built from ``base`` is what ``head`` says.

    Args:
        alone: why the partitions of a microbatch model, by unique id, cannot be rebuilt where they
            are, on either side; "" if they can.

    Raises:
        ValueError: the two were made under different schemes; make both again.
    """
    if base.scheme != head.scheme:
        raise ValueError(f"fingerprints of schemes {base.scheme} and {head.scheme} do not compare")
    former = _renamed(base, head)
    reasons = Reasons(base, head, former)
    own = own_materializations(head.project.manifest)
    due: list[DueNode] = []
    unchanged = 0
    for unique_id, node in head.nodes.items():
        before = base.nodes.get(unique_id) or base.nodes.get(former.get(unique_id, ""))
        if _is_ephemeral(head, unique_id):
            continue
        kept = reasons.no_longer_kept(node)
        if before is not None and before.plain == node.plain and not kept:
            if moved := _moved(base, head, before, node, own):
                due.append(moved)
            else:
                unchanged += 1
            continue
        made = _due(base, head, before, node, alone=alone, own=own, kept=kept)
        due.append(replace(made, reasons=reasons.of(unique_id)))
    return Plan(
        tuple(due),
        tuple(_checks(base, head, reasons)),
        tuple(_deleted(base, head, former)),
        tuple((n.unique_id, n.opaque) for n in head.nodes.values() if n.opaque),
        unchanged,
    )


def _due(
    base: Fingerprints,
    head: Fingerprints,
    before: Fingerprint | None,
    node: Fingerprint,
    *,
    alone: Callable[[str], str],
    own: Collection[str],
    kept: Collection[str],
) -> DueNode:
    """A node that is due, without the reasons."""
    project = head.project
    properties = project.nodes[node.unique_id]
    changes = tuple(_changes(base, head, before, node, kept))
    microbatch = properties["config"].get("incremental_strategy") == "microbatch"
    action, note = action_for(
        base.project.nodes[before.unique_id] if before else None,
        properties,
        changes,
        own=own,
        alone=alone(node.unique_id) if microbatch else "",
    )
    name, kind = display_name(head, node.unique_id), properties["resource_type"]
    return DueNode(node.unique_id, name, kind, action, changes, (), note)


def _changes(
    base: Fingerprints,
    head: Fingerprints,
    before: Fingerprint | None,
    node: Fingerprint,
    kept: Collection[str],
) -> list[Change]:
    if before is None or _is_ephemeral(base, before.unique_id):
        return [Change("new")]
    changes: list[Change] = []
    if before.unique_id != node.unique_id:
        changes.append(Change("renamed", base.project.nodes[before.unique_id]["name"]))
    elif before.components.own.get("relation") != node.components.own.get(
        "relation"
    ) or _is_elsewhere(base, head, before, node):
        changes.append(Change("name", _relation(base, before.unique_id)))
    old, new = before.linked, node.linked
    nodes = base.project.nodes[before.unique_id], head.project.nodes[node.unique_id]
    partitions = partition_changes(*nodes)
    changes += partitions
    if (
        kept
        or before.components.wide != node.components.wide
        or (old.rows != new.rows and not (partitions and _same_but_for_partitions(before, node)))
    ):
        changes.append(Change("rows"))
    if _other_profile(before, node):
        changes.append(Change("columns"))  # of which types, the warehouse says
    elif old.rest or new.rest:
        changes += [Change("columns")] if old.whole != new.whole else []
    else:
        changes += _column_changes(base, head, before, node)
    own_old, own_new = before.components.own, node.components.own
    for key in differing(own_old, own_new):
        if key in ("order", "names"):
            changes.append(Change(key))
        elif key != "relation":
            kind, _, name = key.partition(":")
            changes.append(Change("config", name or kind))
    return changes or [Change("columns")]


def _other_profile(before: Fingerprint, node: Fingerprint) -> bool:
    differ = differing(before.components.wide, node.components.wide)
    return any(key.startswith("profile:") for key in differ)


def _moved(
    base: Fingerprints,
    head: Fingerprints,
    before: Fingerprint,
    node: Fingerprint,
    own: Collection[str],
) -> DueNode | None:
    """A node that is the same, in another database or schema of the target, or reads such a one."""
    unique_id = node.unique_id
    properties = head.project.nodes[unique_id]
    former, name = base.project.nodes[before.unique_id], display_name(head, unique_id)
    if _is_elsewhere(base, head, before, node):
        change = Change("name", _relation(base, before.unique_id))
        reason = f"its relation was {relation_name(former)} and is {relation_name(properties)}"
    elif names_read(base.project.nodes, before.unique_id) != names_read(
        head.project.nodes, unique_id
    ):
        change, reason = Change("config", "reads"), "name of a relation it reads"
    else:
        return None
    action, note = action_for(former, properties, (change,), own=own)
    kind = properties["resource_type"]
    return DueNode(unique_id, name, kind, action, (change,), ((name, reason),), note)


def _is_elsewhere(
    base: Fingerprints, head: Fingerprints, before: Fingerprint, node: Fingerprint
) -> bool:
    old, new = base.project.nodes[before.unique_id], head.project.nodes[node.unique_id]
    return relation_name(old).lower() != relation_name(new).lower()


def _same_but_for_partitions(before: Fingerprint, node: Fingerprint) -> bool:
    """Whether the rows of a partition that both have are the same."""
    differ = differing(before.components.content, node.components.content)
    return before.linked.query == node.linked.query and _PARTITION_SET.issuperset(differ)


def _column_changes(
    base: Fingerprints, head: Fingerprints, before: Fingerprint, node: Fingerprint
) -> list[Change]:
    old, new = before.linked.named, node.linked.named
    changes = [Change("column_added", name) for name in new if name not in old]
    changes += [Change("column_removed", name) for name in old if name not in new]
    for name in new:
        if name in old and old[name] != new[name]:
            retyped = cast_type(base, before, name) != cast_type(head, node, name)
            changes.append(Change("column_retyped" if retyped else "column_changed", name))
    if _reordered(head, node, list(old), list(new)):
        changes.append(Change("columns_reordered"))
    return changes


def _reordered(head: Fingerprints, node: Fingerprint, old: list[str], new: list[str]) -> bool:
    common = [name for name in new if name in old]
    if common != [name for name in old if name in new]:
        return True
    # dbt adds columns behind those that a table has. Any other relation it recreates.
    properties = head.project.nodes[node.unique_id]
    return HistoryPolicy.of(properties).incremental and new[: len(common)] != common


def _renamed(base: Fingerprints, head: Fingerprints) -> dict[str, str]:
    """New node to the deleted one it was: the same content, or the same relation, and no other."""
    gone = {u: n for u, n in base.nodes.items() if u not in head.nodes}
    come = {u: n for u, n in head.nodes.items() if u not in base.nodes}
    former: dict[str, str] = {}
    for by in (_relation_and_kind, _content_and_kind):
        old = _unique(base, {u: n for u, n in gone.items() if u not in former.values()}, by)
        new = _unique(head, {u: n for u, n in come.items() if u not in former}, by)
        former.update({new[key]: old[key] for key in new.keys() & old.keys()})
    return former


def _unique(state: Fingerprints, nodes: Mapping[str, Fingerprint], by: Any) -> dict[Any, str]:
    groups: dict[Any, list[str]] = {}
    for unique_id, node in nodes.items():
        groups.setdefault(by(state, node), []).append(unique_id)
    return {key: members[0] for key, members in groups.items() if len(members) == 1}


def _relation_and_kind(state: Fingerprints, node: Fingerprint) -> tuple[str, str]:
    kind = state.project.nodes[node.unique_id]["resource_type"]
    return kind, node.components.own.get("relation", "")


def _content_and_kind(state: Fingerprints, node: Fingerprint) -> tuple[str, str]:
    return state.project.nodes[node.unique_id]["resource_type"], node.linked.whole


def _checks(base: Fingerprints, head: Fingerprints, reasons: Reasons) -> list[ChangedTest]:
    due = []
    for unique_id, parts in head.checks.items():
        before = base.checks.get(unique_id)
        if before is None or before.code != parts.code:
            name = head.project.nodes[unique_id]["name"]
            due.append(ChangedTest(unique_id, name, reasons.of_check(unique_id)))
    return due


def _deleted(base: Fingerprints, head: Fingerprints, former: Mapping[str, str]) -> list[Deleted]:
    relations = {
        head.project.nodes[u].get("relation_name") for u in head.nodes if not _is_ephemeral(head, u)
    }
    gone = [u for u in base.nodes if u not in head.nodes or _is_ephemeral(head, u)]
    return [
        Deleted(u, base.project.nodes[u]["name"], _relation(base, u))
        for u in gone
        if (
            not _is_ephemeral(base, u)
            and base.project.nodes[u].get("relation_name") not in relations
        )
        or (u not in head.nodes and u not in former.values())
    ]


def _relation(state: Fingerprints, unique_id: str) -> str:
    if _is_ephemeral(state, unique_id):
        return ""
    return str(state.project.nodes[unique_id].get("relation_name") or "")


def _is_ephemeral(state: Fingerprints, unique_id: str) -> bool:
    return bool(state.project.nodes[unique_id]["config"].get("materialized") == "ephemeral")
