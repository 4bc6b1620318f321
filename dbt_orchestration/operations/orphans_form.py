"""Relations of models that are gone: a form that shows them, and drops those that are named."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from dbt_orchestration.changes.relation_names import parts_of
from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.parse import PrepareError
from dbt_orchestration.ledger.held import held
from dbt_orchestration.ledger.orphans import forget_moved
from dbt_orchestration.ledger.present import keep, place_in_the_log
from dbt_orchestration.markdown import table
from dbt_orchestration.operations.form import (
    Answer,
    RefusedError,
    form_job,
    reason_of,
)
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.operations.orphans_found import Found, ask, find
from dbt_orchestration.revisions.warehouse import Seen
from dbt_orchestration.settings.types import named
from dbt_orchestration.settings.user_input import did_you_mean

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
        found = find(loaded.newest(instance), instance)
        forget_moved(instance, environment, [f.orphan for f in found if _is_gone(f)])
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
                at, begun = loaded.newest(instance), place_in_the_log(instance)
                try:  # a push may have brought one back since
                    still = _chosen(find(at, instance), wanted)
                except (RefusedError, PrepareError) as error:
                    raise PlainFailure(f"Nothing was dropped: {error}.") from None
                for each in still:
                    place = place_in_the_log(instance) if each.kind else begun
                    if each.kind:
                        _drop(at, each)
                    dropped = f"Dropped {each.name}: {reason}"
                    context.log_event(dg.AssetObservation(each.orphan.key, description=dropped))
                    # A model that comes back is due: its table is not there. Kept last: whoever
                    # launches a form again that died has the rest put on record.
                    if each.orphan.moved:
                        forget_moved(instance, environment, [each.orphan])
                    else:
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


def _is_gone(found: Found) -> bool:
    """Whether somebody has dropped the relation that a node had before it got another one."""
    return found.orphan.moved and not found.kind


def _plain(name: str) -> str:
    return name.replace('"', "").strip().lower()


def _chosen(found: Sequence[Found], wanted: Collection[str]) -> Sequence[Found]:
    """Those that are named, with or without the database.

    Those that are gone are among them if nobody has put that on record.
    """
    chosen = dict[str, Found]()
    for name in wanted:
        if not re.fullmatch(r"[^.*%?]+(\.[^.*%?]+){1,2}", name):
            raise RefusedError(f"names: {name!r} is no whole name, such as main.old_orders")
        matches = [each for each in found if name in each.names]
        if not matches:
            left = sorted(min(each.names, key=len) for each in found if each.kind)
            if not left:
                why = "nothing is left of models that are gone"
                raise RefusedError(f"names: {name!r} is not there to be dropped: {why}")
            raise RefusedError(
                f"names: {name!r} is nothing that Dagster built here and no model has now"
                + did_you_mean(name, left)
            )
        there = [each for each in matches if each.kind]
        if len(there) > 1:
            several = " or ".join(each.name for each in there)
            raise RefusedError(f"names: {name!r} may be {several}: write which")
        for each in there:
            if each.kept:
                raise RefusedError(f"names: {each.name} is not dropped here: {each.kept}")
        taken = there or [each for each in matches if not each.orphan.absent]
        chosen |= {each.name: each for each in taken}
    return [*chosen.values()]


def _shown(found: Sequence[Found]) -> str:
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
                each.fate,
                each.size,
                each.changed,
                ", ".join(readers) + (f" and {more} more" if more > 0 else ""),
                _follows(each),
            )
        )
    heads = ("relation", "kind", "was", "which is", "size", "changed", "read by", "what follows")
    return table(heads, rows)


def _follows(found: Found) -> str:
    if not found.kind:
        return "is gone, which is put on record"
    return f"stays: {found.kept}" if found.kept else "can be dropped"


def _drop(at: Loaded, found: Found) -> None:
    relation = {**parts_of(found.name), "identifier": found.identifier}
    try:
        ask(at, "drop", relation=relation)
    except DbtError as error:
        again = f"Launch {named(at.name, 'drop_orphans')} again with the same names."
        raise PlainFailure(f"{found.name} could not be dropped: {error}. {again}") from None
