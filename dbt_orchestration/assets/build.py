"""What a run does: dbt commands for everything selected, and a record of all that landed."""

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from dbt_orchestration import upstream
from dbt_orchestration.assets.attempts import attempts_of, built_before, landed
from dbt_orchestration.assets.beside import Beside
from dbt_orchestration.assets.command import build_command, vars_options
from dbt_orchestration.assets.config import BuildConfig
from dbt_orchestration.assets.creation import wait_for_creation
from dbt_orchestration.assets.deferral import deferral_options, same_elsewhere
from dbt_orchestration.assets.provenance import (
    PUSH_TAG,
    Record,
    ancestors_of,
    commit_metadata,
    commit_tags,
    recorded_versions,
    savings,
)
from dbt_orchestration.assets.results import (
    check_result,
    failed_by,
    node_result,
    partition_results,
    seconds_of,
)
from dbt_orchestration.assets.standing import Standing, on_change, standing
from dbt_orchestration.assets.translator import EnvironmentTranslator
from dbt_orchestration.changes.actions import Partitioned
from dbt_orchestration.changes.terms import digest
from dbt_orchestration.invocation import DbtError, DbtInvocation, DbtTarget
from dbt_orchestration.partitions.batches import batches, reads_itself
from dbt_orchestration.partitions.config import PartitionConfig, PartitionError, window
from dbt_orchestration.partitions.phases import Phase, descendants, phases
from dbt_orchestration.partitions.request import (
    Partitions,
    Request,
    partitions_to_build,
    window_vars,
)
from dbt_orchestration.revisions.explain import WAITING
from dbt_orchestration.revisions.parse import Revision
from dbt_orchestration.revisions.read import packages_of
from dbt_orchestration.settings import Settings

