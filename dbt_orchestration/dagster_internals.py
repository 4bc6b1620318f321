"""What we need of Dagster's private parts: one function or class for each, and no more.

``tests/test_dagster_internals.py`` holds a contract test for each, which fails loudly on an upgrade
that moves one. Nothing else in this package imports ``dagster._…``.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._cli.proxy_server_manager import ProxyServerManager
from dagster._core.definitions.asset_selection import TagAssetSelection
from dagster._core.definitions.assets.graph.base_asset_graph import BaseAssetGraph
from dagster._core.definitions.assets.job.asset_job import (
    build_asset_job,
    get_asset_graph_for_job,
)
from dagster._core.definitions.definitions_load_context import (
    DefinitionsLoadContext,
    DefinitionsLoadType,
)
from dagster._core.definitions.metadata.metadata_value import (
    CodeLocationReconstructionMetadataValue,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.errors import DagsterUserCodeUnreachableError
from dagster._core.events import EngineEventData
from dagster._core.execution.plan import objects as plan_objects
from dagster._core.executor.child_process_executor import ChildProcessCrashException
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    ManagedGrpcPythonEnvCodeLocationOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    ScheduleInstigatorData,
)
from dagster._core.storage.asset_check_execution_record import (
    AssetCheckExecutionRecord,
    AssetCheckExecutionRecordStatus,
)
from dagster._core.storage.defs_state.base import DefsStateStorage
from dagster._core.storage.event_log.base import AssetRecord
from dagster._core.storage.runs.sql_run_storage import SqlRunStorage
from dagster._grpc.types import CanCancelExecutionRequest, CanCancelExecutionResult
from dagster._serdes import deserialize_value
from dagster._utils.schedules import cron_string_iterator, get_latest_completed_cron_tick
from dagster_shared.error import SerializableErrorInfo
from dagster_shared.record import as_dict

__all__ = [
    "AssetRecord",
    "CheckRecord",
    "CheckRunHealthResult",
    "CheckStatus",
    "DefaultRunLauncher",
    "MixedPartitionsAssets",
    "MixedPartitionsJob",
    "PlainFailure",
    "StateStorage",
    "TagSelection",
    "WorkerStatus",
]

StateStorage = DefsStateStorage[dg.DagsterInstance]
Context = dg.SensorEvaluationContext | dg.AssetExecutionContext
CheckRecord = AssetCheckExecutionRecord
CheckStatus = AssetCheckExecutionRecordStatus


class MixedPartitionsAssets(dg.AssetsDefinition):
    """A multi-asset whose assets have different partitions definitions, run in one step.

    Dagster allows such a definition but, while a step runs, asks it for *the* definition of all its
    assets in order to look up the versions of its inputs, and fails if there are two, or if the run
    has no partition key (dagster#33441, dagster#23210). Answering None makes it look at the latest
    version of each input instead. Each asset keeps its own definition everywhere else: the UI,
    backfills and events read it from the asset's spec.
    """

    @property
    def partitions_def(self) -> dg.PartitionsDefinition | None:
        return None

    def get_partition_mapping_for_dep(
        self,
        dep_key: dg.AssetKey,  # noqa: ARG002
    ) -> dg.PartitionMapping | None:
        return None

    @staticmethod
    def dagster_internal_init(**attributes: Any) -> MixedPartitionsAssets:
        return MixedPartitionsAssets(**attributes)

    @classmethod
    def of(cls, assets: dg.AssetsDefinition) -> MixedPartitionsAssets:
        return cls.dagster_internal_init(**assets.get_attributes_dict())


def with_keys(
    assets: dg.AssetsDefinition,
    keys: Mapping[dg.AssetKey, dg.AssetKey],
    checks: Iterable[dg.AssetCheckSpec],
) -> dg.AssetsDefinition:
    """Assets that were defined under other keys, which gave names to what belongs to them.

    Args:
        keys: the wanted key by the one that it was defined under.
        checks: as they are wanted.
    """
    renamed = assets.with_attributes(asset_key_replacements=keys)
    wanted = {check.key: check for check in checks}
    attributes = renamed.get_attributes_dict()
    named = attributes["check_specs_by_output_name"]
    return type(renamed).dagster_internal_init(
        **{
            **attributes,
            "check_specs_by_output_name": {name: wanted[c.key] for name, c in named.items()},
        }
    )


class MixedPartitionsJob(UnresolvedAssetJobDefinition):
    """An asset job whose assets may have different partitions definitions.

    ``define_asset_job`` refuses that, although the job behind the UI's Materialize button allows
    it.
    """

    @classmethod
    def of(cls, job: UnresolvedAssetJobDefinition) -> MixedPartitionsJob:
        return cls(**as_dict(job))

    def resolve(
        self,
        asset_graph: Any,
        default_executor_def: dg.ExecutorDefinition | None = None,
        resource_defs: Mapping[str, dg.ResourceDefinition] | None = None,
    ) -> dg.JobDefinition:
        return build_asset_job(
            self.name,
            asset_graph=get_asset_graph_for_job(
                asset_graph, self.selection, allow_different_partitions_defs=True
            ),
            allow_different_partitions_defs=True,
            config=self.config,
            description=self.description,
            tags=self.tags,
            run_tags=self.run_tags,
            metadata=self.metadata,
            executor_def=self.executor_def or default_executor_def,
            resource_defs=resource_defs,
        )


def pin(key: str, load: Callable[[], str]) -> str:
    """The value of ``key`` that this code location was loaded with.

    The code server, loading definitions for the first time, asks ``load`` and stores the answer
    with the definitions; each run gets that answer back, however the world has changed since.
    """
    context = DefinitionsLoadContext.get()
    if context.load_type is DefinitionsLoadType.RECONSTRUCTION:
        stored: str | None = context.reconstruction_metadata.get(key)
        if stored is not None:
            return stored
    pending = context.get_pending_reconstruction_metadata()
    if key not in pending:
        context.add_to_pending_reconstruction_metadata(key, load())
    return str(pending[key])


def is_loaded_for_a_run() -> bool:
    """Whether definitions are being loaded for a run, and not by a code server for itself."""
    return DefinitionsLoadContext.get().load_type is DefinitionsLoadType.RECONSTRUCTION


def pinned(instance: dg.DagsterInstance, run: dg.DagsterRun, key: str) -> str | None:
    """The value of ``key`` that a run was launched with; None if its location has pinned none."""
    plan = run.execution_plan_snapshot_id
    loaded = plan and instance.get_execution_plan_snapshot(plan).repository_load_data
    value = loaded and loaded.reconstruction_metadata.get(key)
    return value.data if isinstance(value, CodeLocationReconstructionMetadataValue) else None


class TagSelection(TagAssetSelection):
    """All assets with a tag, told to Dagster's UI as that and not as each of their keys."""

    def to_serializable_asset_selection(self, _: BaseAssetGraph[Any]) -> dg.AssetSelection:
        return TagAssetSelection(
            key=self.key, value=self.value, include_sources=self.include_sources
        )


class PlainFailure(dg.Failure):
    """A failure that is shown as its words: they say what is wrong and what to do.

    Dagster shows where in the code any other exception was raised, which helps nobody who is
    refused something, or whose SQL is wrong.
    """

    def __init__(
        self,
        words: str,
        metadata: Mapping[str, dg.MetadataValue[Any]] | None = None,
        *,
        allow_retries: bool = True,
    ) -> None:
        super().__init__(words, metadata, allow_retries)
        _show_plainly()


def _show_plainly() -> None:
    """Make Dagster, in this process, record no stack trace with a ``PlainFailure``."""
    record = vars(plan_objects)["serializable_error_info_from_exc_info"]
    if getattr(record, "plain", False):
        return

    def record_plainly(exc_info: Any) -> SerializableErrorInfo:
        info: SerializableErrorInfo = record(exc_info)
        _, error, _ = exc_info
        if isinstance(error, PlainFailure):
            return SerializableErrorInfo(error.description or "", [], info.cls_name)
        return info

    record_plainly.plain = True  # type: ignore[attr-defined]
    vars(plan_objects).update(serializable_error_info_from_exc_info=record_plainly)


def state_storage() -> StateStorage | None:
    """Where Dagster keeps the state of definitions, while a code location is being loaded."""
    return DefsStateStorage.get()


def instance_of(storage: StateStorage) -> dg.DagsterInstance | None:
    """The instance that ``storage`` is a part of."""
    return storage._instance if storage.has_instance else None


def is_one_database(one: dg.DagsterInstance | None, other: dg.DagsterInstance) -> bool:
    """Whether two instances have the same database; True if that is not known."""
    both = [each.run_storage for each in (one, other) if each]
    known = [each for each in both if isinstance(each, SqlRunStorage)]
    for each in known:
        each.get_run_storage_id()  # stored there by who asks first; two may ask at the same time
    return len({each.get_run_storage_id() for each in known}) < 2


def upload_state(storage: StateStorage, key: str, version: str, archive: Path) -> None:
    """Store a version, which is not the latest one by that.

    Dagster would make it that. It would also make a bucket that is not there, which is that of a
    typing error, after it has asked four times.
    """
    if isinstance(storage, dg.UPathDefsStateStorage):
        path = storage._get_state_path(key, version)
        if _is_on_disk(storage):
            path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(archive.read_bytes())
    else:
        latest = storage.get_latest_version(key)
        storage.upload_state_from_path(key, version, archive)
        storage.set_latest_version(key, latest)


def _is_on_disk(storage: dg.UPathDefsStateStorage) -> bool:
    return getattr(storage.base_path, "protocol", "") in {"", "file", "local"}


def has_state(storage: StateStorage, key: str, version: str) -> bool:
    """Whether a version is in the storage; True if this kind of storage does not tell."""
    if not isinstance(storage, dg.UPathDefsStateStorage):
        return True
    return bool(storage._get_state_path(key, version).exists())


def forget_listings(storage: StateStorage) -> None:
    """Forget what was in the storage: s3fs lists a folder once, and others write there, too."""
    if isinstance(storage, dg.UPathDefsStateStorage) and not _is_on_disk(storage):
        storage.base_path.fs.invalidate_cache()


def delete_state(storage: StateStorage, key: str, version: str) -> None:
    """Remove one version from the storage. Dagster itself never does; others may not be able to."""
    if isinstance(storage, dg.UPathDefsStateStorage):
        storage._get_state_path(key, version).unlink(missing_ok=True)


def stored_versions(storage: StateStorage, key: str) -> Sequence[str]:
    """The versions of ``key`` that are in the storage, the one stored last first.

    Empty if this kind of storage cannot list them.
    """
    if not isinstance(storage, dg.UPathDefsStateStorage):
        return ()
    folder = storage._get_state_path(key, "any").parent
    if not folder.exists():
        return ()
    stored = [(path.stat().st_mtime, path.name) for path in folder.iterdir() if path.is_file()]
    return [name for _, name in sorted(stored, reverse=True)]


def place_of(storage: StateStorage) -> str:
    """Where the storage keeps its files: a folder or a bucket; never its credentials."""
    kept_in = storage.base_path if isinstance(storage, dg.UPathDefsStateStorage) else None
    return re.sub(r"//[^/@]*@", "//", str(kept_in or type(storage).__name__))


def read_notes(instance: dg.DagsterInstance, keys: Iterable[str]) -> Mapping[str, str]:
    """What was written in Dagster's own database under ``keys``, if anything was."""
    return instance.daemon_cursor_storage.get_cursor_values(set(keys))


def write_note(instance: dg.DagsterInstance, key: str, text: str) -> None:
    """Keep ``text`` under ``key`` in Dagster's own database."""
    instance.daemon_cursor_storage.set_cursor_values({key: text})


def sensor_cursor(context: Context, name: str) -> str | None:
    """The cursor of a sensor of the code location that a sensor, or a run, belongs to."""
    state = _automation_state(context, name)
    data = state.sensor_instigator_data if state else None
    return data.cursor if data else None


def on_since(context: Context, name: str, default: bool) -> float | None:
    """Since when a schedule of the same code location is on; None if it is off.

    Args:
        default: whether it is on if nobody has switched it.

    Returns:
        Seconds since 1970; 0 if it was always on.
    """
    state = _automation_state(context, name)
    switched = state is not None and state.status is not InstigatorStatus.DECLARED_IN_CODE
    is_on = state.is_running if state and switched else default
    data = state.instigator_data if state else None
    started = data.start_timestamp if isinstance(data, ScheduleInstigatorData) else None
    return (started or 0.0) if is_on else None


def _automation_state(context: Context, name: str) -> InstigatorState | None:
    if context.instance.schedule_storage is None:  # as of an instance in memory
        return None
    place = _location(context)
    for state in context.instance.all_instigator_state():
        origin = state.origin.repository_origin.code_location_origin
        is_here = place is None or origin.location_name == place
        if state.instigator_name == name and is_here:
            return state
    return None


def _location(context: Context) -> str | None:
    if isinstance(context, dg.SensorEvaluationContext):
        place = context.code_location_origin
        return place.location_name if place else None
    job = context.run.remote_job_origin
    return job.location_name if job else None


def field_descriptions(op: dg.NodeDefinition) -> Mapping[str, str]:
    """What an op's ``Config`` says of its fields, by name."""
    assert isinstance(op, dg.OpDefinition)
    fields = op.config_schema.as_field().config_type.fields  # type: ignore[attr-defined]
    return {name: field.description or "" for name, field in fields.items()}


def last_cron_tick(cron: str, timezone: str, before: datetime) -> datetime:
    """When a schedule was to start something the last time."""
    return get_latest_completed_cron_tick(cron, before, timezone)


def next_cron_ticks(cron: str, timezone: str, after: datetime, count: int) -> Sequence[datetime]:
    """The first ``count`` ticks of a cron expression, read in ``timezone``, from ``after`` on."""
    ticks = cron_string_iterator(after.timestamp(), cron, timezone)
    return list(islice(ticks, count))


def not_fresh(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]
) -> Mapping[dg.AssetKey, bool]:
    """Whether assets miss their freshness policies; without those of which that is not known."""
    known = {"PASS": False, "WARN": False, "FAIL": True}
    records = instance.get_freshness_state_records(list(keys))
    states = {key: record.freshness_state.value for key, record in records.items()}
    return {key: known[state] for key, state in states.items() if state in known}


