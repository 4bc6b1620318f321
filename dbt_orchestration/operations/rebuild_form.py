"""Rebuilding by hand: a form in the Launchpad that shows what it would do, and then does it."""

from collections.abc import Mapping
from datetime import UTC, datetime

import dagster as dg
from pydantic import Field

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.history.late import reloaded_since
from dbt_orchestration.history.order import Order
from dbt_orchestration.history.partitions import PartitionError, partition_config
from dbt_orchestration.history.rebuild import Rebuild, Wanted, find_model, rebuild
from dbt_orchestration.ledger.provenance import ancestors_of
from dbt_orchestration.operations.asked import asked_sensor_name
from dbt_orchestration.operations.form import Answer, form_job, reason_of
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.operations.preview import preview
from dbt_orchestration.runs.request import BuildRequest, ranges


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
    reason: str = Field(default="", description="Why. It stands on the run, for everybody.")
    dry_run: bool = Field(
        default=True, description="True: only show what it would do. False: do it."
    )


def rebuild_job(loaded: Loaded) -> dg.JobDefinition:
    """The form as a job."""
    environment = loaded.name

    def answer(instance: dg.DagsterInstance, form: RebuildForm) -> Answer:
        reason = reason_of(form.reason, needed=not form.dry_run)
        at = loaded.newest(instance)
        wanted = _rebuild(at.revision, at.dbt, instance, form)
        request = _request(wanted, at.dbt)
        text = preview(at.dbt, instance, request)
        text = "\n\n".join([text, *wanted.notes, f"The same with dbt: `{wanted.command}`"])
        command = {"command": wanted.command}
        if form.dry_run:
            return Answer(text, f"what it would take to rebuild {form.model}", metadata=command)
        return Answer(
            text,
            f"asks to rebuild {form.model}: {reason}",
            f"The sensor {asked_sensor_name(environment)} starts it within seconds as a run of its"
            " own: see Runs.",
            request.as_tags(at.dbt),
            command,
        )

    return form_job(
        environment,
        "rebuild",
        RebuildForm,
        answer,
        "Rebuild a model, and what reads it, over a range of time or from nothing."
        " Shows what it would do while dry_run is set.",
        op="form",
        begin=RebuildForm(model="").model_dump(),
    )


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
