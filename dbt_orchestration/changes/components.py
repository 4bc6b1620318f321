"""Level 1: what decides a node's result, from the manifest alone, part by part.

Each part has a key that says what it is (``sql``, ``macro:…``, ``var:…``, ``config:…``) and a
digest of its value. Comparing the parts of two states gives the reasons for a change.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from dbt_orchestration.changes import config
from dbt_orchestration.changes.hooks import Hook
from dbt_orchestration.changes.macros import Reached
from dbt_orchestration.changes.policy import partition_set
from dbt_orchestration.changes.project import Project
from dbt_orchestration.changes.properties import values
from dbt_orchestration.changes.relation_names import COPIES
from dbt_orchestration.changes.terms import digest, digest_value
from dbt_orchestration.changes.text import read_node, read_overloads, read_sql

# dbt_project.yml `flags:` that decide how dbt runs and talks, not what it builds.
_QUIET_FLAGS = re.compile(
    r"(send_anonymous|use_colors|use_fast|printer|log_|partial_parse|version_check|fail_fast"
    r"|warn_error|write_json|static_parser|cache_|indirect_|introspect|populate_|quiet|debug"
    r"|target_path|state_modified_|source_freshness_|skip_nodes_|validate_"
    r"|require_(?!batched|explicit_package_overrides))"
)
# What the graph says of a node once dbt has compiled it.
_COMPILED = frozenset({"compiled", "compiled_code", "compiled_sql", "extra_ctes"})


@dataclass(frozen=True)
class Components:
    """The parts that decide one node.

    Attributes:
        code: what its compiled SQL is made of. Compiled SQL, where there is some, stands for it.
        content: what else decides its rows and columns.
        own: what makes the node due, but leaves its rows and columns as they are.
        wide: what decides rows and columns of every node of the project alike.
        asks: why compiled SQL says nothing reliable; empty if it does.
        incremental: its SQL is another one when the table exists.
    """

    code: Mapping[str, str]
    content: Mapping[str, str]
    own: Mapping[str, str]
    wide: Mapping[str, str] = field(default_factory=dict)
    asks: tuple[str, ...] = ()
    incremental: bool = False


def components(project: Project, unique_id: str) -> Components:
    """The components of a model, seed, snapshot, function, test or unit test."""
    if (known := project.memo.get(unique_id)) is None:
        known = project.memo[unique_id] = _components(project, unique_id)
    return cast(Components, known)


def _components(project: Project, unique_id: str) -> Components:
    node = project.nodes[unique_id]
    kind = node["resource_type"]
    if kind == "unit_test":
        said = {key: node.get(key) for key in ("model", "given", "expect", "overrides", "versions")}
        return Components({"definition": digest_value(said)}, {}, {})
    reached = project.reached_by(unique_id)
    code = _code(project, node, reached)
    if kind == "test":
        code |= {f"config:{key}": digest_value(v) for key, v in config.test_keys(node).items()}
        # A generic test calls the relation it tests `model`, as other nodes call themselves.
        code.pop("properties", None)
        if generic := node.get("test_metadata"):
            # dbt writes its SQL: a call of the macro, and the config, tags and all.
            del code["sql"]
            code["arguments"] = digest_value(
                [generic["name"], sorted((generic.get("kwargs") or {}).items())]
            )
        return Components(code, {}, {})
    own = {f"config:{key}": digest_value(value) for key, value in config.own_keys(node).items()}
    own["relation"] = digest_value(project.relation_name(node))
    own |= _pointer(project, node)
    content = {f"config:{key}": digest_value(v) for key, v in config.content_keys(node).items()}
    if kind == "function":
        signature = [node.get("arguments"), node.get("returns")]
        for overload, body in zip(node.get("overloads") or (), read_overloads(node), strict=True):
            signature += [overload.get("arguments"), overload.get("returns"), body.content]
        content["signature"] = digest_value(signature)
    if kind != "seed" and node["config"].get("materialized") not in COPIES:
        own["reads"] = digest_value(sorted(_reads(project, unique_id)))
    content |= _contract(node)
    content |= _reached(project, node, project.built_through(unique_id))
    own |= _reached(project, node, project.granted_through)
    content |= _event_times(project, unique_id)
    content |= _partitions(node)
    _hooks(project, unique_id, content, own)
    incremental = reached.incremental and node["config"].get("materialized") == "incremental"
    asks = {*_asks(reached), *_asked_above(project, unique_id)}
    return Components(code, content, own, {}, tuple(sorted(asks)), incremental)


def _pointer(project: Project, node: Mapping[str, Any]) -> dict[str, str]:
    """The view without a version in its name that dbt 1.12 makes of a model's latest version."""
    stated = node["config"].get("latest_version_pointer") or {}
    if (enabled := stated.get("enabled")) is None:
        flags = (project.settings.get(project.name) or {}).get("flags") or {}
        enabled = flags.get("latest_version_pointer_enabled_by_default")
    if not enabled or node.get("version") is None:
        return {}
    latest = node["version"] == node.get("latest_version")
    return {"config:latest_version_pointer": digest_value([stated.get("alias"), latest])}


