"""Rebuilding by hand: a form in the Launchpad that shows what it would do, and then does it.

The job itself builds nothing. It shows the plan that the build would make, and keeps the request
with its own run; the sensor beside it submits that request. So the form can be looked at before
anything is touched, and who asked for what stays on record.
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg
from pydantic import Field

from dbt_orchestration.assets.dbt_assets import DbtAssets, of_environment
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.history.late import reloaded_since
from dbt_orchestration.history.order import Order
from dbt_orchestration.history.partitions import PartitionError, partition_config
from dbt_orchestration.history.rebuild import Rebuild, Wanted, find_model, rebuild
from dbt_orchestration.ledger.provenance import ancestors_of
from dbt_orchestration.ledger.run_tags import (
    ENVIRONMENT_TAG,
    WHY_TAG,
    shortened,
)
from dbt_orchestration.operations.preview import not_started, preview
from dbt_orchestration.runs.request import BuildRequest, ranges
from dbt_orchestration.settings.types import named

_TICK_SECONDS = 5
# The daemon may have been down for so long. Dagster starts each only once, by its run key.
_LOOK_BACK = timedelta(days=1)


class RebuildForm(dg.Config):
    """What to rebuild."""

    model: str = Field(description="Name of the model, for example fct_orders.")
    since: str = Field(
        default="",
        description="First day, as 2024-01-31, or moment, in UTC. Empty: from its beginning.",
    )
    until: str = Field(default="", description="Last day, inclusive. Empty: until now.")
    include_downstream: bool = Field(
        default=True, description="Build everything that reads it as well."
    )
    full_refresh: bool = Field(
        default=False,
        description="Recreate the whole table. The old one stays until the new one has passed its"
        " tests.",
    )
    only_reloaded: bool = Field(
        default=False,
        description="Only partitions that read something which was loaded again since.",
    )
    dry_run: bool = Field(
        default=True, description="True: only show what it would do. False: do it."
    )


def rebuild_job(
    environment: str, revision: Revision, dbt: DbtAssets
) -> tuple[dg.JobDefinition, dg.SensorDefinition]:
    """The form as a job, and the sensor that starts what it asks for."""
    form = named(environment, "form")

    @dg.op(name=form, description="Shows what would be rebuilt, and asks for it to be.")
    def ask(context: dg.OpExecutionContext, config: RebuildForm) -> None:
        try:
            wanted = _rebuild(revision, dbt, context.instance, config)
            request = _request(wanted, dbt)
            text = preview(dbt, context.instance, request)
        except PartitionError as error:
            raise not_started(error) from None
        text = "\n\n".join([text, *wanted.notes, f"The same with dbt: `{wanted.command}`"])
        started = "Nothing was started: launch it with dry_run: false."
        tags = {WHY_TAG: shortened(f"what it would take to rebuild {config.model}")}
        if not config.dry_run:
            sensor = named(environment, "rebuild")
            started = f"The sensor {sensor} starts it within seconds as a run of its own: see Runs."
            why = shortened(f"asks to rebuild {config.model}")
            tags = {WHY_TAG: why, **request.as_tags(dbt)}
        context.instance.add_run_tags(context.run.run_id, tags)
        context.log.info(f"{text}\n\n{started}")
        context.add_output_metadata(
            {"plan": dg.MetadataValue.md(text), "command": wanted.command, "next": started}
        )

    @dg.job(
        name=named(environment, "rebuild"),
        description="Rebuild a model, and what reads it, over a range of time or from nothing."
        " Shows what it would do while dry_run is set.",
        config={"ops": {form: {"config": RebuildForm(model="").model_dump()}}},
        tags={ENVIRONMENT_TAG: environment},
        executor_def=dg.in_process_executor,
    )
    def job() -> None:
        ask()

    @dg.sensor(
        name=named(environment, "rebuild"),
        asset_selection=of_environment(dbt),
        minimum_interval_seconds=_TICK_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Starts what the job of the same name was asked for.",
    )
    def start(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        forms = context.instance.get_runs(
            dg.RunsFilter(
                job_name=job.name,
                statuses=[dg.DagsterRunStatus.SUCCESS],
                updated_after=datetime.now(UTC) - _LOOK_BACK,
            )
        )
        asked = [run for run in forms if BuildRequest.is_in(run.tags)]
        done = set(json.loads(context.cursor or "[]"))
        requests, said = [], []
        for run in asked:
            if run.run_id in done:
                continue
            try:
                request = BuildRequest.of_tags(dbt, run.tags)
            except KeyError as error:
                said.append(f"Run {run.run_id[:8]} cannot be done any more: {error} is gone.")
                continue
            why = f"run {run.run_id[:8]} {run.tags.get(WHY_TAG, 'asks to rebuild it')}"
            requests.append(request.run_request(dbt, f"rebuild {run.run_id}", why))
        return dg.SensorResult(
            run_requests=requests,
            skip_reason=None if requests else " ".join(said) or "Nobody has asked for anything.",
            cursor=json.dumps(sorted(run.run_id for run in asked)),
        )

    return job, start


def _rebuild(
    revision: Revision, dbt: DbtAssets, instance: dg.DagsterInstance, form: RebuildForm
) -> Rebuild:
    wanted = Wanted(form.model, form.since, form.until, form.include_downstream, form.full_refresh)
    now = datetime.now(UTC)
    plan = rebuild(revision.manifest, wanted, now)
    if not form.only_reloaded:
        return plan
    unique_id = find_model(revision.manifest, form.model)
    reloaded = _reloaded(revision, dbt, instance, unique_id)
    if not reloaded:
        raise PartitionError(f"nothing that {form.model} reads was loaded again since it was built")
    return rebuild(revision.manifest, wanted, now, reloaded)


def _reloaded(
    revision: Revision, dbt: DbtAssets, instance: dg.DagsterInstance, unique_id: str
) -> set[str]:
    nodes = revision.manifest["nodes"]
    model = partition_config(nodes[unique_id])
    if model is None:
        raise PartitionError(f"only_reloaded: {nodes[unique_id]['name']} has no partitions")
    sources = []
    above = {unique_id, *ancestors_of(nodes, unique_id, ephemeral=True)}
    read = {p for u in above for p in revision.manifest["parent_map"][u]}
    for source in sorted(read & dbt.sources.keys()):
        if config := partition_config(revision.manifest["sources"][source]):
            sources.append((config, _when(instance, dbt.keys[source])))
    return reloaded_since(model, _when(instance, dbt.keys[unique_id]), sources)


def _when(instance: dg.DagsterInstance, key: dg.AssetKey) -> Mapping[str, int]:
    return instance.event_log_storage.get_latest_storage_id_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION
    )


def _request(wanted: Rebuild, dbt: DbtAssets) -> BuildRequest:
    order = Order(partitions=ranges(dbt, wanted.partitions), rebuild=list(wanted.rebuilt))
    return BuildRequest.of_nodes(dbt, wanted.nodes, order)
