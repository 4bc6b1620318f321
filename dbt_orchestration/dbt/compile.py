"""The one place where dbt compiles for the change engine: new nodes only, without the warehouse.

Compiled SQL is kept by the digest of everything it is made of, so that a node is compiled once for
all commits in which it is the same. ``is_incremental()`` is answered by us, once no and once yes:
dbt's own answer would ask the warehouse whether the table is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache
from importlib.metadata import version
from typing import Any

from dbt_orchestration.changes.components import Components, components
from dbt_orchestration.changes.policy import dagster_meta
from dbt_orchestration.changes.project import Compiled, Project
from dbt_orchestration.dbt.cache import Cache
from dbt_orchestration.dbt.internals.sessions import Session, answer_is_incremental, load_manifest
from dbt_orchestration.dbt.invocation import DbtError, DbtTarget, dbt_session
from dbt_orchestration.dbt.parse import Revision

_KINDS = frozenset({"model", "snapshot"})
# Raise it when compiled SQL that is kept may be wrong.
_KEPT = "compiled 3"
_EVERY = 50
_COMMAND = ("compile", "--no-introspect", "--no-populate-cache", "--no-defer", "--no-favor-state")


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
    manifest = revision.take_parsed()
    parts = {
        unique_id: components(project, unique_id)
        for unique_id in project.built
        if _is_sql(project.nodes[unique_id])
    }
    wanted = {u: c for u, c in parts.items() if not c.asks}
    keys = _keys(project, wanted, revision, target)
    found: Mapping[str, Compiled | str] = known.get(keys.values())
    made: dict[str, Compiled | str] = {u: found[k] for u, k in keys.items() if k in found}
    if missing := [unique_id for unique_id in wanted if unique_id not in made]:

        def done(count: int) -> None:
            say(f"compiling {len(missing)} of {len(parts)} nodes: {count} done")

        done(0)
        twice = {unique_id for unique_id in missing if wanted[unique_id].incremental}
        windows = {unique_id: _window(project.nodes[unique_id]) for unique_id in missing}
        try:
            manifest = manifest or load_manifest(revision.partial_parse_path)
            new = _compile(manifest, target, windows, twice, done)
        except DbtError as error:
            made |= dict.fromkeys(missing, " ".join(str(error).split()))
        else:
            known.put({keys[unique_id]: result for unique_id, result in new.items()})
            made |= new
    return project.with_compiled(
        {u: result for u, result in made.items() if isinstance(result, Compiled)},
        {u: why for u, why in made.items() if isinstance(why, str)},
    )


def _is_sql(node: Mapping[str, Any]) -> bool:
    return node["resource_type"] in _KINDS and node.get("language") == "sql"


def _compile(
    manifest: Any,
    target: DbtTarget,
    wanted: Mapping[str, Mapping[str, str]],
    twice: Collection[str],
    done: Callable[[int], None],
) -> dict[str, Compiled | str]:
    """Compiled SQL of each node, or why there is none.

    Args:
        wanted: vars to compile with, by unique id.

    Raises:
        DbtError: the project cannot be loaded.
    """
    made: dict[str, Compiled | str] = {}
    # Those with the same vars together: with others the ephemeral models are compiled again.
    ordered = sorted(wanted, key=lambda unique_id: sorted(wanted[unique_id].items()))
    with dbt_session(target, [*_COMMAND], manifest) as session:
        answer_is_incremental(manifest, False)
        for count, unique_id in enumerate(ordered):
            if count % _EVERY == 0:
                done(count)
            sql, why = _sql(session, unique_id, wanted[unique_id])
            made[unique_id] = why or Compiled(sql)
        answer_is_incremental(manifest, True)
        for unique_id in ordered:
            full = made[unique_id]
            if unique_id in twice and isinstance(full, Compiled):
                sql, why = _sql(session, unique_id, wanted[unique_id])
                made[unique_id] = why or replace(full, incremental=sql)
    return made


def _window(node: Mapping[str, Any]) -> Mapping[str, str]:
    """The vars without which a node is never built."""
    stated = dagster_meta(node)
    if not isinstance(stated, Mapping) or "partitions" not in stated:
        return {}
    # Dagster comes with it, which takes a second: most plans have no such model to compile.
    from dbt_orchestration.history.partitions import partition_config
    from dbt_orchestration.history.request import sample_vars
    from dbt_orchestration.settings.project_meta import ProjectError

    try:
        partitioned = partition_config(node)
    except ProjectError:
        return {}  # said elsewhere; nothing is built of it
    return sample_vars(partitioned) if partitioned else {}


def _sql(session: Session, unique_id: str, variables: Mapping[str, str]) -> tuple[str, str]:
    """The compiled SQL of a node, and why there is none; one of them is empty."""
    from dbt.adapters.exceptions import InvalidConnectionError

    try:
        return session.compile(unique_id, variables), ""
    except InvalidConnectionError:
        return "", "it asks the warehouse while it compiles"
    except Exception as error:  # whatever Jinja of the project may cause
        return "", f"dbt does not compile it: {' '.join(str(error).split())}"


def _keys(
    project: Project, wanted: Mapping[str, Components], revision: Revision, target: DbtTarget
) -> dict[str, str]:
    """For each node, the digest of all its compiled SQL is made of."""
    common = [
        version("dbt-core"),
        version(f"dbt-{project.adapter}"),
        target.profile,
        target.target,
        revision.facts["jinja_target"],
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
                if project.is_ephemeral(parent) and parent in wanted
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
        return f"{_KEPT} " + hashlib.sha256(text.encode()).hexdigest()

    return {unique_id: key(unique_id) for unique_id in wanted}


def _name(project: Project, unique_id: str) -> list[Any]:
    node = project.nodes[unique_id]
    return [
        node.get("relation_name"),
        (node.get("config") or {}).get("event_time"),
        node.get("raw_code") if project.is_ephemeral(unique_id) else None,
    ]