def _asked_above(project: Project, unique_id: str) -> Iterable[str]:
    """Why the ephemeral models that a node reads ask: it compiles them into its own SQL."""
    for parent in project.parents(unique_id):
        if project.is_ephemeral(parent):
            name = project.nodes[parent]["name"]
            asks = _asks(project.reached_by(parent))
            yield from (f"{why} (ephemeral {name})" for why in asks)
            yield from _asked_above(project, parent)


def describe(project: Project, unique_id: str, key: str) -> str:
    """A component's key in words: ``macro minutes_between (macros/minutes.sql)``."""
    node = project.nodes[unique_id]
    kind, _, name = key.partition(":")
    if kind == "macro" and name in project.macros.nodes:
        return project.macros.where(name)
    if kind == "function" and name in project.nodes:
        function = project.nodes[name]
        return f"function {function['name']} ({function['original_file_path']})"
    path = node.get("original_file_path", "")
    if kind in ("config", "contract"):
        return f"{kind} {name}".strip()
    words = {
        "data": f"data ({path})",
        "sql": f"SQL ({path})",
        "python": f"Python ({path})",
        "definition": f"definition ({path})",
        "arguments": f"arguments ({path})",
        "signature": f"signature ({path})",
        "properties": f"properties that a macro reads ({path})",
        "dispatch": "dispatch of dbt_project.yml",
        "graph": "the graph: properties of other nodes",
        "relation": f"name {'.'.join(p for p in project.relation_name(node) if p)}",
        "order": f"ORDER BY ({path})",
        "names": "upper and lower case of its columns' names",
        "reads": "name of a relation it reads",
        "var": f"var {name}",
        "env": f"environment variable {name}",
        "target": f"target.{name}",
        "event_time": "event_time of what it reads",
        "profile": f"{name} of the profile's target",
    }
    return words.get(kind, f"{kind.replace('_', ' ')} {name}".strip())


def _asks(reached: Reached) -> frozenset[str]:
    """Why dbt's compiled SQL is no function of the project."""
    if reached.graph and reached.names & _COMPILED:
        return reached.asks | {"reads other nodes' compiled SQL"}
    return reached.asks


def _code(project: Project, node: Mapping[str, Any], reached: Reached) -> dict[str, str]:
    if node["resource_type"] == "seed":
        data = project.seeds.get(node["unique_id"]) or str(node["checksum"])
        types = node["config"].get("column_types") or {}
        return {"data": digest(data), "config:column_types": digest_value(sorted(types.items()))}
    python = node.get("language") == "python"
    code = {"python" if python else "sql": digest(read_node(node).content)}
    return code | _reached(project, node, reached)


