"""What a run does: one dbt command for everything selected, and a record of all that landed."""

import json
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from dbt_orchestration import upstream
from dbt_orchestration.assets.deferral import same_elsewhere
from dbt_orchestration.assets.ledger import read_built
from dbt_orchestration.assets.partitions import PartitionConfig, PartitionError, window
from dbt_orchestration.assets.provenance import (
    PUSH_TAG,
    Record,
    commit_metadata,
    commit_tags,
    recorded_versions,
    savings_key,
)
from dbt_orchestration.assets.request import (
    Partitions,
    Request,
    partitions_to_build,
    resumes,
    window_vars,
)
from dbt_orchestration.assets.results import (
    DURATION,
    check_result,
    node_result,
    partition_results,
)
from dbt_orchestration.assets.translator import EnvironmentTranslator
from dbt_orchestration.changes.actions import Partitioned
from dbt_orchestration.invocation import DbtError, DbtInvocation, DbtTarget
from dbt_orchestration.revisions.current import open_revision
from dbt_orchestration.revisions.explain import read_explanations, unknown
from dbt_orchestration.revisions.parse import Revision
from dbt_orchestration.revisions.read import packages_of
from dbt_orchestration.revisions.store import published
from dbt_orchestration.settings import Settings

_PAGE = 1_000


