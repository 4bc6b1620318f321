"""In which group a dbt node is, and who owns it, where nobody translates that otherwise."""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from typing import Any

from dbt_orchestration.changes.terms import digest
from dbt_orchestration.settings.project_meta import read_meta

NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9_]+")
_EMAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_LENGTH = 8


def valid_name(name: str) -> str:
    """``name``, or what stands for it where Dagster would refuse it."""
    plain = NOT_IN_NAMES.sub("_", name)
    return name if plain == name and name else f"{plain}_{digest(name)[:_LENGTH]}"


def as_owner(owner: str) -> str:
    """dbt's owner as Dagster takes it: an e-mail address, or ``team:name``."""
    return owner if _EMAIL.fullmatch(owner) else f"team:{NOT_IN_NAMES.sub('_', owner)}"


def group_name(node: Mapping[str, Any]) -> str:
    """The group: that of ``meta.dagster`` or of dbt, or else the folder, or the kind of node."""
    group = read_meta(node).group or (node.get("config") or {}).get("group")
    if node["resource_type"] == "source":
        group = group or node["source_name"]
    fqn = node.get("fqn") or []
    group = group or (fqn[1] if fqn[2:] else f"{node['resource_type']}s")
    plain = NOT_IN_NAMES.sub("_", group)
    return plain if group.isascii() and plain.strip("_") else valid_name(group)


def owners_of(node: Mapping[str, Any], group: Mapping[str, Any] | None) -> list[str]:
    """The owners: those of ``meta.dagster``, or else of the dbt group that the node is in."""
    owners: Any = read_meta(node).owners
    if not owners and group:
        owner = group.get("owner") or {}
        owners = owner.get("email") or owner.get("name") or group["name"]
    return [as_owner(each) for each in ([owners] if isinstance(owners, str) else owners)]


def groups_and_owners(manifest: Mapping[str, Any]) -> tuple[Set[str], Set[str]]:
    """All that some node or source of a project has."""
    groups, owners = set[str](), set[str]()
    named = {each["name"]: each for each in (manifest.get("groups") or {}).values()}
    for node in (*manifest["nodes"].values(), *manifest["sources"].values()):
        if node["resource_type"] in ("model", "seed", "snapshot", "source"):
            groups.add(group_name(node))
            owners.update(owners_of(node, named.get(node.get("group"))))
    return groups, owners