def _reached(project: Project, node: Mapping[str, Any], reached: Reached) -> dict[str, str]:
    parts = {f"macro:{m}": digest(project.macros.content(m)) for m in sorted(reached.macros)}
    for name in sorted(reached.variables, key=str):
        parts[f"var:{name or 'any'}"] = digest_value(project.variable(node["package_name"], name))
    for name in sorted(reached.env_vars, key=str):
        parts[f"env:{name or 'any'}"] = digest_value(project.environment_variable(name))
    for name in sorted(reached.target):
        parts[f"target:{name}"] = digest_value(_target(project, name))
    if reached.properties:
        parts["properties"] = digest_value(values(node, reached.properties))
    if reached.graph:
        parts["graph"] = project.graph(reached.names)
    if reached.dispatches:
        parts["dispatch"] = digest_value(project.dispatch)
    return parts


def _target(project: Project, name: str) -> Any:
    return sorted(project.target.items()) if name == "*" else project.target.get(name)


def project_wide(project: Project) -> dict[str, str]:
    """What decides every node: the profile, flags, dispatch, the hooks around the whole run."""
    parts = {f"profile:{key}": value for key, value in project.profile.items()}
    settings = project.settings.get(project.name) or {}
    flags = {k: v for k, v in (settings.get("flags") or {}).items() if not _QUIET_FLAGS.match(k)}
    if flags:
        parts["flags of dbt_project.yml"] = digest_value(sorted(flags.items()))
    internal = [d for d in project.dispatch if d.get("macro_namespace") in project.macros.internal]
    if internal:
        parts["dispatch of dbt's own macros"] = digest_value(internal)
    for hook in project.hooks.for_all():
        _add(parts, _hook(project, hook))
    return parts


def _hooks(project: Project, unique_id: str, content: dict[str, str], own: dict[str, str]) -> None:
    for hook in project.hooks.of(unique_id):
        if project.hooks.decides(hook):
            _add(content, _hook(project, hook))
        elif hook.access:
            _add(own, _hook(project, hook))
    for hook in project.hooks.from_elsewhere(unique_id):
        _add(content, _hook(project, hook))


def _add(parts: dict[str, str], more: Mapping[str, str]) -> None:
    for key, value in more.items():
        parts[key] = digest(parts.get(key, ""), value)


def _hook(project: Project, hook: Hook) -> dict[str, str]:
    text = read_sql(hook.sql)
    node = project.nodes[hook.owner]
    reached = project.reached(node, [text])
    parts = _reached(project, node, reached)
    if hook.around:
        # The graph has the hook itself in it. At the end of a run it is that run's.
        parts.pop("graph", None)
        parts.pop("properties", None)
        if reached.graph and hook.kind == "on-run-start":
            parts["graph"] = project.graph(reached.names, operations=False)
        return {f"hook:{hook.kind} of {node['package_name']}": digest(text.content), **parts}
    return {f"{hook.kind}:": digest(text.content), **parts}


def _contract(node: Mapping[str, Any]) -> dict[str, str]:
    contract = node.get("contract") or {}
    if not contract.get("enforced"):
        return {}
    said = ("name", "data_type", "constraints", "quote")
    columns = [[column.get(key) for key in said] for column in node["columns"].values()]
    value = [columns, node.get("constraints"), contract.get("alias_types")]
    return {"contract:": digest_value(value)}


def _event_times(project: Project, unique_id: str) -> dict[str, str]:
    """A microbatch model reads of each parent the rows of the batch, by the parent's event_time."""
    if project.nodes[unique_id]["config"].get("incremental_strategy") != "microbatch":
        return {}
    times = {
        parent: (project.nodes[parent].get("config") or {}).get("event_time")
        for parent in project.parents(unique_id)
    }
    named = [time for time in times.values() if time]
    return {"event_time:": digest_value(named)} if named else {}


def _partitions(node: Mapping[str, Any]) -> dict[str, str]:
    """Which partitions there are, as far as dbt's own config does not say it."""
    said = {k: v for k, v in partition_set(node).items() if k not in config.content_keys(node)}
    return {"config:meta.dagster.partitions": digest_value(sorted(said.items()))} if said else {}


def _reads(project: Project, unique_id: str) -> Iterable[tuple[str, str, str]]:
    for parent in project.parents(unique_id):
        node = project.nodes[parent]
        if project.is_ephemeral(parent):
            yield from _reads(project, parent)
        else:
            yield project.relation_name(node)
