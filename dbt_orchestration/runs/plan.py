"""What a run does: decided by one function, for a form that shows it and for the run itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.assets.translator import PARTITIONS_CHECK
from dbt_orchestration.changes.materializations import is_updated_in_place, own_materializations
from dbt_orchestration.changes.merging.models import why_alone
from dbt_orchestration.changes.policy import HistoryPolicy
from dbt_orchestration.history.batches import batches, reads_itself
from dbt_orchestration.history.partitions import (
    PartitionConfig,
    PartitionError,
    partition_keys,
)
from dbt_orchestration.history.request import (
    Partitions,
    Request,
    chosen_range,
    partitions_to_build,
)
from dbt_orchestration.ledger.attempts import built_before, succeeded
from dbt_orchestration.ledger.built import last_results
from dbt_orchestration.ledger.cloned import find_clones
from dbt_orchestration.ledger.former import former_tables
from dbt_orchestration.ledger.kept_tables import Copies, PutBack, There, can_be_kept
from dbt_orchestration.ledger.provenance import ancestors_of
from dbt_orchestration.ledger.run_tags import is_from_push
from dbt_orchestration.ledger.staleness import Staleness, on_change, staleness
from dbt_orchestration.runs.request import BuildRequest

# Changes that leave the types of a table's columns as they are. A new column is added as it is.
_SAME_TYPES = ("rows", "column_added", "order", "partitions")

Nodes = Mapping[str, Mapping[str, Any]]
Tests = Mapping[str, dg.AssetCheckKey]


@dataclass(frozen=True)
class RunPlan:
    """What a run is going to do.

    Attributes:
        nodes: nodes of the manifest to build, by unique id.
        tests: tests to run, by unique id.
        partitions: which partitions of the partitioned nodes.
        rebuilt: nodes whose tables are recreated.
        shadow: those of them that dbt would recreate in several steps.
        waiting: nodes whose tables should be recreated, if a person says so.
        checked: nodes whose partitions are rebuilt where they are if their table fits, each with
            what is built beside it if not.
        history: models of which more is built than a daily build does: recreated ones, chosen
            partitions, and those that were never built.
        fresh: nodes that were never built in this place, which may not be free, each with the name
            under which a table that stands there is kept; "" if it may stay.
        stands: how the nodes stood that it was decided from.
        known: results of checks that need not run, as another run has built the same meanwhile.
        put_back: nodes whose shadow tables begin as copies: those that an earlier push has kept, or
            tables of another environment.
        left: nodes that were to be copied and cannot be, each with why.
    """

    nodes: Nodes
    tests: Tests
    partitions: Mapping[str, Partitions]
    rebuilt: Collection[str]
    shadow: Collection[str]
    waiting: Collection[str]
    checked: Mapping[str, Partitions]
    history: Collection[str]
    fresh: Mapping[str, str]
    stands: Staleness
    known: Sequence[dg.AssetCheckResult] = ()
    put_back: Mapping[str, PutBack] = field(default_factory=dict)
    left: Mapping[str, str] = field(default_factory=dict)

    @property
    def cloned(self) -> Collection[str]:
        """Nodes that are wholly copied from another environment."""
        return {u for u, copy in self.put_back.items() if copy.environment and not copy.partitions}

    @property
    def does_nothing(self) -> bool:
        return not self.nodes and not self.tests

    def with_rebuilt(self, unique_ids: Collection[str]) -> RunPlan:
        """The same with ``unique_ids``, of what was ``checked``, recreated beside their tables."""
        recreated = {u: self.checked[u] for u in unique_ids}
        return replace(
            self,
            partitions={**self.partitions, **recreated},
            rebuilt={*self.rebuilt, *recreated},
            shadow={*self.shadow, *recreated},
            history={*self.history, *recreated},
        )


def batches_of(plan: RunPlan) -> Iterator[str]:
    """How the partitions of each node are cut into batches, in words."""
    for unique_id, wanted in plan.partitions.items():
        if len(wanted.keys) > 1:
            count = f"{len(wanted.batches)} {'batch' if len(wanted.batches) == 1 else 'batches'}"
            why = f"; one partition each: {wanted.alone}" if wanted.alone else ""
            yield f"{unique_id}: {len(wanted.keys)} partitions in {count}{why}."


class Planner:
    """Decides what one run does, from what it was asked and how everything stands.

    Args:
        attempts: the run and those that it goes on from, back to the first; none if there is no run
            yet, as in a form.
    """

    def __init__(
        self,
        env: EnvironmentContext,
        instance: dg.DagsterInstance,
        request: BuildRequest,
        attempts: Sequence[dg.RunRecord] = (),
    ) -> None:
        self._env = env
        self._instance = instance
        self._request = request
        self._config, self._order = request.config, request.order
        self._attempts = attempts

    @property
    def first_attempt(self) -> str:
        """The run id of the first attempt; "" if there is no run yet."""
        return self._attempts[-1].dagster_run.run_id if self._attempts else ""

    def selected(self) -> tuple[Nodes, Tests]:
        """What the run was started for."""
        ids = self._env.unique_ids
        keys = set(self._request.assets)
        if len(self._attempts) > 1:
            # For Dagster an asset is built once a partition of it is. Where an attempt was stopped
            # before the last one, only the check that it did not come to is to be done again.
            keys |= {
                check.asset_key for check in self._request.checks if check.name == PARTITIONS_CHECK
            }
        nodes = sorted(ids[key] for key in keys)
        checks = () if self._config.exclude_tests else self._request.checks
        tests = {ids[key]: key for key in sorted(checks) if key in ids}
        return {unique_id: self._env.nodes[unique_id] for unique_id in nodes}, tests

    def plan(
        self,
        shadows_are_there: Callable[[Collection[str]], bool],
        copies_there: There = lambda kept: kept,
    ) -> RunPlan:
        """What to do now.

        Args:
            shadows_are_there: whether an earlier attempt left the shadow tables of these nodes.
            copies_there: looks which kept tables are in the warehouse.

        Raises:
            PartitionError: the request cannot be met.
        """
        nodes, tests = self.selected()
        stands = self._staleness(nodes)
        nodes, tests, known = self._still_due(nodes, tests, stands)
        if not nodes and not tests:
            return RunPlan({}, {}, {}, (), (), (), {}, (), {}, stands, known)
        back: Mapping[str, PutBack] = {}
        left: Mapping[str, str] = {}
        if self._order.clone:
            clones = find_clones(
                self._env,
                self._instance,
                self._order.clone,
                nodes,
                is_built=stands.built.__contains__,
                there=copies_there,
            )
            back, left = clones.tables, clones.left
            if not back and not clones.made:
                raise PartitionError(f"{self._order.clone} has none of these tables any more")
            nodes = {u: node for u, node in nodes.items() if u not in left}
            others = {self._env.keys[u] for u in left}
            tests = {u: key for u, key in tests.items() if key.asset_key not in others}
        elif is_from_push(self._request.tags):
            former = former_tables(self._env, self._instance, can_be_kept(self._env, nodes), stands)
            back = Copies(
                self._env, self._instance, nodes, stands, there=copies_there, former=former
            ).put_back()
        plan = self._plan(nodes, tests, stands, shadows_are_there, back)
        return replace(plan, known=known, left=left)

    def _staleness(self, nodes: Collection[str]) -> Staleness:
        """How these nodes, and all that they read, stand."""
        above = ancestors_of(self._env.nodes, *nodes)
        keys = self._env.keys
        found = staleness(
            self._env.settings,
            self._env.name,
            self._instance,
            self._env.revision,
            {u: keys[u] for u in {*nodes, *above} & keys.keys()},
            remember=bool(self._attempts),
        )
        assert found is not None
        return found

    def _still_due(
        self, nodes: Nodes, tests: Tests, stands: Staleness
    ) -> tuple[Nodes, Tests, Sequence[dg.AssetCheckResult]]:
        """Without what another run has built since the push sensor asked for this one.

        The checks of that are given with the results that they had there: Dagster takes a check
        that a run was to do, and did not, for one whose result is unknown.
        """
        if not is_from_push(self._request.tags) or len(self._attempts) > 1:
            return nodes, tests, ()
        keys, now = self._env.keys, self._env.revision.fingerprints
        done = {
            keys[u]
            for u in nodes
            if stands.is_current(u) and stands.built[u].fingerprint == now[u]
            if u not in stands.stale
        }
        checks = [k for k in self._request.checks if k.asset_key in done]
        results = last_results(self._instance, checks)
        known = {(result.asset_key, result.check_name) for result in results}
        return (
            {u: node for u, node in nodes.items() if keys[u] not in done},
            {u: key for u, key in tests.items() if (key.asset_key, key.name) not in known},
            results,
        )

    def _plan(
        self,
        nodes: Nodes,
        tests: Tests,
        stands: Staleness,
        shadows_are_there: Callable[[Collection[str]], bool],
        back: Mapping[str, PutBack],
    ) -> RunPlan:
        config, order, instance, env = self._config, self._order, self._instance, self._env
        models = {u: model for u in nodes if (model := env.model(u))}
        rebuilt, waiting = self._rebuilt(nodes, stands)
        rebuilt, waiting = rebuilt | (back.keys() & models.keys()), waiting - back.keys()
        request = Request(
            self._request.tags,
            config.full_refresh,
            env.environment.lookback,
            self._attempts[-1].create_timestamp if self._attempts else datetime.now(UTC),
            rebuilt,
            {env.unique_id(name, "partitions"): said for name, said in order.partitions.items()},
        )

        def before(unique_id: str) -> set[str]:
            return built_before(instance, env.keys[unique_id], self._attempts)

        recreated = {
            u
            for u, model in models.items()
            if model.is_microbatch
            if u in rebuilt or (config.full_refresh and self._may_rebuild(u))
            if before(u) or u in back  # else nobody reads it yet
        }
        done = dict(succeeded(instance, self._attempts[1:], env.unique_ids, beside=recreated))
        if (resumed := recreated & done.keys()) and not shadows_are_there(resumed):
            done = {u: keys for u, keys in done.items() if u not in resumed}
        back = {u: copy for u, copy in back.items() if u not in done}
        done |= {u: {*copy.partitions} for u, copy in back.items() if copy.partitions}
        partitions = partitions_to_build(request, models, before, done)
        whole = {u for u in partitions if u in rebuilt or config.full_refresh or not before(u)}
        partitions = {
            u: self._cut(u, models[u], wanted, whole=u in whole) for u, wanted in partitions.items()
        }
        checked = {
            u: self._cut(
                u, models[u], Partitions(partition_keys(models[u], request.now)), whole=True
            )
            for u in partitions.keys() - rebuilt
            if models[u].is_microbatch and self._may_have_other_types(u, stands)
        }
        chosen = partitions if chosen_range(request.tags) else request.partitions.keys()
        once = {
            u for u in nodes if HistoryPolicy.of(self._env.nodes[u]).incremental
        } - models.keys()
        again = {u for u in once if u in rebuilt or config.full_refresh or u not in stands.built}
        history = whole | (partitions.keys() & chosen) | again
        nodes = {u: node for u, node in nodes.items() if u not in models or u in partitions}
        absent = {env.keys[unique_id] for unique_id in models.keys() - partitions.keys()}
        tests = {u: check for u, check in tests.items() if check.asset_key not in absent}
        if not nodes and not tests:
            raise PartitionError("none of the selected models has a partition yet")
        return RunPlan(
            nodes,
            tests,
            partitions,
            rebuilt,
            (recreated & partitions.keys()) | (back.keys() & nodes.keys()),
            waiting,
            checked,
            history,
            self._fresh(nodes, stands),
            stands,
            put_back=back,
        )

    def _may_have_other_types(self, unique_id: str, stands: Staleness) -> bool:
        """Whether columns of a table, whose partitions are rebuilt in it, may have other types."""
        says = on_change(self._env.nodes[unique_id], self._env.environment.on_change)
        whys = {id(why): why for why in stands.stale.get(unique_id, {}).values()}
        return says != "forward_only" and any(
            why.action == "partitions"
            and not (why.changes and all(c.startswith(_SAME_TYPES) for c in why.changes))
            for why in whys.values()
        )

    def _fresh(self, nodes: Nodes, stands: Staleness) -> Mapping[str, str]:
        if len(self._attempts) > 1:
            return {}  # what stands there is what an earlier attempt made
        never = [u for u in nodes if self._is_new_here(u, stands)]
        kept = {u for u in never if self._keeps_rows(u)}
        others = {u for u in never if u.startswith(("seed.", "snapshot."))}
        aside = f"__before_{self.first_attempt[:8]}"
        return {u: f"{nodes[u]['alias']}{aside}" if u in kept else "" for u in kept | others}

    @staticmethod
    def _is_new_here(unique_id: str, stands: Staleness) -> bool:
        """Whether a node was never built under the name that its relation has."""
        why = stands.differs.get(unique_id)
        moved = why is not None and any(change.startswith("name ") for change in why.changes)
        return moved or unique_id not in stands.built

    def _keeps_rows(self, unique_id: str) -> bool:
        kept = HistoryPolicy.of(self._env.nodes[unique_id])
        return kept.incremental and self._may_rebuild(unique_id)

    def _cut(
        self, unique_id: str, model: PartitionConfig, wanted: Partitions, *, whole: bool
    ) -> Partitions:
        if not model.is_microbatch:
            return replace(wanted, batches=[wanted.keys])
        node = self._env.nodes[unique_id]
        why = why_alone(node, self._env.revision.why_unmergeable(unique_id))
        # What a batch leaves outside of its partition, a later one may replace: as in dbt's order.
        in_order = (whole and bool(why)) or reads_itself(node["raw_code"])
        if model.mergeable is False:
            why = why or "the model says so"
        cut = batches(model, wanted.keys, mergeable=not why, in_order=in_order)
        return replace(wanted, batches=cut, alone=why if model.chunk > 1 else "")

    def _rebuilt(self, nodes: Collection[str], stands: Staleness) -> tuple[set[str], set[str]]:
        """What is rebuilt from nothing: what is asked for, and what its change calls for.

        Whoever builds a model whose table must be rebuilt, rebuilds it: recorded as built, it would
        be due no more. Unless a person is to be asked first: then it waits.
        """
        asked = {self._env.unique_id(name, "rebuild") for name in self._order.rebuild}
        if snapshots := sorted(u for u in asked if u.startswith("snapshot.")):
            raise PartitionError(
                f"rebuild: {', '.join(snapshots)} is a snapshot: what its source was like in the"
                " past cannot be computed again"
            )
        if kept := sorted(u for u in asked if not self._may_rebuild(u)):
            raise PartitionError(f"rebuild: {', '.join(kept)} says full_refresh: false")
        default = self._env.environment.on_change
        says = {u: on_change(self._env.nodes[u], default) for u in nodes}
        must = {u for u in nodes if self._must_be_rebuilt(u, stands)} - asked
        must = {u for u in must if says[u] != "forward_only"}
        history = sum(len(stands.built[u].partitions) for u in must)
        too_many = history > self._env.environment.push.max_partitions
        waiting = {
            u
            for u in must
            if says[u] == "ask" or (too_many and HistoryPolicy.of(self._env.nodes[u]).incremental)
        }
        # What stands in the place of a node that was never built is not its own.
        own = own_materializations(self._env.revision.manifest)
        fresh = {
            u
            for u in nodes
            if self._is_new_here(u, stands) and self._may_rebuild(u) and not self._keeps_rows(u)
            if is_updated_in_place(self._env.nodes[u], own)
        }
        return (asked | fresh | must - waiting) & set(nodes), waiting

    def _must_be_rebuilt(self, unique_id: str, stands: Staleness) -> bool:
        last = stands.differs.get(unique_id)
        whys = [*([last] if last else []), *stands.stale.get(unique_id, {}).values()]
        return any(why.due and why.action == "full_refresh" for why in whys)

    def _may_rebuild(self, unique_id: str) -> bool:
        return self._env.nodes[unique_id]["config"].get("full_refresh") is not False