_Nodes = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class _Work:
    """What a run is going to do."""

    nodes: _Nodes
    tests: Mapping[str, dg.AssetCheckKey]
    partitions: Mapping[str, Partitions]
    rebuilt: Collection[str]
    """Nodes whose tables are made anew."""
    beside: Collection[str]
    """Those of them that dbt would make anew in several steps."""


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
        self._target = DbtTarget.of(settings, environment, revision.project_dir)

    def run(self, context: dg.AssetExecutionContext, config: BuildConfig) -> Iterator[Any]:
        """Yield a result for each node, test and batch as it lands.

        Raises:
            dagster.Failure: the request cannot be met, or nodes failed. Everything that landed
                before is recorded.
        """
        self._context, self._config = context, config
        self._attempts = attempts_of(context)
        nodes, tests = self._selected_nodes(), self._selected_tests()
        if not nodes and not tests:
            context.log.info("Nothing of dbt to run.")
            return
        if tags := commit_tags(self._revision):
            context.instance.add_run_tags(context.run.run_id, tags)
        stands = self._standing(nodes)
        if PUSH_TAG in context.run.tags and len(self._attempts) == 1:
            # It may have waited while another run built what the sensor saw to be due.
            done = {self._keys[u] for u in nodes if self._is_done(u, stands)}
            nodes = {u: node for u, node in nodes.items() if self._keys[u] not in done}
            tests = {u: key for u, key in tests.items() if key.asset_key not in done}
            if not nodes and not tests:
                context.log.info("Another run has built it meanwhile.")
                return
        self._beside = Beside(
            self._target,
            self._revision.manifest["nodes"],
            self._attempts[-1].dagster_run.run_id,
            self._scratch,
        )
        try:
            work = self._work(nodes, tests, stands)
            options = self._options(work)
            manifest = self._manifest()
        except (PartitionError, DbtError) as error:
            raise dg.Failure(str(error), allow_retries=False) from None
        self._landed_now: dict[str, set[str]] = {}
        wait_for_creation(context, [self._keys[unique_id] for unique_id in work.partitions])
        self._record = self._to_record(work, stands)
        yield from self._build(work, options, manifest)

    def _build(self, work: _Work, options: Sequence[str], manifest: Any) -> Iterator[Any]:
        every = self._revision.manifest
        failed: set[str] = set()
        problems: list[str] = []
        built: dict[str, float] = {}
        for number, phase in enumerate(phases(every, work.nodes, work.tests, work.beside)):
            held_up = descendants(every, failed)
            phase.nodes -= held_up
            phase.tests -= held_up
            if not phase.nodes and not phase.tests:
                continue
            # dbt changes what it runs on.
            parsed = self._manifest() if number else manifest
            for result in self._phase(phase, work, options, parsed, failed, problems):
                seconds_of(result, built)
                yield result
        if PUSH_TAG in self._context.run.tags:
            yield savings(
                self._environment,
                self._revision,
                built,
                self._config.left_alone,
                self._config.seconds_saved,
            )
        if problems:
            raise dg.Failure("\n".join(problems))
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _phase(  # noqa: PLR0917 - one place, one caller
        self,
        phase: Phase,
        work: _Work,
        options: Sequence[str],
        manifest: Any,
        failed: set[str],
        problems: list[str],
    ) -> Iterator[Any]:
        self._set(manifest, phase, work)
        command = build_command(
            self._revision.manifest,
            phase.nodes | phase.tests,
            self._scratch,
            full_refresh=self._config.full_refresh,
        )
        invocation = DbtInvocation(
            self._target,
            [*command, *options],
            manifest,
            {"DAGSTER_RUN_ID": self._context.run.run_id},
        )
        self._context.log.info(f"Equivalent command: {invocation}")
        waiting: dict[str, list[dg.AssetMaterialization]] = {u: [] for u in phase.beside}
        for event in invocation.events():
            failed.update(failed_by(event, self._revision.manifest))
            for result in self._results(event, work):
                unique_id = event["data"]["node_info"]["unique_id"]
                if unique_id in waiting and isinstance(result, dg.AssetMaterialization):
                    waiting[unique_id].append(result)
                    yield dg.AssetObservation(
                        result.asset_key, partition=result.partition, metadata={"beside": True}
                    )
                else:
                    yield result
        try:
            invocation.raise_on_failure()
        except DbtError as error:
            problems.append(str(error))
        whole = {u: events for u, events in waiting.items() if u not in failed}
        if not whole:
            return
        try:
            self._beside.swap_in(self._manifest(), whole)
        except DbtError as error:
            failed.update(whole)
            problems.append(f"The rebuilt tables could not be put into their place: {error}")
            return
        for unique_id, events in whole.items():
            yield from self._swapped(unique_id, events, work)
        try:
            self._beside.tidy(self._manifest(), whole)
        except DbtError as error:
            self._context.log.warning(f"What older runs left beside could not be dropped: {error}")

    def _swapped(
        self, unique_id: str, events: Sequence[dg.AssetMaterialization], work: _Work
    ) -> Iterator[dg.AssetMaterialization]:
        """All partitions of a table that has just come into its place, the oldest first."""
        partitions = work.partitions[unique_id]
        key, record = self._keys[unique_id], self._record(unique_id)
        known = {str(event.partition): event for event in events}
        every = sorted({*partitions.keys, *partitions.landed})
        before = self._context.instance.get_materialized_partitions(key)
        if lost := before - set(every):
            # Dagster cannot forget one partition. The old table had these, the new one has not.
            self._context.log.warning(f"{unique_id}: the table has {len(lost)} partitions less.")
            self._context.instance.wipe_assets([key])
        for partition in every:
            event = known.get(partition)
            yield event or dg.AssetMaterialization(
                key, partition=partition, metadata=record.metadata, tags=record.partition_tags
            )

    def _set(self, manifest: Any, phase: Phase, work: _Work) -> None:
        """Tell dbt what no option can: batches, and which tables to make anew, and where."""
        upstream.make_batches_atomic(manifest)
        for unique_id in phase.nodes & work.partitions.keys():
            wanted, model = work.partitions[unique_id], self._model(unique_id)
            if wanted.resumed:
                upstream.set_full_refresh(manifest, unique_id, False)
            elif unique_id in work.rebuilt:
                upstream.set_full_refresh(manifest, unique_id, True)
            if model.is_microbatch:
                windows = [
                    (window(model, b[0])[0], window(model, b[-1])[1]) for b in wanted.batches
                ]
                upstream.set_batches(manifest, unique_id, windows)
        for unique_id in phase.nodes & set(work.rebuilt) - work.partitions.keys():
            upstream.set_full_refresh(manifest, unique_id, True)
        self._beside.redirect(manifest, phase.beside)

    def _model(self, unique_id: str) -> PartitionConfig:
        model = self._translator.partition_config(self._revision.manifest["nodes"][unique_id])
        assert model is not None
        return model

    # What to do

    def _standing(self, nodes: Collection[str]) -> Standing:
        every = self._revision.manifest["nodes"]
        above = {a for unique_id in nodes for a in ancestors_of(every, unique_id)}
        keys = {u: self._keys[u] for u in {*nodes, *above} & self._keys.keys()}
        found = standing(
            self._settings,
            self._environment,
            self._context.instance,
            self._revision,
            keys,
            run_id=self._context.run.run_id,
        )
        assert found is not None
        return found

    def _is_done(self, unique_id: str, stands: Standing) -> bool:
        last = stands.built.get(unique_id)
        return (
            last is not None
            and last.fingerprint == self._revision.fingerprints[unique_id]
            and not set(stands.stale.get(unique_id, ()))
        )

    def _work(
        self, nodes: _Nodes, tests: Mapping[str, dg.AssetCheckKey], stands: Standing
    ) -> _Work:
        config, instance = self._config, self._context.instance
        models = {u: m for u, n in nodes.items() if (m := self._translator.partition_config(n))}
        rebuilt = self._rebuilt(nodes, stands)
        request = Request(
            self._context.run.tags,
            config.full_refresh,
            self._settings.environment(self._environment).lookback,
            self._attempts[-1].create_timestamp,
            rebuilt,
            {self._unique_id(name, "partitions"): said for name, said in config.partitions.items()},
        )
        done = dict(landed(instance, self._attempts[1:], self._unique_ids))

        def before(unique_id: str) -> set[str]:
            return built_before(instance, self._keys[unique_id], self._attempts)

        beside = {
            u
            for u, model in models.items()
            if model.is_microbatch
            if u in rebuilt or (config.full_refresh and self._may_rebuild(u))
            if before(u)  # else nobody reads it yet
        }
        if (resumed := beside & done.keys()) and not self._beside.are_there(
            self._manifest(), resumed
        ):
            done = {u: keys for u, keys in done.items() if u not in resumed}
        partitions = partitions_to_build(request, models, before, done)
        partitions = {u: self._cut(u, models[u], wanted) for u, wanted in partitions.items()}
        nodes = {u: node for u, node in nodes.items() if u not in models or u in partitions}
        absent = {self._keys[unique_id] for unique_id in models.keys() - partitions.keys()}
        tests = {u: check for u, check in tests.items() if check.asset_key not in absent}
        if not nodes and not tests:
            raise PartitionError("none of the selected models has a partition yet")
        return _Work(nodes, tests, partitions, rebuilt, beside & partitions.keys())

    def _cut(self, unique_id: str, model: PartitionConfig, wanted: Partitions) -> Partitions:
        if not model.is_microbatch:
            return replace(wanted, batches=[wanted.keys])
        why = "" if model.together else self._revision.one_by_one(unique_id)
        if model.together is False:
            why = "the model says so"
        in_order = reads_itself(self._revision.manifest["nodes"][unique_id]["raw_code"])
        cut = batches(model, wanted.keys, one_by_one=bool(why), in_order=in_order)
        if len(wanted.keys) > 1:
            said = f"; one partition each: {why}" if why and model.chunk > 1 else ""
            self._context.log.info(
                f"{unique_id}: {len(wanted.keys)} partitions in {len(cut)} batches{said}."
            )
        return replace(wanted, batches=cut)

    def _rebuilt(self, nodes: Collection[str], stands: Standing) -> set[str]:
        """What is rebuilt from nothing: what is asked for, and what its change calls for.

        Whoever builds a model whose table must be rebuilt, rebuilds it: recorded as built, it would
        be due no more. Unless a person is to be asked first.
        """
        asked = {self._unique_id(name, "rebuild") for name in self._config.rebuild}
        if kept := sorted(u for u in asked if not self._may_rebuild(u)):
            raise PartitionError(f"rebuild: {', '.join(kept)} says full_refresh: false")
        must = {u for u in nodes if self._must_be_rebuilt(u, stands)}
        default = self._settings.environment(self._environment).on_change
        every = self._revision.manifest["nodes"]
        self._waiting = {u for u in must - asked if on_change(every[u], default) != "rebuild"}
        return (asked | must - self._waiting) & set(nodes)

    def _must_be_rebuilt(self, unique_id: str, stands: Standing) -> bool:
        if not Partitioned.of(self._revision.manifest["nodes"][unique_id]).incremental:
            return False
        last = stands.differs.get(unique_id)
        whys = [*([last] if last else []), *stands.stale.get(unique_id, {}).values()]
        return any(why.due and why.action == "full_refresh" for why in whys)

    def _may_rebuild(self, unique_id: str) -> bool:
        config = self._revision.manifest["nodes"][unique_id]["config"]
        return config.get("full_refresh") is not False

    def _unique_id(self, name: str, field: str) -> str:
        every = self._revision.manifest["nodes"]
        if name in self._keys:
            return name
        for unique_id in self._keys:
            if unique_id in every and every[unique_id]["name"] == name:
                return unique_id
        raise PartitionError(f"{field}: there is no model {name}")

    # What to record

    def _to_record(self, work: _Work, stands: Standing) -> Callable[[str], Record]:
        every = self._revision.manifest["nodes"]
        above = {a for unique_id in work.nodes for a in ancestors_of(every, unique_id)}
        there: Collection[str] = ()
        if self._settings.environment(self._environment).defer_to:
            # What was never built here is read from there, where it is the same.
            there = same_elsewhere(
                self._settings,
                self._environment,
                self._context.instance,
                self._revision,
                self._keys,
            )
        behind = dict.fromkeys(self._waiting & work.nodes.keys(), WAITING)
        for unique_id in (above & self._keys.keys()) - work.nodes.keys():
            if not stands.is_current(unique_id) and not (
                unique_id in there and unique_id not in stands.built
            ):
                last = stands.built.get(unique_id)
                behind[unique_id] = last.fingerprint if last else ""
        for unique_id, stale in stands.stale.items():
            wanted = work.partitions.get(unique_id)
            left = set(stale) - set(wanted.keys if wanted else ())
            if left and unique_id not in work.rebuilt:
                behind.setdefault(unique_id, digest(*(f"{k}={stale[k].recorded}" for k in left)))
        version = recorded_versions(self._revision, work.nodes.keys(), behind)

        def record(unique_id: str) -> Record:
            reason = self._config.reasons.get(unique_id, "")
            return Record(version(unique_id), commit_metadata(self._revision, reason))

        return record

    def _results(self, event: Mapping[str, Any], work: _Work) -> Iterator[Any]:
        unique_id = event["data"]["node_info"]["unique_id"]
        key = self._keys.get(unique_id)
        if event["info"]["name"] == "LogTestResult":
            if unique_id in work.tests:
                fingerprint = self._revision.checks.get(unique_id)
                yield from check_result(event, work.tests[unique_id], fingerprint)
        elif key and unique_id in work.partitions:
            now = self._landed_now.setdefault(unique_id, set())
            yield from self._selected(
                partition_results(
                    event,
                    key,
                    self._model(unique_id),
                    work.partitions[unique_id],
                    now,
                    record=self._record(unique_id),
                    facts=self._facts(unique_id),
                )
            )
        elif key and key in self._context.selected_asset_keys:
            yield from node_result(event, key, self._record(unique_id), self._facts(unique_id))

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

    def _selected(self, results: Iterator[Any]) -> Iterator[Any]:
        checks = self._context.selected_asset_check_keys
        selected = {(key.asset_key, key.name) for key in checks}
        for result in results:
            if (
                not isinstance(result, dg.AssetCheckResult)
                or (result.asset_key, result.check_name) in selected
            ):
                yield result

    # What the run is for

    def _selected_nodes(self) -> _Nodes:
        keys = self._context.selected_asset_keys
        unique_ids = sorted(self._unique_ids[key] for key in keys)
        return {unique_id: self._revision.manifest["nodes"][unique_id] for unique_id in unique_ids}

    def _selected_tests(self) -> Mapping[str, dg.AssetCheckKey]:
        if self._config.exclude_tests:
            return {}
        return {
            self._unique_ids[key]: key
            for key in sorted(self._context.selected_asset_check_keys)
            if key in self._unique_ids
        }

    def _options(self, work: _Work) -> list[str]:
        models = {u: self._model(u) for u in work.partitions}
        options = vars_options({**self._config.vars, **window_vars(models, work.partitions)})
        return options + deferral_options(
            self._settings, self._environment, self._context.instance, self._context.log
        )

    def _manifest(self) -> Any:
        if not self._config.vars:
            manifest = upstream.load_manifest(self._revision.partial_parse_path)
            upstream.set_seed_folders(manifest, dict(packages_of(self._revision.project_dir)))
            return manifest
        # Vars may decide configs and which nodes there are, so dbt has to parse again.
        command = ["parse", "--target-path", self._scratch, *vars_options(self._config.vars)]
        return DbtInvocation(self._target, [*command, "--quiet"]).finish()

    @property
    def _scratch(self) -> str:
        return str(self._settings.state_dir / "runs" / self._context.run.run_id)
