"""What a run does: dbt commands for everything selected, and a record of all that succeeded."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.assets.translator import MADE_FROM_CLOCK, PARTITIONS_CHECK
from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.dbt.internals import manifests
from dbt_orchestration.dbt.invocation import DbtError, DbtInvocation
from dbt_orchestration.dbt.operation import make_pointers, take_as_built
from dbt_orchestration.history.order import Order
from dbt_orchestration.history.partitions import PartitionError, window
from dbt_orchestration.history.phases import Phase, descendants, phases
from dbt_orchestration.history.request import is_ordinary, window_vars
from dbt_orchestration.ledger.attempts import attempts_of, unfinished_runs
from dbt_orchestration.ledger.deferral import deferral_options
from dbt_orchestration.ledger.doubt import announce, doubt_stopped, give_back
from dbt_orchestration.ledger.inspection import Inspection
from dbt_orchestration.ledger.left import say_left
from dbt_orchestration.ledger.orphans import say_moved
from dbt_orchestration.ledger.pushes import built_by_push, pushes_key
from dbt_orchestration.ledger.run_tags import DISK_FULL_TAG, is_from_push, run_tags
from dbt_orchestration.revisions.disk import full_disk
from dbt_orchestration.runs import liveness
from dbt_orchestration.runs.adoption import adopt
from dbt_orchestration.runs.artifacts import keep_results
from dbt_orchestration.runs.command import (
    command_options,
    commands,
    select_options,
    vars_options,
)
from dbt_orchestration.runs.config import BuildConfig
from dbt_orchestration.runs.copies import TableCopies
from dbt_orchestration.runs.creation import adds_to_its_table, say_recreated, wait_for_tables
from dbt_orchestration.runs.crossing import Crossing
from dbt_orchestration.runs.failures import Failures
from dbt_orchestration.runs.in_place import InPlace
from dbt_orchestration.runs.landing import Landed, Landing
from dbt_orchestration.runs.plan import Planner, batches_of
from dbt_orchestration.runs.record import moved_by, records, touches, types_that_stay
from dbt_orchestration.runs.request import BuildRequest
from dbt_orchestration.runs.results import (
    broken_by,
    failed_by,
    left_out,
    was_skipped,
)
from dbt_orchestration.runs.shadow import ShadowTables
from dbt_orchestration.runs.summary import Summary
from dbt_orchestration.runs.table_locks import wait_for_file


class Build:
    """One run of an environment's dbt assets.

    Args:
        scratch: a folder that dbt may write to.
    """

    def __init__(
        self,
        env: EnvironmentContext,
        context: dg.AssetExecutionContext,
        config: BuildConfig,
        scratch: str,
    ) -> None:
        self._env = env
        self._context = context
        self._config = config
        self._scratch = scratch
        self._failed: set[str] = set()
        self._inspection = Inspection(env, context, scratch)
        self._broken: set[str] = set()
        self._problems: list[str] = []
        self._order = Order.of_tags(context.run.tags)
        self._failures = Failures(env, context, self._order.reasons)
        self._summary = Summary(env)
        self._come_to: set[str] = set()
        self._refused = False

    def run(self) -> Iterator[Any]:
        """Yield a result for each node, test and batch as it lands.

        Raises:
            dagster.Failure: the request cannot be met, nodes failed, or a disk is full. Everything
                that succeeded before is recorded.
        """
        try:
            yield from self._run()
        except (dg.Failure, OSError) as error:
            if isinstance(error, dg.Failure):
                self._say_left()
            full = full_disk(self._env.settings)
            if not full:
                raise
            said = error.description if isinstance(error, dg.Failure) else error
            run_id = self._context.run.run_id
            self._context.instance.add_run_tags(run_id, {DISK_FULL_TAG: "true"})
            raise PlainFailure(f"{full}\n{said}") from None

    def _run(self) -> Iterator[Any]:
        context, env = self._context, self._env
        liveness.hold(context.instance, context.run.run_id)
        attempts = attempts_of(context)
        request = BuildRequest.of_run(context, self._config)
        planner = Planner(env, context.instance, request, attempts)
        nodes, tests = planner.selected()
        if not nodes and not tests:
            context.log.info("Nothing of dbt to run.")
            return
        context.instance.add_run_tags(context.run.run_id, run_tags(env.name, env.revision))
        if clock := sorted(env.revision.clock & nodes.keys()):
            parsed = env.revision.manifest["metadata"]["generated_at"]
            context.log.warning(f"{', '.join(clock)}: config {MADE_FROM_CLOCK} ({parsed} UTC).")
        manifest = self._saved_parse()
        added_to = {u: env.keys[u] for u, node in nodes.items() if adds_to_its_table(node)}
        wait_for_tables(context, added_to, Crossing(env, nodes.keys()))
        wait_for_file(context.log, env.target)
        doubt_stopped(context.instance, env.name)
        if self._order.adopt:
            runs = {each.dagster_run.run_id for each in attempts}
            yield from adopt(env, context, self._order, nodes, attempts=runs, scratch=self._scratch)
            return
        self._inspection.before(nodes, manifest)
        types = self._inspection.columns(nodes, manifest)
        self._shadow = ShadowTables(env.target, env.nodes, planner.first_attempt, self._scratch)
        self._in_place = InPlace(
            env.target, env.revision.manifest, self._saved_parse, self._scratch
        )
        self._copies = TableCopies(env, context, self._saved_parse, self._scratch)
        try:
            self._work = planner.plan(
                lambda u: self._shadow.are_there(self._saved_parse(), u), self._copies.there
            )
            self._options = self._command_options()
            manifest = self._manifest() if self._config.vars else manifest
            self._make_way()
        except (PartitionError, DbtError) as error:
            self._refused = isinstance(error, PartitionError)
            raise PlainFailure(str(error), allow_retries=False) from None
        yield from self._work.known
        if self._work.does_nothing:
            context.log.info("Another run has built it meanwhile.")
            return
        for said in batches_of(self._work):
            context.log.info(said)
        for u, why in self._work.left.items():
            context.log.warning(f"{u} is left as it is: {why}.")
        work = self._work
        record = records(env, context.instance, work, self._order.reasons)
        stay = types_that_stay(work, types)
        self._landing = Landing(env, context, self._failures, record, stay)
        recreated = work.nodes.keys() if self._config.full_refresh else set(work.rebuilt)
        say_recreated(context, [added_to[u] for u in recreated & added_to.keys()])
        self._copies.keep(work, planner.first_attempt)
        say_moved(context.instance, env.name, moved_by(env, work))
        self._touched = touches(env, work)
        announce(context, env.name, pushes_key(env.name), self._touched)
        yield from self._build(manifest)

    def _build(self, manifest: Any) -> Iterator[Any]:
        every, work, context = self._env.revision.manifest, self._work, self._context
        cut = phases(every, work.nodes, work.tests, work.shadow, work.checked)
        for number, phase in enumerate(cut):
            phase.leave_out(descendants(every, self._failed))
            if not phase.nodes and not phase.tests:
                continue
            if phase.checked:
                yield from self._check(phase)
            # dbt changes what it runs on.
            for result in self._phase(phase, self._manifest() if number else manifest):
                self._summary.add(result)
                yield result
        if found := self._inspection.absent & work.nodes.keys() - self._failed:
            self._inspection.after(found, self._saved_parse())
        broken = {self._env.keys[u] for u in self._broken}
        give_back(context, broken & self._touched.keys())
        self._copies.forget(work, self._failed)
        if is_from_push(context.run.tags):
            yield built_by_push(
                self._env.name,
                self._env.revision,
                self._summary.seconds,
                self._order.left_alone,
                self._order.seconds_saved,
            )
        yield from self._summary.end(context, work.nodes, self._failures)
        if self._problems:
            raise self._failures.as_dagster_has_it("\n".join(self._problems))

    def _make_way(self) -> None:
        if self._work.fresh:
            for said in self._in_place.make_way(self._work.fresh):
                self._context.log.warning(said)

    def _begin_with_copies(self, phase: Phase) -> Iterator[Any]:
        """Put the copies, of which tables are made again, where their shadow tables are built."""
        wanted = {u: copy for u, copy in self._work.put_back.items() if u in phase.shadow}
        try:
            self._copies.begin_with(wanted, self._shadow.name)
        except DbtError as error:
            said = f"The copies could not be put back: {error}"
            yield from self._stopped(phase, dict.fromkeys(wanted, said))
            return
        for u, copy in wanted.items():
            self._context.log.info(f"{u}: {copy}.")
            for partition in sorted(copy.partitions):
                # An attempt that goes on from this one need not build it either.
                yield dg.AssetObservation(
                    self._env.keys[u], partition=partition, metadata={"shadow": True}
                )

    def _check(self, phase: Phase) -> Iterator[Any]:
        """Recreate, beside the old one, each table whose columns are not what the code makes."""
        try:
            misfits, failed = self._in_place.misfits(phase.checked, self._manifest(), self._options)
        except DbtError as error:
            # To recreate them all, to be sure, may cost a fortune where a connection was lost.
            said = f"Tables could not be compared with their code: {error}"
            misfits, failed = set(), dict.fromkeys(phase.checked, said)
        yield from self._stopped(phase, failed)
        for unique_id in sorted(misfits):
            self._context.log.info(
                f"{unique_id}: columns of the table have other types now, so it is recreated."
            )
        self._work = self._work.with_rebuilt(misfits)
        phase.shadow |= misfits

    def _phase(self, phase: Phase, manifest: Any) -> Iterator[Any]:
        every = self._env.revision.manifest
        known = manifest.nodes.keys() | manifest.unit_tests.keys()
        if unknown := (phase.nodes | phase.tests) - known:
            # The vars of this run take them out of the project.
            yield from self._left_out(unknown)
            phase.leave_out(unknown)
        yield from self._begin_with_copies(phase)
        waiting: dict[str, list[Landed]] = {u: [] for u in phase.shadow}
        for number, (command, wanted) in enumerate(commands(every, phase)):
            # dbt changes what it runs on.
            manifest = self._manifest() if number else manifest
            self._set(manifest, phase)
            held_up = descendants(every, self._failed) if number else set()
            yield from self._invoke(command, wanted - held_up, manifest, waiting)
        if whole := {u: events for u, events in waiting.items() if u not in self._failed}:
            yield from self._swap_in(whole)
        try:
            self._point_at(phase.nodes - phase.shadow - self._failed)
        except DbtError as error:
            self._problems.append(f"The views of latest versions could not be made: {error}")

    def _point_at(self, nodes: Collection[str]) -> None:
        """Make the views that point at microbatch models, which dbt was told to leave."""
        env = self._env
        built = self._work.partitions.keys() & nodes
        batched = {u: env.nodes[u] for u in built if env.partitioned(u).is_microbatch}
        make_pointers(env.target, batched, self._saved_parse, self._scratch, self._options)

    def _invoke(
        self,
        command: str,
        wanted: set[str],
        manifest: Any,
        waiting: Mapping[str, list[Landed]],
    ) -> Iterator[Any]:
        every, run_id = self._env.revision.manifest, self._context.run.run_id
        manifests.select_exactly(manifest, wanted)
        options = command_options(command, self._scratch, full_refresh=self._config.full_refresh)
        invocation = DbtInvocation(
            self._env.target,
            [*options, *self._options],
            manifest,
            {"DAGSTER_RUN_ID": run_id},
            self._failures.samples.query,
        )
        self._come_to |= wanted
        selection = shlex.join(select_options(every, wanted))
        self._context.log.info(f"Equivalent command: {invocation} {selection}")
        for event in invocation.events():
            self._failed.update(failed_by(event, every))
            # Of partitions it is recorded which of them succeeded.
            self._broken.update(broken_by(event, every) - self._work.partitions.keys())
            unique_id = event["data"]["node_info"]["unique_id"]
            if was_skipped(event):
                self._come_to.discard(unique_id)
            yield from self._failures.of_node(event)
            for result in self._landing.results(self._work, event):
                if unique_id in waiting and isinstance(result, dg.MaterializeResult):
                    waiting[unique_id].append(result)
                elif unique_id in waiting and isinstance(result, dg.AssetMaterialization):
                    waiting[unique_id].append(result)
                    yield dg.AssetObservation(
                        result.asset_key, partition=result.partition, metadata={"shadow": True}
                    )
                else:
                    yield result
        try:
            invocation.raise_on_failure()
        except DbtError as error:
            self._problems.append(str(error))
        if results := getattr(invocation.result, "result", None):
            keep_results(self._context.instance, run_id, results)
        yield from self._failures.add(invocation.failed)
        yield from self._left_out(
            invocation.left_out(wanted) | self._without_batches(wanted - self._failed)
        )

    def _without_batches(self, nodes: Collection[str]) -> set[str]:
        """Nodes that dbt built, and not for all partitions that it was to."""
        asked = self._work.partitions
        return {
            u
            for u in asked.keys() & nodes
            if set(asked[u].keys) - self._landing.succeeded.get(u, set())
        }

    def _left_out(self, unique_ids: Collection[str]) -> Iterator[dg.AssetObservation]:
        if unique_ids:
            self._failed.update(unique_ids)
            manifest = self._env.revision.manifest
            every = {**manifest["nodes"], **manifest["unit_tests"]}
            yield from self._failures.add({u: left_out([every[u]]) for u in sorted(unique_ids)})
            self._problems.append(left_out([every[u] for u in sorted(unique_ids)]))

    def _say_left(self) -> None:
        """Say what the run was to build of partitions, and has not begun.

        What a person chose, and was not refused, is wanted all the same.
        """
        tags, config = self._context.run.tags, {"full_refresh": self._config.full_refresh}
        if self._refused or is_from_push(tags) or is_ordinary(tags, config):
            checks = self._context.selected_asset_check_keys
            wanted = {check.asset_key for check in checks if check.name == PARTITIONS_CHECK}
            begun = {key for key, u in self._env.unique_ids.items() if u in self._come_to}
            say_left(self._context, wanted - begun)

    def _swap_in(self, tables: Mapping[str, Sequence[Landed]]) -> Iterator[Any]:
        try:
            self._shadow.swap_in(self._saved_parse(), tables)
            self._point_at(tables)
        except DbtError as error:
            self._broken.update(tables)  # some of them may be in their place
            said = f"The new tables could not be put into their place: {error}"
            yield from self._all_failed(dict.fromkeys(tables, said))
            return
        for unique_id, events in tables.items():
            yield from self._landing.swapped(self._work, unique_id, events)
        try:
            unfinished = unfinished_runs(self._context.instance)
            self._shadow.tidy(self._saved_parse(), tables, unfinished)
        except DbtError as error:
            self._context.log.warning(f"What older runs left beside could not be dropped: {error}")

    def _stopped(self, phase: Phase, whys: Mapping[str, str]) -> Iterator[dg.AssetObservation]:
        """What stopped nodes before dbt built them: what reads them is not built either."""
        yield from self._all_failed(whys)
        phase.leave_out({*whys, *descendants(self._env.revision.manifest, whys)})

    def _all_failed(self, whys: Mapping[str, str]) -> Iterator[dg.AssetObservation]:
        """What stopped nodes before, or after, dbt built each of them."""
        self._failed.update(whys)
        self._problems += dict.fromkeys(whys.values())
        yield from self._failures.add(whys)

    def _set(self, manifest: Any, phase: Phase) -> None:
        """Tell dbt what no option can: batches, and which tables to recreate, and where."""
        work = self._work
        manifests.make_batches_atomic(manifest)
        for unique_id in phase.nodes & work.partitions.keys():
            wanted, model = work.partitions[unique_id], self._env.partitioned(unique_id)
            if wanted.resumed:
                manifests.set_full_refresh(manifest, unique_id, False)
            elif unique_id in work.rebuilt:
                manifests.set_full_refresh(manifest, unique_id, True)
            if model.is_microbatch:
                ends = [(window(model, b[0]), window(model, b[-1])) for b in wanted.batches]
                manifests.set_batches(manifest, unique_id, [(f[0], t[1]) for f, t in ends])
                # dbt would point it at a table that may never get into its place; and 1.12.6 does
                # so with a connection that the last batch has closed, and fails.
                manifests.leave_pointer(manifest, unique_id)
        for unique_id in phase.nodes & set(work.rebuilt) - work.partitions.keys():
            manifests.set_full_refresh(manifest, unique_id, True)
        if warehouse := self._env.environment.backfill_warehouse:
            for unique_id in phase.nodes & set(work.history):
                manifests.set_warehouse(manifest, unique_id, warehouse)
        self._shadow.redirect(manifest, phase.shadow)
        for unique_id in phase.nodes & work.put_back.keys() - work.partitions.keys():
            take_as_built(manifest, unique_id)

    def _command_options(self) -> list[str]:
        models = {u: self._env.partitioned(u) for u in self._work.partitions}
        windows = window_vars(models, self._work.partitions)
        return vars_options({**self._config.vars, **windows}) + deferral_options(
            self._env.settings, self._env.name, self._context.instance, self._context.log
        )

    def _manifest(self) -> Any:
        if not self._config.vars:
            return self._saved_parse()
        # Vars may decide configs and which nodes there are, so dbt has to parse again.
        command = ["parse", "--target-path", self._scratch, *vars_options(self._config.vars)]
        return DbtInvocation(self._env.target, [*command, "--quiet"]).finish()

    def _saved_parse(self) -> Any:
        return self._env.revision.load_parsed()
