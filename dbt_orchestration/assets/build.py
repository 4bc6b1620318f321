"""What a run does: one dbt command for everything selected, and a record of all that landed."""

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import dagster as dg
from pydantic import Field

from dbt_orchestration import upstream
from dbt_orchestration.assets.partitions import (
    PartitionConfig,
    PartitionError,
    keys_in_range,
    keys_in_window,
    newest,
    partition_keys,
    window,
)
from dbt_orchestration.assets.translator import PARTITIONS_CHECK, EnvironmentTranslator
from dbt_orchestration.invocation import DbtError, DbtInvocation
from dbt_orchestration.revisions.working_tree import Revision
from dbt_orchestration.settings import Settings

_PARTITION_TAG = "dagster/partition"
_RANGE_TAGS = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_PARENT_TAG = "dagster/parent_run_id"
_CODE_VERSION_TAG, _DATA_VERSION_TAG = "dagster/code_version", "dagster/data_version"
_LANDED = frozenset({"success", "no-op", "reused", "warn"})


class BuildConfig(dg.Config):
    """What a person may set for any materialization, in the Launchpad."""

    full_refresh: bool = Field(
        False, description="Rebuild whole tables of incremental models and seeds from nothing."
    )
    vars: dict[str, Any] = Field({}, description="dbt vars for this run, for example {days: 3}.")
    exclude_tests: bool = Field(False, description="Build without running any test.")


@dataclass(frozen=True)
class Partitions:
    """What a run builds of one node."""

    keys: Sequence[str]
    """Oldest first."""
    resumed: bool
    """Others of the same request landed in an earlier attempt, and must be kept."""


