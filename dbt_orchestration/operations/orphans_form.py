"""Relations of models that are gone: a form that shows them, and drops those that are named."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from dbt_orchestration.changes.relation_names import relation_name
from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.dbt.internals import adapters, sessions
from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.operation import operate
from dbt_orchestration.ledger.held import held
from dbt_orchestration.ledger.orphans import Orphan, known_names, orphans
from dbt_orchestration.ledger.present import keep, place_in_the_log
from dbt_orchestration.markdown import table
from dbt_orchestration.operations.form import (
    Answer,
    RefusedError,
    form_job,
    reason_of,
)
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.revisions.store import open_commit, published
from dbt_orchestration.revisions.warehouse import Seen, is_missing
from dbt_orchestration.settings.types import named
from dbt_orchestration.settings.user_input import did_you_mean

_NONE = "None", "none", ""
_MOST_READERS = 5


class OrphansForm(dg.Config):
    """What to drop."""

    names: list[str] = Field(
        default=[],
        description="Relations, each by its whole name as the list shows it, for example"
        " [main.old_orders]. Empty: show all of them, and drop nothing.",
    )
    reason: str = Field(default="", description="Why, for whoever looks for them later.")
    dry_run: bool = Field(
        default=True, description="True: only show what would be dropped. False: drop it."
    )


@dataclass(frozen=True)
class _Found:
    """An orphan as it stands in the warehouse.

    Attributes:
        kind: table or view; "" if it is not there any more.
        kept: why it is not dropped here; "" if it may be.
        size, changed: as far as the warehouse says.
        readers: dbt nodes and views that name it.
    """

    orphan: Orphan
    kind: str = ""
    kept: str = ""
    size: str = ""
    changed: str = ""
    readers: Sequence[str] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        return self.orphan.relation


def orphans_job(loaded: Loaded) -> dg.JobDefinition:
    """The form as a job."""
    environment = loaded.name

    def answer(instance: dg.DagsterInstance, form: OrphansForm) -> Answer:
        if hold := held(instance, environment):
            raise RefusedError(
                f"{hold} What the held commit does not have is there again then: launch this"
                " afterwards"
            )
        wanted = [_plain(name) for name in form.names]
        reason = reason_of(
            form.reason,
            "say why, for whoever looks for them later",
            needed=bool(wanted) and not form.dry_run,
        )
        found = _find(loaded.newest(instance), instance)
        chosen = _chosen(found, wanted)
        there = chosen if wanted else [each for each in found if each.kind]
        names = ", ".join(each.name for each in there)
        if not there:
            said = "none of them is there any more" if wanted else "there are none"
        elif not wanted:
            said = "write some of them as names, with dry_run: false"
        elif form.dry_run:
            said = "launch it with dry_run: false"
        else:

            def drop(context: dg.OpExecutionContext) -> Mapping[str, Any]:
                at, place = loaded.newest(instance), place_in_the_log(instance)
                try:  # a push may have brought one back since
                    still = _chosen(_find(at, instance), wanted)
                except RefusedError as error:
                    raise PlainFailure(f"Nothing was dropped: {error}.") from None
                for each in still:
                    if each.kind:
                        place = place_in_the_log(instance)
                        _drop(at, each)
                    dropped = f"Dropped {each.name}: {reason}"
                    context.log_event(dg.AssetObservation(each.orphan.key, description=dropped))
                    # A model that comes back is due: its table is not there. Kept last: whoever
                    # launches a form again that died has the rest put on record.
                    keep(instance, {each.orphan.key: Seen(there=False, sure=True)}, place)
                return {"dropped": names}

            return Answer(_shown(there), f"drops {names}: {reason}", f"Dropped: {names}.", act=drop)
        why = "relations of models that are gone"
        return Answer(_shown(there), why, f"Nothing was dropped: {said}.")

    return form_job(
        environment,
        "drop_orphans",
        OrphansForm,
        answer,
        "Show relations that Dagster built, and whose models were deleted, disabled or renamed;"
        " drop those that are named. Only shows what it would drop while dry_run is set.",
        op="left_over",
        pool=loaded.settings.pool,
    )


def _plain(name: str) -> str:
    return name.replace('"', "").strip().lower()


def _chosen(found: Sequence[_Found], wanted: Collection[str]) -> Sequence[_Found]:
    """Those that are named, with or without the database.

    Those that are gone are among them if nobody has put that on record.
    """
    chosen = []
    for name in wanted:
        if not re.fullmatch(r"[^.*%?]+(\.[^.*%?]+){1,2}", name):
            raise RefusedError(f"names: {name!r} is no whole name, such as main.old_orders")
        matches = [each for each in found if name in _names_of(each)]
        if not matches:
            near = did_you_mean(name, sorted(min(_names_of(each), key=len) for each in found))
            raise RefusedError(
                f"names: {name!r} is nothing that Dagster built here and no model has now{near}"
            )
        there = [each for each in matches if each.kind]
        if len(there) > 1:
            several = " or ".join(each.name for each in there)
            raise RefusedError(f"names: {name!r} may be {several}: write which")
        for each in there:
            if each.kept:
                raise RefusedError(f"names: {each.name} is not dropped here: {each.kept}")
        chosen += there or [each for each in matches if not each.orphan.absent]
    return chosen


def _names_of(found: _Found) -> tuple[str, str]:
    whole = found.name.lower()
    return whole, ".".join(whole.split(".")[-2:])


def _find(at: Loaded, instance: dg.DagsterInstance) -> Sequence[_Found]:
    """What is left in the warehouse, with who reads it."""
    env, known = at.dbt.env, orphans(instance, at.dbt)
    if not known or is_missing(env.target):
        return []
    schemas = {
        (str(node.get("database") or "").lower(), node["schema"].lower())
        for node in at.revision.manifest["nodes"].values()
    }
    manifest = sessions.load_manifest(at.revision.partial_parse_path)
    scratch = str(at.settings.state_dir / "target" / f"{at.name}_orphans")
    relations = {each.relation: _parts(each.relation) for each in known}
    try:
        places = {(each["database"], each["schema"]) for each in relations.values()}
        listed = operate(
            env.target,
            manifest,
            "relations",
            scratch,
            schemas=[{"database": database, "schema": schema} for database, schema in places],
        )
        there = {".".join(row[:3]).lower(): row[3].lower() for row in listed}
        left = [each for each in known if each.relation.lower() in there]
        about = operate(
            env.target,
            manifest,
            "about",
            scratch,
            relations=[relations[each.relation] for each in left],
        )
    except DbtError as error:
        raise RefusedError(f"the warehouse cannot be asked: {error}") from None
    finally:
        adapters.close_duckdb()
    facts = {".".join(row[:3]).lower(): row[3:] for row in about[0]}
    others = _of_others(at, instance)
    found = []
    for each in known:
        name = each.relation.lower()
        if name not in there:
            found.append(_Found(each))
            continue
        rows, size, changed = facts.get(name, ("", "", ""))
        sizes = [f"{int(rows):,} rows" if rows not in _NONE else "", _bytes(size)]
        found.append(
            _Found(
                each,
                there[name],
                _kept(each, schemas, others),
                ", ".join(filter(None, sizes)),
                changed if changed not in _NONE else "",
                [*_readers(at, name, about[1])],
            )
        )
    return found


def _kept(orphan: Orphan, schemas: Collection[tuple[str, str]], others: Mapping[str, str]) -> str:
    parts = _parts(orphan.relation)
    if orphan.unique_id.startswith("snapshot."):
        return "a snapshot's history cannot be built again"
    if other := others.get(orphan.relation.lower()):
        return f"the environment {other} has it"
    if (parts["database"].lower(), parts["schema"].lower()) not in schemas:
        return "the commit has nothing in its schema"
    return ""


def _of_others(at: Loaded, instance: dg.DagsterInstance) -> Mapping[str, str]:
    """Which other environment knows a relation, by its name in lower case."""
    storage, found = instance.defs_state_storage, dict[str, str]()
    for other in at.settings.platform.environments:
        if other != at.name and (digest := published(other, storage)):
            revision = open_commit(at.settings.platform, other, digest, storage)
            found |= dict.fromkeys(known_names(revision.manifest), other)
    return found


def _parts(relation: str) -> dict[str, str]:
    *database, schema, identifier = relation.split(".")
    return {"database": ".".join(database), "schema": schema, "identifier": identifier}


def _readers(at: Loaded, relation: str, views: Sequence[Sequence[str]]) -> Iterator[str]:
    """Nodes whose code names a relation without ref() or source(), and views of the warehouse."""
    schema, identifier = relation.split(".")[-2:]
    names = re.compile(rf'(?i)\b{re.escape(schema)}"?\s*\.\s*"?{re.escape(identifier)}\b')
    nodes = at.revision.manifest["nodes"].values()
    yield from sorted(node["name"] for node in nodes if names.search(node.get("raw_code") or ""))
    ours = {relation_name(node).lower().partition(".")[2] for node in nodes}
    for schema, view, sql in views:
        name = f"{schema}.{view}".lower()
        if name not in ours and not relation.endswith(name) and names.search(sql):
            yield f"view {schema}.{view}"


def _bytes(size: str) -> str:
    return "" if size in _NONE else f"{int(size) / 1_000_000:,.1f} MB"


def _shown(found: Sequence[_Found]) -> str:
    if not found:
        return "Nothing is left of models that are gone."
    rows = []
    for each in found:
        readers = list(each.readers[:_MOST_READERS])
        more = len(each.readers) - len(readers)
        built = datetime.fromtimestamp(each.orphan.built, UTC).strftime("%Y-%m-%d")
        kind, _, name = each.orphan.unique_id.partition(".")
        rows.append(
            (
                each.name,
                each.kind,
                f"{kind} {name.partition('.')[2]}, built {built}",
                each.size,
                each.changed,
                ", ".join(readers) + (f" and {more} more" if more > 0 else ""),
                _follows(each),
            )
        )
    heads = ("relation", "kind", "was", "size", "changed", "read by", "what follows")
    return table(heads, rows)


def _follows(found: _Found) -> str:
    if not found.kind:
        return "is gone, which is put on record"
    return f"stays: {found.kept}" if found.kept else "can be dropped"


def _drop(at: Loaded, found: _Found) -> None:
    manifest = sessions.load_manifest(at.revision.partial_parse_path)
    scratch = str(at.settings.state_dir / "target" / f"{at.name}_orphans")
    try:
        operate(at.dbt.env.target, manifest, "drop", scratch, relation=_parts(found.name))
    except DbtError as error:
        again = f"Launch {named(at.name, 'drop_orphans')} again with the same names."
        raise PlainFailure(f"{found.name} could not be dropped: {error}. {again}") from None
    finally:
        adapters.close_duckdb()