class BuildConfig(dg.Config):
    """What a person may set for any materialization, in the Launchpad."""

    full_refresh: bool = Field(
        False, description="Rebuild whole tables of incremental models and seeds from nothing."
    )
    vars: dict[str, Any] = Field({}, description="dbt vars for this run, for example {days: 3}.")
    exclude_tests: bool = Field(False, description="Build without running any test.")
    rebuild: list[str] = Field(
        [], description="Incremental models to rebuild from nothing, by name or unique id."
    )
    reasons: dict[str, str] = Field({}, description="Set by the push sensor: why each is built.")
    left_alone: int = Field(0, description="Set by the push sensor: how many nodes are not due.")
    seconds_saved: float = Field(0.0, description="Set by the push sensor: what those would take.")


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
        attempts = _attempts(context)
        if PUSH_TAG in context.run.tags and len(attempts) == 1:
            # It may have waited while another run built what the sensor saw to be due.
            done = self._up_to_date(context.instance, nodes)
            nodes = {u: node for u, node in nodes.items() if u not in done}
            tests = {u: key for u, key in tests.items() if key.asset_key not in done.values()}
        if not nodes and not tests:
            context.log.info("Nothing of dbt to run.")
            return
        models = {
            unique_id: model
            for unique_id, node in nodes.items()
            if (model := self._translator.partition_config(node))
        }
        if tags := commit_tags(self._revision):
            context.instance.add_run_tags(context.run.run_id, tags)
        try:
            rebuilt = self._rebuilt(context, config, nodes)
            request = Request(
                context.run.tags,
                config.full_refresh,
                self._settings.environment(self._environment).lookback,
                attempts[-1].create_timestamp,
                rebuilt,
            )
            partitions = partitions_to_build(
                request,
                models,
                lambda uid: self._built(context.instance, uid, attempts),
                self._landed(context.instance, attempts[1:]),
            )
            nodes = {u: n for u, n in nodes.items() if u not in models or u in partitions}
            keys = {self._keys[unique_id] for unique_id in models.keys() - partitions.keys()}
            tests = {u: check for u, check in tests.items() if check.asset_key not in keys}
            if not nodes and not tests:
                raise PartitionError("none of the selected models has a partition yet")
            command = self._command(context, config, nodes, tests)
            building = {unique_id: models[unique_id] for unique_id in partitions}
            command += _vars({**config.vars, **window_vars(building, partitions)})
            command += self._deferral(context)
            manifest = self._manifest(context, config)
        except (PartitionError, DbtError) as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        for unique_id, wanted in partitions.items():
            model = models[unique_id]
            if wanted.resumed:
                upstream.set_full_refresh(manifest, unique_id, False)
            if model.is_microbatch:
                windows = [window(model, key) for key in wanted.keys]
                upstream.set_batches(manifest, unique_id, windows)
        for unique_id in rebuilt - {u for u, wanted in partitions.items() if wanted.resumed}:
            upstream.set_full_refresh(manifest, unique_id, True)
        self._record = self._to_record(context, config, nodes)
        invocation = DbtInvocation(
            self._target(),
            command,
            manifest,
            {"DAGSTER_RUN_ID": context.run.run_id},
        )
        context.log.info(f"Equivalent command: {invocation}")
        built: dict[str, float] = {}
        for event in invocation.events():
            yield from _timed(self._results(context, event, models, partitions, tests), built)
        if PUSH_TAG in context.run.tags:
            yield self._savings(config, built)
        try:
            invocation.raise_on_failure()
        except DbtError as error:
            raise dg.Failure(str(error)) from None
        shutil.rmtree(self._scratch(context.run.run_id), ignore_errors=True)

    def _target(self) -> DbtTarget:
        return DbtTarget.of(self._settings, self._environment, self._revision.project_dir)

    def _rebuilt(
        self,
        context: dg.AssetExecutionContext,
        config: BuildConfig,
        nodes: Mapping[str, Mapping[str, Any]],
    ) -> set[str]:
        """What is rebuilt from nothing: what is asked for, and what its change calls for.

        Whoever builds a model whose table must be rebuilt, rebuilds it: recorded as built, it would
        be due no more.
        """
        every = self._revision.manifest["nodes"]
        named = {node["name"]: u for u, node in every.items() if u in self._keys}
        asked = {named.get(name, name) for name in config.rebuild}
        if absent := asked - self._keys.keys():
            raise PartitionError(f"rebuild: there is no model {', '.join(sorted(absent))}")
        if kept := [u for u in asked if every[u]["config"].get("full_refresh") is False]:
            raise PartitionError(f"rebuild: {', '.join(kept)} says full_refresh: false")
        keys = {u: self._keys[u] for u, n in nodes.items() if Partitioned.of(n).incremental}
        explained = read_explanations(self._settings, self._environment, self._revision.digest)
        for unique_id, last in read_built(context.instance, keys).items():
            if last.fingerprint != self._revision.fingerprints[unique_id]:
                why = explained.get(unique_id)
                if why is None or why.recorded != last.fingerprint:
                    why = unknown(self._revision, unique_id, last.fingerprint)
                if why.due and why.action == "full_refresh":
                    asked.add(unique_id)
        return asked & nodes.keys()

    def _deferral(self, context: dg.AssetExecutionContext) -> list[str]:
        """Read what was never built here from the environment that this one defers to."""
        other = self._settings.environment(self._environment).defer_to
        if not other:
            return []
        digest = published(other, context.instance.defs_state_storage)
        if not digest:
            context.log.warning(f"Nothing to defer to: {other} has no commit that was prepared.")
            return []
        return ["--defer", "--state", str(open_revision(self._settings, other, digest).directory)]

    def _to_record(
        self,
        context: dg.AssetExecutionContext,
        config: BuildConfig,
        nodes: Mapping[str, Mapping[str, Any]],
    ) -> Callable[[str], Record]:
        def built(unique_ids: Collection[str]) -> Mapping[str, str]:
            keys = {self._keys[u]: u for u in unique_ids if u in self._keys}
            versions = context.instance.get_latest_materialization_code_versions(list(keys))
            return {keys[key]: version for key, version in versions.items() if version}

        explained = read_explanations(self._settings, self._environment, self._revision.digest)
        same = {u: why.recorded for u, why in explained.items() if not why.due}
        if self._settings.environment(self._environment).defer_to:
            # What was never built here is read from there, where it is the same.
            there = same_elsewhere(
                self._settings, self._environment, context.instance, self._revision, self._keys
            )
            same = dict.fromkeys(there, "") | same
        version = recorded_versions(self._revision, nodes.keys(), built, same)

        def record(unique_id: str) -> Record:
            metadata = commit_metadata(self._revision, config.reasons.get(unique_id, ""))
            return Record(version(unique_id), metadata)

        return record

    def _savings(self, config: BuildConfig, built: Mapping[str, float]) -> dg.AssetMaterialization:
        return dg.AssetMaterialization(
            savings_key(self._environment),
            metadata={
                "built": len(built),
                "left alone": config.left_alone,
                "seconds built": round(sum(built.values()), 1),
                "seconds saved": config.seconds_saved,
                **commit_metadata(self._revision, ""),
            },
        )

    def _selected_nodes(self, context: dg.AssetExecutionContext) -> dict[str, Mapping[str, Any]]:
        unique_ids = sorted(self._unique_ids[key] for key in context.selected_asset_keys)
        return {unique_id: self._revision.manifest["nodes"][unique_id] for unique_id in unique_ids}

    def _selected_tests(self, context: dg.AssetExecutionContext) -> dict[str, dg.AssetCheckKey]:
        return {
            self._unique_ids[key]: key
            for key in sorted(context.selected_asset_check_keys)
            if key in self._unique_ids
        }

    def _up_to_date(
        self, instance: dg.DagsterInstance, nodes: Collection[str]
    ) -> Mapping[str, dg.AssetKey]:
        built = read_built(instance, {u: self._keys[u] for u in nodes})
        same = [
            u for u, last in built.items() if last.fingerprint == self._revision.fingerprints[u]
        ]
        return {unique_id: self._keys[unique_id] for unique_id in same}

    def _built(
        self, instance: dg.DagsterInstance, unique_id: str, attempts: Sequence[dg.RunRecord]
    ) -> set[str]:
        """Partitions that were built before the first attempt."""
        asset = self._keys[unique_id]
        if len(attempts) == 1:
            return set(instance.get_materialized_partitions(asset))
        before = dg.AssetRecordsFilter(
            asset, before_timestamp=attempts[-1].create_timestamp.timestamp()
        )
        built: set[str] = set()
        cursor: str | None = None
        while True:
            page = instance.fetch_materializations(before, limit=_PAGE, cursor=cursor)
            built |= {record.partition_key for record in page.records if record.partition_key}
            if not page.has_more:
                return built
            cursor = page.cursor

    def _landed(
        self, instance: dg.DagsterInstance, attempts: Sequence[dg.RunRecord]
    ) -> Mapping[str, set[str]]:
        """Partitions that landed in earlier attempts, by unique id."""
        landed: dict[str, set[str]] = {}
        for attempt in attempts:
            for record in instance.get_records_for_run(
                attempt.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
            ).records:
                event = record.event_log_entry.dagster_event
                if not event or not event.asset_key or not event.partition:
                    continue
                if unique_id := self._unique_ids.get(event.asset_key):
                    landed.setdefault(unique_id, set()).add(event.partition)
        return landed

    def _manifest(self, context: dg.AssetExecutionContext, config: BuildConfig) -> Any:
        if not config.vars:
            manifest = upstream.load_manifest(self._revision.partial_parse_path)
            upstream.set_seed_folders(manifest, dict(packages_of(self._revision.project_dir)))
            return manifest
        # Vars may decide configs and which nodes there are, so dbt has to parse again.
        command = ["parse", "--target-path", self._scratch(context.run.run_id)]
        command += _vars(config.vars)
        return DbtInvocation(self._target(), [*command, "--quiet"]).finish()

    def _scratch(self, name: str) -> str:
        return str(self._settings.state_dir / "runs" / name)

    def _command(
        self,
        context: dg.AssetExecutionContext,
        config: BuildConfig,
        nodes: Mapping[str, Mapping[str, Any]],
        tests: Mapping[str, dg.AssetCheckKey],
    ) -> list[str]:
        command = ["build", "--indirect-selection", "empty", "--cache-selected-only"]
        command += ["--use-fast-test-edges"]
        command += ["--no-write-json", "--target-path", self._scratch(context.run.run_id)]
        if config.full_refresh:
            command.append("--full-refresh")
        manifest = self._revision.manifest
        tested = [manifest["nodes"].get(t) or manifest["unit_tests"][t] for t in tests]
        names = {".".join(node["fqn"]) for node in [*nodes.values(), *tested]}
        # dbt takes `a.b` for everything in the folder b, too, if a model is called as its folder.
        others = [
            ".".join(node["fqn"])
            for unique_id, node in {**manifest["nodes"], **manifest["unit_tests"]}.items()
            if unique_id not in nodes and unique_id not in tests
            if any(".".join(node["fqn"][:end]) in names for end in range(2, len(node["fqn"])))
        ]
        command += ["--select", *sorted(names)]
        return [*command, "--exclude", *sorted(others)] if others else command

    def _results(
        self,
        context: dg.AssetExecutionContext,
        event: Mapping[str, Any],
        models: Mapping[str, PartitionConfig],
        partitions: Mapping[str, Partitions],
        tests: Mapping[str, dg.AssetCheckKey],
    ) -> Iterator[Any]:
        unique_id = event["data"]["node_info"]["unique_id"]
        if event["info"]["name"] == "LogTestResult":
            if unique_id in tests:
                fingerprint = self._revision.checks.get(unique_id)
                yield from check_result(event, tests[unique_id], fingerprint)
        elif unique_id in partitions:
            yield from self._selected(
                context,
                partition_results(
                    event,
                    self._keys[unique_id],
                    models[unique_id],
                    partitions[unique_id],
                    record=self._record(unique_id),
                    facts=self._facts(unique_id),
                ),
            )
        elif self._keys.get(unique_id) in context.selected_asset_keys:
            yield from node_result(
                event,
                self._keys[unique_id],
                self._record(unique_id),
                self._facts(unique_id),
            )

    def _facts(self, unique_id: str) -> Mapping[str, dg.MetadataValue[Any]]:
        lineage = self._revision.lineage.get(unique_id)
        if not lineage:
            return {}
        columns = {
            column.lower(): [
                dg.TableColumnDep(self._keys[parent], name.lower())
                for parent, name in origins
                if parent in self._keys
            ]
            for column, origins in lineage.items()
        }
        return {
            "dagster/column_lineage": dg.MetadataValue.column_lineage(
                dg.TableColumnLineage(columns)
            )
        }

    def _selected(self, context: dg.AssetExecutionContext, results: Iterator[Any]) -> Iterator[Any]:
        selected = {(key.asset_key, key.name) for key in context.selected_asset_check_keys}
        for result in results:
            if isinstance(result, dg.AssetCheckResult):
                if (result.asset_key, result.check_name) in selected:
                    yield result
            else:
                yield result


def _timed(results: Iterator[Any], seconds: dict[str, float]) -> Iterator[Any]:
    """The same results; adds what each asset took to ``seconds``."""
    for result in results:
        if isinstance(result, dg.MaterializeResult | dg.AssetMaterialization):
            name = str(result.asset_key)
            took = (result.metadata or {})[DURATION]
            value = took.value if isinstance(took, dg.MetadataValue) else took
            seconds[name] = seconds.get(name, 0.0) + float(str(value))
        yield result


def _attempts(context: dg.AssetExecutionContext) -> Sequence[dg.RunRecord]:
    """This run and those it goes on from, back to the first attempt."""
    run_id: str | None = context.run.run_id
    attempts: list[dg.RunRecord] = []
    while run_id and (record := context.instance.get_run_record_by_id(run_id)):
        attempts.append(record)
        run_id = resumes(record.dagster_run.tags)
    return attempts


def _vars(values: Mapping[str, Any]) -> list[str]:
    return ["--vars", json.dumps(dict(values))] if values else []