class Build:
    """One run of an environment's dbt assets."""

    def __init__(
        self,
        settings: Settings,
        environment: str,
        revision: Revision,
        translator: EnvironmentTranslator,
        unique_ids: Mapping[dg.AssetKey | dg.AssetCheckKey, str],
    ) -> None:
        self._settings = settings
        self._environment = environment
        self._revision = revision
        self._translator = translator
        self._unique_ids = unique_ids
        self._keys = {uid: key for key, uid in unique_ids.items() if isinstance(key, dg.AssetKey)}

    def run(self, context: dg.AssetExecutionContext, config: BuildConfig) -> Iterator[Any]:
        """Yield a result for each node, test and batch as it lands.

        Raises:
            dagster.Failure: the request cannot be met, or nodes failed. Everything that landed
                before is recorded.
        """
        nodes = self._selected_nodes(context)
        tests = {} if config.exclude_tests else self._selected_tests(context)
        if not nodes and not tests:
            context.log.info("Nothing of dbt to run.")
            return
        try:
            partitions = self._partitions(context, config, nodes)
            command = self._command(context, config, nodes, tests, partitions)
            manifest = self._manifest(config)
        except (PartitionError, DbtError) as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        for unique_id, wanted in partitions.items():
            model = self._translator.partition_config(nodes[unique_id])
            if model is not None and model.is_microbatch:
                windows = [window(model, key) for key in wanted.keys]
                upstream.set_batches(manifest, unique_id, windows)
                if wanted.resumed:
                    upstream.keep_table(manifest, unique_id)
        invocation = DbtInvocation(
            self._settings,
            self._environment,
            command,
            manifest,
            {"DAGSTER_RUN_ID": context.run.run_id},
        )
        context.log.info(f"Equivalent command: {invocation}")
        for event in invocation.events():
            yield from self._results(context, event, partitions, tests)
        try:
            invocation.raise_on_failure()
        except DbtError as error:
            raise dg.Failure(str(error)) from None
        shutil.rmtree(self._scratch(context.run.run_id), ignore_errors=True)

    def _selected_nodes(self, context: dg.AssetExecutionContext) -> dict[str, Mapping[str, Any]]:
        unique_ids = sorted(self._unique_ids[key] for key in context.selected_asset_keys)
        return {unique_id: self._revision.manifest["nodes"][unique_id] for unique_id in unique_ids}

    def _selected_tests(self, context: dg.AssetExecutionContext) -> dict[str, dg.AssetCheckKey]:
        return {
            self._unique_ids[key]: key
            for key in sorted(context.selected_asset_check_keys)
            if key in self._unique_ids
        }

    def _partitions(
        self,
        context: dg.AssetExecutionContext,
        config: BuildConfig,
        nodes: Mapping[str, Mapping[str, Any]],
    ) -> dict[str, Partitions]:
        """What to build of each partitioned node."""
        models = {
            unique_id: model
            for unique_id, node in nodes.items()
            if (model := self._translator.partition_config(node))
        }
        now = datetime.now(UTC)
        chosen = _chosen_range(context.run.tags)
        lookback = self._settings.environment(self._environment).lookback
        landed = _landed_before(context)
        partitions: dict[str, Partitions] = {}
        for unique_id, model in models.items():
            asset = self._keys[unique_id]
            done = landed.get(asset, set())
            if chosen:
                requested = _requested(model, list(models.values()), chosen, now)
            elif config.full_refresh:
                requested = partition_keys(model, now)
            else:
                # What the first attempt saw: without what it and later ones have landed since.
                built = set(context.instance.get_materialized_partitions(asset)) - done
                requested = newest(model, built, now, lookback)
            if not requested:
                raise PartitionError(f"{unique_id} has no partition to build: {chosen or 'yet'}")
            if config.full_refresh:
                _refuse_partial_full_refresh(nodes[unique_id], model, requested, now)
            # All landed and yet here again: then a test failed, and the whole is built anew.
            rest = [key for key in requested if key not in done] or requested
            partitions[unique_id] = Partitions(rest, resumed=len(rest) < len(requested))
        return partitions

    def _manifest(self, config: BuildConfig) -> Any:
        if not config.vars:
            return upstream.load_manifest(self._revision.partial_parse_path)
        # Vars may decide configs and which nodes there are, so dbt has to parse again.
        command = ["parse", *_vars(config.vars), "--target-path", str(self._scratch("parse"))]
        invocation = DbtInvocation(self._settings, self._environment, [*command, "--quiet"])
        for _ in invocation.events():
            pass
        invocation.raise_on_failure()
        assert invocation.result is not None
        return invocation.result.result

    def _scratch(self, name: str) -> str:
        return str(self._settings.state_dir / "runs" / name)

    def _command(
        self,
        context: dg.AssetExecutionContext,
        config: BuildConfig,
        nodes: Mapping[str, Mapping[str, Any]],
        tests: Mapping[str, dg.AssetCheckKey],
        partitions: Mapping[str, Partitions],
    ) -> list[str]:
        command = ["build", "--indirect-selection", "empty", "--cache-selected-only"]
        command += ["--no-write-json", "--target-path", self._scratch(context.run.run_id)]
        if config.full_refresh:
            command.append("--full-refresh")
        command += _vars({**config.vars, **self._window_vars(nodes, partitions)})
        manifest = self._revision.manifest
        tested = [manifest["nodes"].get(t) or manifest["unit_tests"][t] for t in tests]
        return [*command, "--select", *(".".join(n["fqn"]) for n in [*nodes.values(), *tested])]

    def _window_vars(
        self, nodes: Mapping[str, Mapping[str, Any]], partitions: Mapping[str, Partitions]
    ) -> dict[str, str]:
        """Vars for models that read their window from them: one window that covers them all."""
        starts: dict[str, datetime] = {}
        ends: dict[str, datetime] = {}
        for unique_id, wanted in partitions.items():
            model = self._translator.partition_config(nodes[unique_id])
            keys = wanted.keys
            if model and model.start_var and model.end_var:
                start, end = window(model, keys[0])[0], window(model, keys[-1])[1]
                starts[model.start_var] = min(start, starts.get(model.start_var, start))
                ends[model.end_var] = max(end, ends.get(model.end_var, end))
        return {name: time.strftime("%Y-%m-%dT%H:%M:%S") for name, time in (starts | ends).items()}

    def _results(
        self,
        context: dg.AssetExecutionContext,
        event: Mapping[str, Any],
        partitions: Mapping[str, Partitions],
        tests: Mapping[str, dg.AssetCheckKey],
    ) -> Iterator[Any]:
        data, info = event["data"], event["data"]["node_info"]
        unique_id, name = info["unique_id"], event["info"]["name"]
        status = _status(data)
        if name == "LogTestResult":
            if unique_id in tests and status != "skipped":
                yield _check_result(tests[unique_id], status, data)
            return
        key = self._keys[unique_id]
        if unique_id not in partitions:
            if status in _LANDED:
                yield dg.MaterializeResult(asset_key=key, metadata=_metadata(data, info))
            return
        keys = partitions[unique_id].keys
        if name == "LogBatchResult":
            if status in _LANDED:
                self._record(context, unique_id, [keys[int(data["batch_index"]) - 1]], data)
            return
        microbatch = self._translator.partition_config(self._revision.manifest["nodes"][unique_id])
        if status in _LANDED and microbatch and not microbatch.is_microbatch:
            self._record(context, unique_id, keys, data)
        check = dg.AssetCheckKey(key, PARTITIONS_CHECK)
        if check in context.selected_asset_check_keys and status != "skipped":
            yield dg.AssetCheckResult(
                asset_key=key,
                check_name=PARTITIONS_CHECK,
                passed=status in _LANDED,
                metadata={"requested": len(keys), "result": data["status"]},
            )

    def _record(
        self,
        context: dg.AssetExecutionContext,
        unique_id: str,
        keys: Sequence[str],
        data: Mapping[str, Any],
    ) -> None:
        """Record partitions one by one: an Output would record the whole range, or nothing."""
        node = self._revision.manifest["nodes"][unique_id]
        tags = {_DATA_VERSION_TAG: str(uuid.uuid4())}
        code_version = self._translator.get_code_version(node)
        if code_version:
            tags[_CODE_VERSION_TAG] = code_version
        for key in keys:
            context.log_event(
                dg.AssetMaterialization(
                    self._keys[unique_id],
                    partition=key,
                    metadata=_metadata(data, data["node_info"]),
                    tags=tags,
                )
            )


