"""Relations of models that are gone, as they stand in the warehouse, and who still names them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import dagster as dg

from dbt_orchestration.changes.fingerprints import Fingerprints
from dbt_orchestration.changes.project import Project
from dbt_orchestration.changes.relation_names import parts_of, relation_name
from dbt_orchestration.changes.renames import value_as
from dbt_orchestration.changes.text import read_sql
from dbt_orchestration.dbt.internals import adapters, sessions
from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.operation import operate
from dbt_orchestration.ledger.orphans import Orphan, known_names, orphans
from dbt_orchestration.ledger.provenance import ancestors_of
from dbt_orchestration.operations.form import RefusedError
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.revisions.analyse import Analyst
from dbt_orchestration.revisions.current import as_it_lies
from dbt_orchestration.revisions.kept import revisions_home
from dbt_orchestration.revisions.store import open_commit, published
from dbt_orchestration.revisions.warehouse import is_missing

_NONE = "None", "none", ""
# What may stand between an exposure and the nodes that it shows.
_AMONG = ("metrics", "semantic_models", "saved_queries")


@dataclass(frozen=True)
class Found:
    """An orphan as it stands in the warehouse.

    Attributes:
        fate: what has become of its model; "" if the relation is not there any more.
        identifier: its name as the warehouse has it, without database and schema.
        kind: table or view; "" if it is not there any more.
        kept: why it is not dropped here; "" if it may be.
        size: as far as the warehouse says.
        changed: as the warehouse says, or else when it was built last.
        readers: exposures of what names it, dbt nodes and views that do, and who else has read it
            lately, where the warehouse knows.
    """

    orphan: Orphan
    fate: str = ""
    identifier: str = ""
    kind: str = ""
    kept: str = ""
    size: str = ""
    changed: str = ""
    readers: Sequence[str] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        return self.orphan.relation

    @property
    def names(self) -> tuple[str, str]:
        """With the database and without it, in lower case."""
        whole = self.name.lower()
        return whole, ".".join(whole.split(".")[-2:])


def find(at: Loaded, instance: dg.DagsterInstance) -> Sequence[Found]:
    """Orphans, those that are not there any more among them.

    Raises:
        RefusedError: the warehouse cannot be asked.
        PrepareError: the commit, or that of another environment, cannot be read.
    """
    env, known = at.dbt.env, orphans(instance, at.dbt.env)
    if not known or is_missing(env.target):
        return []
    relations = {each.relation: parts_of(each.relation) for each in known}
    places = {(each["database"], each["schema"]) for each in relations.values()}
    schemas = [{"database": database, "schema": schema} for database, schema in places]
    there: dict[str, list[Sequence[str]]] = {}
    try:
        for row in ask(at, "relations", schemas=schemas):
            there.setdefault(".".join(row[:3]).lower(), []).append(row)
        left = [relations[each.relation] for each in known if each.relation.lower() in there]
        facts, views = ask(at, "about", relations=left)
    except DbtError as error:
        raise RefusedError(f"the warehouse cannot be asked: {error}") from None
    prints = Analyst(revisions_home(at.settings, at.name)).fingerprints(at.revision, env.target)
    names, others = _Names(at, prints.project, views), _of_others(at, instance)
    accessed = _accessed(at, left)
    about = {".".join(row[:3]).lower(): row[3:] for row in facts}
    found = []
    for each in known:
        rows = there.get(each.relation.lower(), [])
        if not rows:
            found.append(Found(each))
            continue
        count, size, changed = about.get(each.relation.lower(), ("", "", ""))
        sizes = [f"{int(count):,} rows" if count not in _NONE else "", _bytes(size)]
        found.append(
            Found(
                each,
                _fate(at, instance, prints, each),
                rows[0][2],
                rows[0][3].lower(),
                _kept(at, each, rows, others),
                ", ".join(filter(None, sizes)),
                changed if changed not in _NONE else f"built {each.built_at}",
                [*names.readers(each.relation), *accessed.get(each.relation.lower(), ())],
            )
        )
    return found


def _accessed(at: Loaded, relations: Sequence[Mapping[str, str]]) -> Mapping[str, Sequence[str]]:
    """Who has read relations lately, by name in lower case, where the warehouse remembers that."""
    if at.dbt.env.target.credentials().type != "snowflake" or not relations:
        return {}
    try:
        found = ask(at, "accessed", relations=relations)
    except DbtError:
        return {}  # the role may not see it, or the edition has none
    return {name: [f"{count} others in 90 days, the last on {day}"] for name, count, day in found}


def ask(at: Loaded, macro: str, **arguments: Any) -> Any:
    """What a macro of ours says of the environment's warehouse.

    Raises:
        DbtError: the warehouse cannot be reached, or refuses.
    """
    manifest = sessions.load_manifest(at.revision.partial_parse_path)
    scratch = str(at.settings.state_dir / "target" / f"{at.name}_orphans")
    try:
        return operate(at.dbt.env.target, manifest, macro, scratch, **arguments)
    finally:
        adapters.close_duckdb()


def _fate(at: Loaded, instance: dg.DagsterInstance, prints: Fingerprints, orphan: Orphan) -> str:
    """What has become of a model, as far as its commit says."""
    if node := at.revision.manifest["nodes"].get(orphan.unique_id):
        kind = node["config"].get("materialized")
        return "ephemeral now" if kind == "ephemeral" else f"{relation_name(node)} now"
    if orphan.unique_id in (at.revision.manifest.get("disabled") or {}):
        return "disabled"
    relation, kind = [*parts_of(orphan.relation).values()], orphan.unique_id.partition(".")[0]
    same = [
        u
        for u in prints.nodes.keys() & at.dbt.nodes.keys()
        if u.startswith(f"{kind}.")
        and value_as(prints, u, orphan.unique_id, relation) == orphan.fingerprint
    ]
    # What was built before it is another model of the same code.
    new = [u for u in sorted(same) if not _was_built(instance, at.dbt.nodes[u], orphan.place)]
    return f"renamed to {' or '.join(at.dbt.keys[u].path[-1] for u in new)}" if new else "deleted"


def _was_built(instance: dg.DagsterInstance, key: dg.AssetKey, before: int) -> bool:
    earlier = dg.AssetRecordsFilter(key, before_storage_id=before)
    return bool(instance.fetch_materializations(earlier, limit=1).records)


def _kept(
    at: Loaded, orphan: Orphan, rows: Sequence[Sequence[str]], others: Mapping[str, str]
) -> str:
    parts, nodes = parts_of(orphan.relation), at.revision.manifest["nodes"].values()
    if orphan.unique_id.startswith("snapshot."):
        return "a snapshot's history cannot be built again"
    if other := others.get(orphan.relation.lower()):
        return f"the environment {other} has it"
    place = parts["database"].lower(), parts["schema"].lower()
    if all(place != _place(node) for node in nodes):
        return "the commit has nothing in its schema"
    if len(rows) > 1:
        return f"{' and '.join(row[2] for row in rows)} differ in case only"
    return ""


def _place(node: Mapping[str, str]) -> tuple[str, str]:
    return str(node.get("database") or "").lower(), node["schema"].lower()


def _of_others(at: Loaded, instance: dg.DagsterInstance) -> Mapping[str, str]:
    """Which other environment knows a relation, by its name in lower case."""
    settings, storage = at.settings.platform, instance.defs_state_storage
    found: dict[str, str] = {}
    for other, stated in settings.environments.items():
        if other == at.name:
            continue
        digest = published(other, storage) if stated.push.enabled else None
        revision = (
            open_commit(settings, other, digest, storage) if digest else as_it_lies(settings, other)
        )
        if revision:
            found |= dict.fromkeys(known_names(revision.manifest), other)
    return found


class _Names:
    """Who names a relation without ref() or source().

    Args:
        views: database, schema, name and SQL of each view of the warehouse.
    """

    def __init__(self, at: Loaded, project: Project, views: Sequence[Sequence[str]]) -> None:
        self._database = project.database
        manifest = at.revision.manifest
        nodes, exposures = manifest["nodes"], manifest["exposures"]
        self._nodes = [(str(node["name"]), u, [*_texts(project, u)]) for u, node in nodes.items()]
        every = {
            **nodes,
            **exposures,
            **{u: node for kind in _AMONG for u, node in manifest[kind].items()},
        }
        self._exposures = [
            (str(each["name"]), ancestors_of(every, u, ephemeral=True), [*_strings(each)])
            for u, each in exposures.items()
        ]
        ours = {relation_name(node).lower() for node in nodes.values()}
        self._views = [view for view in views if ".".join(view[:3]).lower() not in ours]

    def readers(self, relation: str) -> Iterator[str]:
        """Nodes in whose code it is named, what shows these or names it itself, and views."""
        parts = parts_of(relation)
        names = re.compile(
            r'(?i)(?:\b([\w$]+)"?\s*\.\s*"?)?'
            rf'\b{re.escape(parts["schema"])}"?\s*\.\s*"?{re.escape(parts["identifier"])}\b'
        )

        def is_named(text: str, around: str) -> bool:
            wanted = parts["database"].lower()
            return any((m[1] or around).lower() == wanted for m in names.finditer(text))

        def is_here(texts: Sequence[str]) -> bool:
            return any(is_named(text, self._database) for text in texts)

        nodes = {u: name for name, u, texts in sorted(self._nodes) if is_here(texts)}
        # First those that people look at.
        for name, above, texts in sorted(self._exposures, key=itemgetter(0)):
            if not above.isdisjoint(nodes) or is_here(texts):
                yield f"exposure {name}"
        yield from nodes.values()
        for database, schema, view, sql in self._views:
            name = f"{database}.{schema}.{view}"
            if name.lower() != relation.lower() and is_named(sql, database):
                yield f"view {schema}.{view}"


def _strings(value: Any) -> Iterator[str]:
    """All texts in a part of the manifest."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _strings([*value.values()])
    elif isinstance(value, list):
        for each in value:
            yield from _strings(each)


def _texts(project: Project, unique_id: str) -> Iterator[str]:
    """All code of a node: as it is written, and compiled, or else the macros that it calls."""
    node, macros = project.nodes[unique_id], set[str]()
    yield node.get("raw_code") or ""
    if compiled := project.compiled.get(unique_id):
        yield compiled.full
        yield compiled.incremental or ""
    else:
        macros |= project.reached_by(unique_id).macros
    for hook in project.hooks.of(unique_id):
        yield hook.sql
        macros |= project.reached(node, [read_sql(hook.sql)]).macros
    yield from (str(project.macros.nodes[macro]["macro_sql"]) for macro in macros)


def _bytes(size: str) -> str:
    return "" if size in _NONE else f"{int(size) / 1_000_000:,.1f} MB"