def is_to_be_retried(run: dg.DagsterRun) -> bool:
    """Whether a run failed that Dagster has still to start again."""
    return bool(run.is_complete_and_waiting_to_retry)


def retries_runs(instance: dg.DagsterInstance) -> bool:
    """Whether Dagster is set to start runs again that have failed."""
    return bool(instance.run_retries_enabled)


def say(
    instance: dg.DagsterInstance,
    run: dg.DagsterRun,
    message: str,
    metadata: Mapping[str, dg.MetadataValue[Any]],
) -> None:
    """Put a line into the log of a run, with metadata, which no public function takes."""
    instance.report_engine_event(message, run, EngineEventData(metadata))


def a_step_died(instance: dg.DagsterInstance, run_id: str) -> bool:
    """Whether a process that a run gave to a step died, so that no code could say why it failed.

    Dagster's multiprocess executor has an exception for that. Executors of other machines, such as
    the one for Kubernetes, give the error of a failed health check no class.
    """
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    events = [record.event_log_entry.dagster_event for record in records.records]
    errors = [event.step_failure_data.error for event in events if event]
    return any(e and e.cls_name in {None, ChildProcessCrashException.__name__} for e in errors)


def is_executing(launcher: Any, run_id: str) -> bool:
    """Whether the code server that was told to execute a run says that it still does.

    Args:
        launcher: Dagster's default run launcher.
    """
    client = launcher._get_grpc_client_for_termination(run_id)
    if client is None:
        return False
    try:
        answer = client.can_cancel_execution(CanCancelExecutionRequest(run_id=run_id), timeout=10)
    except DagsterUserCodeUnreachableError as error:
        return _took_too_long(error)  # too busy to answer is not gone
    return bool(deserialize_value(answer, CanCancelExecutionResult).can_cancel)


