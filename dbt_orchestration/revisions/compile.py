"""The one place where dbt compiles for the change engine: new nodes only, without the warehouse.

Compiled SQL is kept by the digest of everything it is made of, so that a node is compiled once for
all commits in which it is the same. ``is_incremental()`` is answered by us, once no and once yes:
dbt's own answer would ask the warehouse whether the table is there.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dbt_orchestration import upstream
from dbt_orchestration.changes.components import Components, components
from dbt_orchestration.changes.project import Compiled, Project
from dbt_orchestration.invocation import DbtError, DbtInvocation, DbtTarget
from dbt_orchestration.revisions.cache import Cache
from dbt_orchestration.revisions.parse import Revision

_KINDS = frozenset({"model", "snapshot"})
# dbt looks at every node for every name in a selection; with more than this it may compile all.
_SELECTED = 200
_OFFLINE = ("--no-introspect", "--no-populate-cache", "--no-write-json", "--log-level=none")


def compile_nodes(
    project: Project,
    revision: Revision,
    target: DbtTarget,
    known: Cache,
    say: Callable[[str], None] = lambda _: None,
) -> Project:
    """``project`` with the compiled SQL of every node whose SQL is a function of the project.

    A node that asks the warehouse while it compiles is left out. A node that dbt cannot compile is
    left out as well, and ``Project.uncompiled`` says why; so does it if nothing can be compiled.
    """
    parts = {
        unique_id: components(project, unique_id)
        for unique_id in project.built
        if _is_sql(project.nodes[unique_id])
    }
    wanted = {u: c for u, c in parts.items() if not c.asks}
    keys = _keys(project, wanted, target)
    compiled: dict[str, Compiled] = {}
    for key, sql in known.get(keys.values()).items():
        compiled.update({u: sql for u, k in keys.items() if k == key})
    missing = [unique_id for unique_id in wanted if unique_id not in compiled]
    uncompiled: dict[str, str] = {}
    if missing:
        say(f"compiling {len(missing)} of {len(parts)} nodes")
        asking = parts.keys() - wanted.keys()
        new, uncompiled = _compile(revision, target, missing, asking, wanted)
        known.put({keys[unique_id]: sql for unique_id, sql in new.items()})
        compiled |= new
    return replace(project, compiled=compiled, uncompiled=uncompiled)


def _is_sql(node: Mapping[str, Any]) -> bool:
    return node["resource_type"] in _KINDS and node.get("language") == "sql"


def _compile(
    revision: Revision,
    target: DbtTarget,
    missing: Collection[str],
    asking: Collection[str],
    parts: Mapping[str, Components],
) -> tuple[dict[str, Compiled], dict[str, str]]:
    full, problems = _sql(revision, target, missing, asking, incremental=False)
    twice = [unique_id for unique_id in missing if parts[unique_id].incremental]
    later: Mapping[str, str] = {}
    if twice:
        later, more = _sql(revision, target, twice, asking, incremental=True)
        problems |= more
    compiled = {
        unique_id: Compiled(sql, later.get(unique_id))
        for unique_id, sql in full.items()
        if unique_id not in twice or unique_id in later
    }
    why = {u: problems.get(u) or problems.get("") or "dbt did not compile it" for u in missing}
    return compiled, {u: reason for u, reason in why.items() if u not in compiled}


def _sql(
    revision: Revision,
    target: DbtTarget,
    wanted: Collection[str],
    asking: Collection[str],
    incremental: bool,
) -> tuple[dict[str, str], dict[str, str]]:
    """Compiled SQL by unique id; and why not, by unique id, "" standing for all."""
    manifest = upstream.load_manifest(revision.partial_parse_path)
    upstream.answer_is_incremental(manifest, incremental)
    selection = []
    if len(wanted) <= _SELECTED:
        selection = ["--select", *(_selector(revision.manifest, u) for u in sorted(wanted))]
    elif asking:
        selection = ["--exclude", *(_selector(revision.manifest, u) for u in sorted(asking))]
    with tempfile.TemporaryDirectory(prefix="dbt-compile-") as folder:
        command = ["compile", *selection, *_OFFLINE, "--target-path", folder]
        invocation = DbtInvocation(target, command, manifest)
        for _ in invocation.events():
            pass
    problems: dict[str, str] = {}
    try:
        invocation.raise_on_failure()
    except DbtError as error:
        results = getattr(invocation.result and invocation.result.result, "results", None)
        for result in results or ():
            if result.status in ("error", "skipped"):
                message = " ".join(str(result.message or result.status).split())
                problems[result.node.unique_id] = f"dbt does not compile it: {message}"
        problems.setdefault("", " ".join(str(error).split()))
    sql = {u: code for u in wanted if (code := upstream.compiled_code(manifest, u)) is not None}
    return {u: code for u, code in sql.items() if u not in problems}, problems


def _selector(manifest: Mapping[str, Any], unique_id: str) -> str:
    return "fqn:" + ".".join(manifest["nodes"][unique_id]["fqn"])


def _keys(project: Project, wanted: Mapping[str, Components], target: DbtTarget) -> dict[str, str]:
    """For each node, the digest of all its compiled SQL is made of."""
    common = [
        version("dbt-core"),
        version(f"dbt-{project.adapter}"),
        target.profile,
        target.target,
        hashlib.sha256(_profiles(target)).hexdigest(),
        sorted(target.variables.items()),
        (project.settings.get(project.name) or {}).get("dispatch"),
        project.database,
        project.schema,
    ]

    @cache
    def key(unique_id: str) -> str:
        node = project.nodes[unique_id]
        parts = wanted.get(unique_id)
        read = [
            [
                parent,
                key(parent)
                if _is_ephemeral(project.nodes[parent]) and parent in wanted
                else _name(project, parent),
            ]
            for parent in project.parents(unique_id)
        ]
        made_of = [
            common,
            unique_id,
            node.get("relation_name"),
            sorted(node["config"].items()),
            sorted(parts.code.items()) if parts else node.get("raw_code"),
            sorted(parts.content.items()) if parts else None,
            read,
        ]
        text = json.dumps(made_of, default=str)
        return "compiled " + hashlib.sha256(text.encode()).hexdigest()

    return {unique_id: key(unique_id) for unique_id in wanted}


def _name(project: Project, unique_id: str) -> list[Any]:
    node = project.nodes[unique_id]
    return [
        node.get("relation_name"),
        (node.get("config") or {}).get("event_time"),
        node.get("raw_code") if _is_ephemeral(node) else None,
    ]


def _is_ephemeral(node: Mapping[str, Any]) -> bool:
    return bool((node.get("config") or {}).get("materialized") == "ephemeral")


def _profiles(target: DbtTarget) -> bytes:
    path = (target.profiles_dir or Path.home() / ".dbt") / "profiles.yml"
    return path.read_bytes() if path.is_file() else b""
