"""dbt clone as a form: tables are copied from another environment instead of being computed."""

from __future__ import annotations

import dagster as dg

from dbt_orchestration.history.order import Order
from dbt_orchestration.ledger.cloned import find_clones
from dbt_orchestration.markdown import inline, table
from dbt_orchestration.operations.asked import asks_for
from dbt_orchestration.operations.chosen import choose
from dbt_orchestration.operations.dbt_command import CLONE, DbtForm
from dbt_orchestration.operations.form import Answer, RefusedError, reason_of
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.operations.preview import preview
from dbt_orchestration.revisions.store import followed
from dbt_orchestration.runs.adoption import how_it_stands
from dbt_orchestration.runs.request import BuildRequest
from dbt_orchestration.settings.user_input import did_you_mean

_MOST_ROWS = 200


def clone(at: Loaded, instance: dg.DagsterInstance, form: DbtForm) -> Answer:
    """Tables that stand in another environment as the commit that is loaded here would make them.

    Raises:
        RefusedError: there is no such environment, or none of its tables is as that commit says.
    """
    other = _other(at, instance, form.copy_from.strip())
    reason = reason_of(form.reason)
    nodes = choose(at.dbt, form.select, form.exclude)
    stands = how_it_stands(at.dbt.env, instance)
    found = find_clones(at.dbt.env, instance, other, nodes, is_built=stands.built.__contains__)
    if not found.tables:
        u, why = next(iter(sorted(found.left.items())), ("", "it has no rows of its own"))
        example = f", for example {at.dbt.keys[u].path[-1]}: {why}" if u else f": {why}"
        raise RefusedError(f"select: nothing of {form.select!r} can be copied{example}")
    wanted = [*found.tables, *found.made]
    request = BuildRequest.of_nodes(at.dbt, wanted, Order(clone=other))
    left = [(at.dbt.keys[u].path[-1], why) for u, why in sorted(found.left.items())]
    text = "\n\n".join(
        [
            preview(at.dbt, instance, request),
            *([table(("left as it is", "why"), left[:_MOST_ROWS])] if left else []),
            f"Reason: {inline(reason)}",
        ]
    )
    said = f"dbt {CLONE} {form.select} from {other}"
    return asks_for(at.dbt, request, text, said, reason, only_shows=form.only_shows)


def _other(at: Loaded, instance: dg.DagsterInstance, said: str) -> str:
    known = sorted(followed(instance.defs_state_storage) - {at.name})
    other = said or at.settings.environment(at.name).defer_to or ""
    if not other:
        raise RefusedError("copy_from: name an environment, as defer_to names none")
    if other == at.name:
        raise RefusedError(f"copy_from: {other} is this environment itself: name another one")
    if other not in known:
        near = did_you_mean(other, known)
        raise RefusedError(f"copy_from: no commit of {other} was prepared in this Dagster{near}")
    return other
