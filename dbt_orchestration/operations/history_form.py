"""History that waits for a person: a form that shows what it would take, and lets it be rebuilt.

The job itself builds nothing. It leaves with its own run what the person wants, and the push sensor
starts that.
"""

from collections.abc import Callable, Collection
from dataclasses import replace

import dagster as dg
from pydantic import Field

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.history.order import packed
from dbt_orchestration.history.partitions import PartitionError
from dbt_orchestration.history.rebuild import find_model
from dbt_orchestration.ledger.due import Due, Ledger
from dbt_orchestration.ledger.provenance import ancestors_of
from dbt_orchestration.ledger.run_tags import (
    APPROVED_TAG,
    CHOSEN_TAG,
    ENVIRONMENT_TAG,
    WHY_TAG,
    shortened,
)
from dbt_orchestration.operations.preview import not_started, preview
from dbt_orchestration.revisions.store import open_commit, published
from dbt_orchestration.runs.request import BuildRequest, order_of
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.types import named


class HistoryForm(dg.Config):
    """Which of the history that waits to rebuild."""

    models: list[str] = Field(
        default=[], description="Names of models, for example [fct_orders]. Empty: all that wait."
    )
    dry_run: bool = Field(
        default=False, description="True: only show what it would do. False: do it."
    )


def history_job(
    settings: Settings,
    environment: str,
    revision: Revision,
    dbt: DbtAssets,
    assets_of: Callable[[Revision], DbtAssets],
) -> dg.JobDefinition:
    """One click that lets the push sensor start what waits for a person.

    Args:
        assets_of: what another revision consists of.
    """

    def newest(instance: dg.DagsterInstance) -> tuple[Revision, DbtAssets]:
        # A webserver learns a moment after the daemon, whose sensor said what waits, that the code
        # location has loaded another commit. Until then it launches this job as it was before.
        storage = instance.defs_state_storage
        digest = published(environment, storage) or revision.digest
        if digest == revision.digest:
            return revision, dbt
        loaded = open_commit(settings, environment, digest, storage)
        return loaded, assets_of(loaded)

    form = named(environment, "approve")

    @dg.op(name=form, description="Shows what waits, and lets the push sensor start it.")
    def approve(context: dg.OpExecutionContext, config: HistoryForm) -> None:
        instance = context.instance
        shown, assets = newest(instance)
        text = "Nothing waits."
        try:
            due = _chosen(Ledger(settings, environment, instance, shown, assets), config.models)
            if due.waiting:
                order = order_of(assets, due.waiting, due.partitions)
                text = preview(assets, instance, BuildRequest.of_nodes(assets, due.waiting, order))
        except PartitionError as error:
            raise not_started(error) from None
        waits = due.waits(assets)
        tags, said = {WHY_TAG: "nothing waits"}, "Nothing was started: nothing waits."
        if waits and config.dry_run:
            tags = {WHY_TAG: shortened(f"what it would take to {waits}")}
            said = "Nothing was started: launch it with dry_run: false."
        elif waits:
            why = shortened(f"lets be done what waits: to {waits}")
            tags = {WHY_TAG: why, APPROVED_TAG: shown.digest}
            tags |= packed(CHOSEN_TAG, sorted(due.asked)) if config.models else {}
            said = f"The sensor {named(environment, 'push')} starts it within seconds: see Runs."
        instance.add_run_tags(context.run.run_id, tags)
        context.log.info(f"{text}\n\n{said}")
        waits = waits or "nothing waits"
        context.add_output_metadata(
            {"plan": dg.MetadataValue.md(text), "waits": waits, "next": said}
        )

    @dg.job(
        name=named(environment, "rebuild_history"),
        description="Start rebuilding the history that the last push makes due and that waits for"
        " somebody to say so: all of it, or that of some models. Only shows what it would take"
        " while dry_run is set.",
        config={"ops": {form: {"config": HistoryForm().model_dump()}}},
        tags={ENVIRONMENT_TAG: environment},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        approve()

    return job


def _chosen(ledger: Ledger, names: Collection[str]) -> Due:
    """What waits, without what waits on if only these models, and what they read, are started.

    Raises:
        PartitionError: there is no such model, or it does not wait.
    """
    due = ledger.due(lambda _: True)
    assert due is not None
    if not names:
        return due
    env, asked = ledger.dbt.env, due.asked.keys()
    chosen = {find_model(ledger.revision.manifest, name) for name in names}
    if others := sorted(env.nodes[u]["name"] for u in chosen - asked):
        waits = ", ".join(env.nodes[u]["name"] for u in asked) or "nothing"
        raise PartitionError(f"models: {', '.join(others)} does not wait; what waits is {waits}")
    chosen |= ancestors_of(env.nodes, *chosen) & asked
    after = ledger.due(lambda _: True, allowed=chosen)
    assert after is not None
    return replace(due, waiting={u: w for u, w in due.waiting.items() if u not in after.waiting})