def _took_too_long(error: DagsterUserCodeUnreachableError) -> bool:
    return "DEADLINE_EXCEEDED" in str(error.__cause__)


def set_pool_limit(instance: dg.DagsterInstance, pool: str, limit: int) -> None:
    """Set how many runs may use ``pool`` at once, as the UI's Deployment > Concurrency does."""
    instance.event_log_storage.set_concurrency_slots(pool, limit)


def pool_limit(instance: dg.DagsterInstance, pool: str) -> int | None:
    """How many runs may use ``pool`` at once; None if there is no limit."""
    limits = {each.name: each.limit for each in instance.event_log_storage.get_pool_limits()}
    default = instance.get_concurrency_config().pool_config.default_pool_limit
    return limits.get(pool, default)


def pools_of(run: dg.DagsterRun) -> Collection[str]:
    """The pools that a run takes a place of."""
    return (run.run_op_concurrency and run.run_op_concurrency.all_pools) or ()


def start_code_servers_at_once() -> None:
    """Make ``dagster dev`` start the code servers side by side, and not one after the other.

    Each takes seconds to import what it needs, and a restart waits for all of them.
    """
    initialize = ProxyServerManager._initialize_endpoints

    def initialize_at_once(self: ProxyServerManager) -> None:
        managed = [
            origin
            for origin in self._origins
            if isinstance(origin, ManagedGrpcPythonEnvCodeLocationOrigin)
        ]
        # Without the registry's lock, which is there for two that ask for the same one.
        start = self._grpc_server_registry._get_grpc_server_entry
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            list(pool.map(start, managed))
        initialize(self)

    setattr(ProxyServerManager, "_initialize_endpoints", initialize_at_once)  # noqa: B010


def serve(webserver: str) -> None:
    """Run ``dagster dev`` as this process's command line has it, with another webserver.

    Args:
        webserver: the module to run in place of ``dagster_webserver``.
    """
    from dagster._cli import dev

    start = vars(dev)["open_ipc_subprocess"]

    def start_ours(command: Sequence[str], **options: Any) -> Any:
        return start([{"dagster_webserver": webserver}.get(p, p) for p in command], **options)

    vars(dev).update(open_ipc_subprocess=start_ours)
    start_code_servers_at_once()
    dev.dev_command(prog_name="dagster dev")


def reload_code_location(context: dg.SensorEvaluationContext, seconds: float) -> None:
    """Make the code location that a sensor belongs to load again, and wait for it.

    If that takes longer than ``seconds``, it goes on by itself. The location's server has to be
    ``dagster code-server start``, as under ``dagster dev``: ``dagster api grpc`` answers and does
    nothing.
    """
    origin = context.code_location_origin
    if not isinstance(origin, GrpcServerCodeLocationOrigin):
        return
    try:
        origin.create_client().reload_code(timeout=math.ceil(seconds))
    except DagsterUserCodeUnreachableError as error:
        if not _took_too_long(error):
            raise