def _landed_before(context: dg.AssetExecutionContext) -> Mapping[dg.AssetKey, set[str]]:
    """Partitions that landed in the runs which this run is a retry of."""
    landed: dict[dg.AssetKey, set[str]] = {}
    parent = context.run.tags.get(_PARENT_TAG)
    while parent:
        for record in context.instance.get_records_for_run(
            parent, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
        ).records:
            event = record.event_log_entry.dagster_event
            if event and event.asset_key and event.partition:
                landed.setdefault(event.asset_key, set()).add(event.partition)
        run = context.instance.get_run_by_id(parent)
        parent = run.tags.get(_PARENT_TAG) if run else None
    return landed


def _chosen_range(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """First and last partition that the run is for, if it is for any."""
    if _PARTITION_TAG in tags:
        return tags[_PARTITION_TAG], tags[_PARTITION_TAG]
    start, end = (tags.get(tag) for tag in _RANGE_TAGS)
    return (start, end) if start and end else None


def _requested(
    model: PartitionConfig,
    models: Sequence[PartitionConfig],
    chosen: tuple[str, str],
    now: datetime,
) -> Sequence[str]:
    """The model's partitions for a run's range, whose keys may be those of another model."""
    sizes = ("hour", "day", "month", "year")
    for candidate in sorted(models, key=lambda m: (m != model, sizes.index(m.batch_size))):
        try:
            keys = keys_in_range(candidate, *chosen, now)
        except PartitionError as problem:
            error = problem
        else:
            if candidate == model:
                return keys
            start, end = window(candidate, keys[0])[0], window(candidate, keys[-1])[1]
            return keys_in_window(model, start, end, now)
    raise error


def _refuse_partial_full_refresh(
    node: Mapping[str, Any], model: PartitionConfig, keys: Sequence[str], now: datetime
) -> None:
    every = partition_keys(model, now)
    # dbt ignores --full-refresh for a model that says `full_refresh: false`.
    safe = node["config"].get("full_refresh") is False or model.partial_full_refresh
    if len(keys) < len(every) and not safe:
        raise PartitionError(
            f"full_refresh would drop all {len(every)} partitions of {node['name']}, and"
            f" {len(keys)} of them are selected. Select all partitions, or start the run without"
            " full_refresh: selected partitions are rebuilt anyway. A model that may lose the"
            " others says so with meta.dagster.partitions.partial_full_refresh: true"
        )


def _vars(values: Mapping[str, Any]) -> list[str]:
    return ["--vars", json.dumps(dict(values))] if values else []


def _status(data: Mapping[str, Any]) -> str:
    """dbt's status of a node, test or batch, in lower case.

    A batch says what the warehouse answered instead of "success", and carries its model's status.
    """
    status = str(data.get("status", "")).lower()
    if "batch_index" in data:
        return status if status in ("error", "skipped") else "success"
    node_status = str(data["node_info"].get("node_status") or "none").lower()
    return status if node_status == "none" else node_status


def _check_result(
    key: dg.AssetCheckKey, status: str, data: Mapping[str, Any]
) -> dg.AssetCheckResult:
    return dg.AssetCheckResult(
        asset_key=key.asset_key,
        check_name=key.name,
        passed=status == "pass",
        severity=dg.AssetCheckSeverity.WARN if status == "warn" else dg.AssetCheckSeverity.ERROR,
        metadata={"status": status, "failed_rows": int(data.get("num_failures") or 0)},
    )


def _metadata(data: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "dbt/unique_id": info["unique_id"],
        "Execution Duration": float(data.get("execution_time") or 0.0),
    }
