"""History that waits for a person: a form that shows what it would take, and lets it be rebuilt.

The job itself builds nothing. It leaves with its own run what the person wants, and the push sensor
starts that.
"""

from collections.abc import Collection
from dataclasses import replace

import dagster as dg
from pydantic import Field

from dbt_orchestration.history.order import packed
from dbt_orchestration.history.partitions import PartitionError
from dbt_orchestration.history.rebuild import find_model
from dbt_orchestration.ledger.due import Due, Ledger, NewOnly
from dbt_orchestration.ledger.provenance import ancestors_of
from dbt_orchestration.ledger.run_tags import (
    APPROVED_TAG,
    CHOSEN_TAG,
    NEW_ONLY_TAG,
    REASON_TAG,
    shortened,
)
from dbt_orchestration.operations.form import Answer, form_job, reason_of
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.operations.preview import preview
from dbt_orchestration.runs.request import BuildRequest, order_of
from dbt_orchestration.settings.types import named


class HistoryForm(dg.Config):
    """Which of the history that waits to rebuild, or to leave as it is."""

    models: list[str] = Field(
        default=[], description="Names of models, for example [fct_orders]. Empty: all that wait."
    )
    new_partitions_only: bool = Field(
        default=False,
        description="Leave what is built as it is, and build only new partitions with the code of"
        " this change.",
    )
    reason: str = Field(default="", description="Why, for whoever looks at it later.")
    dry_run: bool = Field(
        default=True, description="True: only show what it would take. False: do it."
    )


def history_job(loaded: Loaded) -> dg.JobDefinition:
    """One click that lets the push sensor start what waits for a person."""
    environment = loaded.name

    def answer(instance: dg.DagsterInstance, form: HistoryForm) -> Answer:
        reason = reason_of(form.reason, needed=not form.dry_run)
        at = loaded.newest(instance)
        due = _chosen(at.ledger(instance), form.models)
        waits = due.waits(at.dbt)
        if not waits:
            said = "Nothing was started: nothing waits."
            waiting = {"waits": "nothing waits"}
            return Answer("Nothing waits.", "nothing waits", said, metadata=waiting)
        started, does, tag = due, "lets be done what waits: to", APPROVED_TAG
        if form.new_partitions_only:
            kept = {u: sorted({*due.built[u].partitions.values()}) for u in due.asked}
            started = _without_history(at.ledger(instance), due, kept)
            does, tag = "builds new partitions only, and does not", NEW_ONLY_TAG
        whys = {**started.waiting, **started.nodes}
        nodes = {u: why for u, why in whys.items() if u in due.waiting}
        order = order_of(at.dbt, nodes, started.partitions)
        text = preview(at.dbt, instance, BuildRequest.of_nodes(at.dbt, nodes, order))
        if form.dry_run:
            return Answer(text, f"what it would take to {waits}", metadata={"waits": waits})
        chosen = packed(CHOSEN_TAG, sorted(due.asked)) if form.models else {}
        chosen = packed(CHOSEN_TAG, kept) if form.new_partitions_only else chosen
        return Answer(
            text,
            f"{does} {waits}: {reason}",
            f"The sensor {named(environment, 'push')} starts it within seconds: see Runs.",
            {tag: at.revision.digest, REASON_TAG: shortened(reason), **chosen},
            {"waits": waits},
            by_push=True,
        )

    return form_job(
        environment,
        "rebuild_history",
        HistoryForm,
        answer,
        "Start rebuilding the history that the last push makes due and that waits for"
        " somebody to say so: all of it, or that of some models. Only shows what it would take"
        " while dry_run is set.",
        op="approve",
    )


def _without_history(ledger: Ledger, due: Due, kept: NewOnly) -> Due:
    """What would be due if the history that waits stayed as it is.

    Args:
        kept: as of ``staleness``.

    Raises:
        PartitionError: a model has no partitions, or its table has to be built from nothing.
    """
    nodes, asked = ledger.dbt.env.nodes, due.asked
    for u in sorted(asked):
        name = nodes[u]["name"]
        if ledger.dbt.env.model(u) is None:
            raise PartitionError(f"new_partitions_only: {name} has no partitions")
        if due.waiting[u].action == "full_refresh":
            raise PartitionError(
                f"new_partitions_only: the change of {name} calls for a table that is built from"
                " nothing: launch it without new_partitions_only, or push another change"
            )
    after = ledger.due(lambda _: True, new_only=kept)
    assert after is not None
    return after


def _chosen(ledger: Ledger, names: Collection[str]) -> Due:
    """What waits, without what waits on if only these models, and what they read, are started.

    Raises:
        PartitionError: there is no such model, or it does not wait.
    """
    due = ledger.due(lambda _: True)
    assert due is not None
    if not names:
        return due
    if not all(names):
        raise PartitionError("models: write names, such as [fct_orders], or leave it empty")
    env, asked = ledger.dbt.env, due.asked.keys()
    chosen = {find_model(ledger.revision.manifest, name) for name in names}
    if others := sorted(env.nodes[u]["name"] for u in chosen - asked):
        waits = ", ".join(env.nodes[u]["name"] for u in asked) or "nothing"
        raise PartitionError(f"models: {', '.join(others)} does not wait; what waits is {waits}")
    chosen |= ancestors_of(env.nodes, *chosen) & asked
    after = ledger.due(lambda _: True, allowed=chosen)
    assert after is not None
    return replace(due, waiting={u: w for u, w in due.waiting.items() if u not in after.waiting})
