"""What is due: the difference between what a revision says and what Dagster recorded as built."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import dagster as dg
from dagster_dbt.asset_utils import get_upstream_unique_ids

from dbt_orchestration import dagster_internals
from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.changes.policy import HistoryPolicy
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.history.order import unpacked
from dbt_orchestration.history.partitions import newest, partition_keys
from dbt_orchestration.history.phases import descendants
from dbt_orchestration.ledger.attempts import AUTO_RETRY_TAG, is_going_on
from dbt_orchestration.ledger.built import Built, read_checked, read_gone
from dbt_orchestration.ledger.deferral import same_elsewhere
from dbt_orchestration.ledger.held import SOMEBODY
from dbt_orchestration.ledger.kept_tables import Copies
from dbt_orchestration.ledger.present import NOT_THERE
from dbt_orchestration.ledger.run_tags import (
    APPROVED_BEFORE,
    APPROVED_TAG,
    CHOSEN_TAG,
    DISK_FULL_TAG,
    ENVIRONMENT_TAG,
    FORM_TAG,
    LIGHTDASH_TAG,
    NEW_ONLY_TAG,
    PUSH_TAG,
    REASON_TAG,
    REVISION_TAG,
    USER_TAG,
)
from dbt_orchestration.ledger.staleness import REWRITES, Staleness, on_change, staleness
from dbt_orchestration.revisions.explanation import PARTIAL, Explanation, Recorded
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.types import named

NewOnly = Mapping[str, Collection[str]]
_NAMED = 5
# A run that is killed each time, for want of memory, is not to be started for ever.
_MOST_DEATHS = 5
# Of the newest pushes, which are looked at for what other commits have tried since.
_MOST_PUSHES = 20


@dataclass(frozen=True)
class Due:
    """Nodes to build and tests to run.

    Attributes:
        nodes: why, by unique id.
        checks: tests whose definition changed since their last run, on nodes that exist.
        built: what was built last of each node, due or not.
        partitions: what to build of nodes whose history is rebuilt; of others it is the newest.
        waiting: why, of nodes that a person has to start, and of those that read them.
        gone: what was built last of nodes whose relations are not in the warehouse any more.
        deaths: how often a run for this died, and Dagster did not start it again.
    """

    nodes: Mapping[str, Explanation]
    checks: Collection[dg.AssetCheckKey]
    built: Mapping[str, Built]
    partitions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    waiting: Mapping[str, Explanation] = field(default_factory=dict)
    gone: Mapping[str, Built] = field(default_factory=dict)
    deaths: int = 0

    def __bool__(self) -> bool:
        return bool(self.nodes or self.checks)

    @property
    def count(self) -> str:
        """How many, in words."""
        history = sum(map(len, self._history(self.nodes)))
        nodes = _number(len(self.nodes), "node")
        if history:
            nodes += f" ({_number(history, 'partition')} rebuilt)"
        return " and ".join(filter(None, (nodes, _number(len(self.checks), "test"))))

    def names(self, dbt: DbtAssets) -> str:
        """The first few, in words."""
        names = [dbt.keys[u].path[-1] for u in self.nodes] or [key.name for key in self.checks]
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        return ", ".join(names[:_NAMED]) + more

    def asks(self, dbt: DbtAssets) -> str:
        """What waits for a person, and how to start it; "" if nothing does."""
        waits = self.waits(dbt)
        job = named(dbt.env.name, "rebuild_history")
        does = "it shows what that takes, and with dry_run: false starts it"
        return waits and f"Waits for you: to {waits}. Launch the job {job}: {does}."

    @property
    def asked(self) -> Mapping[str, int]:
        """Nodes whose history a person has to start, and how many partitions that rebuilds."""
        asked = sorted(u for u, why in self.waiting.items() if why.action in REWRITES)
        return {u: len(self.partitions.get(u, ())) for u in asked}

    def waits(self, dbt: DbtAssets) -> str:
        """What waits for a person, and what it would take; "" if nothing does."""
        counts = self.asked
        if not counts:
            return ""
        seconds = sum(self.built[u].seconds * max(n, 1) for u, n in counts.items())
        seconds += sum(
            self.built[u].seconds for u in self.waiting if u not in counts and u in self.built
        )
        named = [
            f"{dbt.keys[u].path[-1]} ({_number(n, 'partition') or 'whole'})"
            for u, n in counts.items()
        ]
        others = len(self.waiting) - len(counts)
        return (
            f"rebuild {', '.join(named[:_NAMED])}"
            + (f" and {len(named) - _NAMED} more" if len(named) > _NAMED else "")
            + (f", and {others} that read them" if others else "")
            + f"; about {minutes(seconds)}"
        )

    def _history(self, nodes: Collection[str]) -> Collection[Sequence[str]]:
        return [keys for u, keys in self.partitions.items() if u in nodes]


def _number(count: int, what: str) -> str:
    return f"{count:,} {what}{'s' if count > 1 else ''}" if count else ""


def minutes(seconds: float) -> str:
    """A duration that was estimated, in words."""
    if seconds < 1:
        return "a second"
    return f"{round(seconds / 60)} minutes" if seconds >= 90 else f"{round(seconds)} s"


@dataclass(frozen=True)
class Ledger:
    """What Dagster knows of an environment, compared with a revision of it."""

    settings: Settings
    environment: str
    instance: dg.DagsterInstance
    revision: Revision
    dbt: DbtAssets

    def due(
        self,
        explain: Callable[[Collection[Recorded]], bool],
        allowed: Collection[str] = (),
        new_only: NewOnly = MappingProxyType({}),
        *,
        remember: bool = True,
    ) -> Due | None:
        """What is due; None if that is not known yet.

        Args:
            explain: explains nodes that were built with these fingerprints; False if that will take
                longer.
            allowed: nodes whose history a person may be about to start, by unique id.
            new_only: as of ``staleness``, of a person who is about to leave history as it is.
            remember: as of ``staleness``.
        """
        due = self._due(explain, allowed, new_only, remember=remember and not new_only)
        waits = due is not None and due.waiting
        if waits and not new_only and (chosen := self._new_only()):
            return self._due(explain, allowed, chosen, remember=remember)
        return due

    def _due(
        self,
        explain: Callable[[Collection[Recorded]], bool],
        allowed: Collection[str],
        new_only: NewOnly,
        *,
        remember: bool,
    ) -> Due | None:
        stands = staleness(
            self.settings,
            self.environment,
            self.instance,
            self.revision,
            self.dbt.nodes,
            explain=explain,
            new_only=new_only,
            remember=remember,
        )
        if stands is None:
            return None
        elsewhere = same_elsewhere(self.settings, self.environment, self.instance, self.revision)
        gone = read_gone(self.instance, self.dbt.nodes)
        nodes: dict[str, Explanation] = {}
        for unique_id in self.dbt.nodes:
            if why := self._why(unique_id, stands):
                nodes[unique_id] = why
            elif unique_id not in stands.built and unique_id not in elsewhere:
                lost = unique_id in gone
                why = Explanation("", True, "build", ["new"], "never built here")
                nodes[unique_id] = replace(why, changes=[], reason=NOT_THERE) if lost else why
        partitions = {
            u: keys for u in nodes if u in stands.built and (keys := self._history(u, stands))
        }
        waiting = self._waiting(nodes, partitions, stands, allowed)
        nodes = {u: why for u, why in nodes.items() if u not in waiting}
        return Due(
            nodes,
            self._checks(stands.built, {*nodes, *waiting}),
            stands.built,
            partitions,
            waiting,
            gone,
        )

    def _why(self, unique_id: str, stands: Staleness) -> Explanation | None:
        last = stands.differs.get(unique_id)
        if last and last.due:
            return replace(last, action=self._action(unique_id, last, stands))
        stale = stands.stale.get(unique_id)
        return max(stale.items())[1] if stale else None

    def _action(self, unique_id: str, why: Explanation, stands: Staleness) -> str:
        # Its partitions count as built with this code: somebody has let them stay as they are.
        kept = stands.built[unique_id].partitions and unique_id not in stands.stale
        if self._on_change(unique_id) == "forward_only" or (kept and why.action == "partitions"):
            return "build"
        return why.action

    def _on_change(self, unique_id: str) -> str:
        default = self.settings.environment(self.environment).on_change
        return on_change(self.revision.manifest["nodes"][unique_id], default)

    def _history(self, unique_id: str, stands: Staleness) -> Sequence[str]:
        """The partitions that are due of a node, oldest first, with the newest if that is."""
        node = self.revision.manifest["nodes"][unique_id]
        model = self.dbt.translator.partition_config(node)
        last = stands.built[unique_id]
        stale = {*stands.stale.get(unique_id, ()), *last.missing}
        if model is None or not stale:
            return ()
        now = datetime.now(UTC)
        if last.fingerprint.removesuffix(PARTIAL) != self.revision.fingerprints[unique_id]:
            stale |= set(newest(model, last.partitions.keys(), now, self._lookback))
        return [key for key in partition_keys(model, now) if key in stale]

    @property
    def _lookback(self) -> int | None:
        return self.settings.environment(self.environment).lookback

    def _waiting(
        self,
        nodes: Mapping[str, Explanation],
        partitions: Mapping[str, Sequence[str]],
        stands: Staleness,
        allowed: Collection[str],
    ) -> Mapping[str, Explanation]:
        """What must be started by a person, and what of the rest would read it."""
        rewritten = [u for u, why in nodes.items() if why.action in REWRITES and self._keeps(u)]
        if not rewritten or (approved := self._approved()) is None:
            return {}
        approved |= {*allowed}
        followed = self.settings.environment(self.environment)
        most, counts = followed.push.max_partitions, {u: len(partitions.get(u, ())) for u in nodes}
        if followed.keep_replaced and sum(counts[u] for u in rewritten) > most:
            # What is put back is not computed, however much it is.
            copies = Copies(self.dbt.env, self.instance, nodes, stands)
            for u, copy in copies.put_back().items():
                counts[u] -= len(copy.partitions)
        # Who has chosen some does not want the others, also once they are few enough.
        too_many = bool(approved) or sum(counts[u] for u in rewritten) > most
        asked = {u for u in rewritten if too_many or self._on_change(u) == "ask"} - approved
        held_up = descendants(self.revision.manifest, asked)
        return {u: why for u, why in nodes.items() if u in asked or u in held_up}

    def _keeps(self, unique_id: str) -> bool:
        """Whether a node has a history that somebody may want to keep."""
        node = self.revision.manifest["nodes"][unique_id]
        kept = HistoryPolicy.of(node)
        return kept.incremental or kept.on_change == "ask"

    def _approved(self) -> set[str] | None:
        """The nodes that people have let be rebuilt, by unique id; None if that is all of them."""
        found: set[str] = set()
        for tag in (APPROVED_TAG, APPROVED_BEFORE):
            for chosen in self._ordered(tag):
                if chosen is None:
                    return None
                found |= {*chosen}
        return found

    def _new_only(self) -> NewOnly:
        """The nodes whose history people have let stay as it is, as of ``staleness``."""
        found: dict[str, list[str]] = {}
        for chosen in self._ordered(NEW_ONLY_TAG):
            for unique_id, versions in chosen.items():
                found.setdefault(unique_id, []).extend(versions)
        return found

    def _ordered(self, tag: str) -> Iterator[Any]:
        """What the forms have chosen that left this tag for the revision."""
        yield from (unpacked(CHOSEN_TAG, run.tags) for run in self._forms(tag))

    def _forms(self, tag: str) -> Sequence[dg.DagsterRun]:
        tags = {ENVIRONMENT_TAG: self.environment, tag: self.revision.digest}
        done = dg.RunsFilter(tags=tags, statuses=[dg.DagsterRunStatus.SUCCESS])
        return self.instance.get_runs(done)

    def let_by(self) -> str:
        """Who has let history be rebuilt, in which run and why; "" if nobody was asked."""
        return ", ".join(
            f"{run.tags.get(USER_TAG) or SOMEBODY} let history be rebuilt"
            f" (run {run.run_id[:8]}: {run.tags.get(REASON_TAG) or 'no reason was given'})"
            for run in self._forms(APPROVED_TAG)
        )

    def _checks(
        self, built: Mapping[str, Built], due: Collection[str]
    ) -> Collection[dg.AssetCheckKey]:
        names = {key: unique_id for unique_id, key in self.dbt.keys.items()}
        there = {
            key: unique_id
            for key, unique_id in self.dbt.checks.items()
            if (node := names[key.asset_key]) in built or node in self.dbt.sources
            if node not in due
        }
        checked = read_checked(
            self.instance,
            {key: self._changed(unique_id, built) for key, unique_id in there.items()},
        )
        return sorted(k for k, u in there.items() if checked.get(k) != self.revision.checks.get(u))

    def _changed(self, test: str, built: Mapping[str, Built]) -> float:
        """When something that a test reads was built last."""
        manifest = self.revision.manifest
        node = manifest["nodes"].get(test) or manifest["unit_tests"][test]
        read = get_upstream_unique_ids(manifest, node)
        return max((built[u].timestamp for u in read if u in built), default=0.0)

    def wanted(self, due: Due) -> Collection[dg.AssetKey]:
        """The assets that are due, or have tests that are."""
        return {self.dbt.keys[u] for u in due.nodes} | {key.asset_key for key in due.checks}

    def building(
        self, assets: Collection[dg.AssetKey], runs: Sequence[dg.DagsterRun]
    ) -> list[dg.DagsterRun]:
        """Those of the runs that are this environment's and build one of these assets."""
        wanted = set(assets)
        place = f"@{self.environment}"
        return [
            run
            for run in runs
            if (run.asset_selection or set()) & wanted
            or (
                wanted
                and not run.asset_selection
                and run.tags.keys().isdisjoint((LIGHTDASH_TAG, FORM_TAG))
                and run.tags.get(".dagster/repository", place).endswith(place)
            )
        ]

    def _died(self, run: dg.DagsterRun) -> bool:
        """Whether a process of a run died, or had a full disk, and nobody goes on from it.

        Dagster starts a run again whose process died, unless it cannot reach the code location at
        that moment, takes all for done, or is not set to retry runs.
        """
        if run.status is not dg.DagsterRunStatus.FAILURE:
            return False
        if DISK_FULL_TAG in run.tags:
            return True
        if AUTO_RETRY_TAG in run.tags or is_going_on(self.instance, run, time.time()):
            return False
        failed = run.tags.get("dagster/failure_reason") == "STEP_FAILURE"
        return not failed or dagster_internals.a_step_died(self.instance, run.run_id)

    def not_tried(self, due: Due) -> Due:
        """The part not yet attempted for this commit since somebody else built it last.

        Nor since a push of another commit was to: that may have stopped half way, in a roll back.
        """
        tags = {PUSH_TAG: self.environment, REVISION_TAG: self.revision.digest}
        tried: dict[dg.AssetKey, float] = {}
        succeeded: set[dg.AssetKey] = set()
        runs: set[str] = set()
        checked: set[dg.AssetCheckKey] = set()
        deaths = 0
        for record in self.instance.get_run_records(dg.RunsFilter(tags=tags)):
            if record.dagster_run.status is dg.DagsterRunStatus.NOT_STARTED:
                continue  # the daemon died before it could launch it, and will when asked again
            if self._died(record.dagster_run) and (deaths := deaths + 1) <= _MOST_DEATHS:
                continue
            started = record.create_timestamp.timestamp()
            runs.add(record.dagster_run.run_id)
            if record.dagster_run.status is dg.DagsterRunStatus.SUCCESS:
                succeeded |= set(record.dagster_run.asset_selection or ())
            for key in record.dagster_run.asset_selection or ():
                tried[key] = max(started, tried.get(key, 0.0))
            checked |= set(record.dagster_run.asset_check_selection or ())
        others: dict[dg.AssetKey, float] = {}
        pushes = dg.RunsFilter(tags={PUSH_TAG: self.environment})
        for record in self.instance.get_run_records(pushes, limit=_MOST_PUSHES, ascending=False):
            if record.dagster_run.tags.get(REVISION_TAG) != self.revision.digest:
                for key in record.dagster_run.asset_selection or ():
                    others.setdefault(key, record.create_timestamp.timestamp())

        def is_new(unique_id: str) -> bool:
            key, last = self.dbt.keys[unique_id], due.built.get(unique_id)
            if key not in tried:
                return True
            if unique_id in due.gone:  # a try that did not build it would do no better now
                return tried[key] < due.gone[unique_id].timestamp
            if last is None:
                return key in succeeded  # it was there, and has been wiped
            by_others = tried[key] < last.timestamp and last.run_id not in runs
            return by_others or tried[key] < others.get(key, 0.0)

        return replace(
            due,
            nodes={u: why for u, why in due.nodes.items() if is_new(u)},
            checks=[key for key in due.checks if key not in checked],
            deaths=deaths,
        )
