"""Read from Dagster's event log how an environment is. The warehouse is asked nothing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from itertools import groupby, islice
from typing import Any

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.automation.credits.definitions import JOB
from dbt_orchestration.automation.jobs import SCHEDULE_TAG, daily_schedule
from dbt_orchestration.automation.morning.morning import (
    Build,
    Cause,
    How,
    Model,
    Morning,
    Pushed,
    Spent,
    Unsteady,
)
from dbt_orchestration.automation.outcome import Finding, Outcome
from dbt_orchestration.automation.telling.incidents import Incident, Kind
from dbt_orchestration.automation.telling.look import Look
from dbt_orchestration.automation.telling.memory import Memory
from dbt_orchestration.dagster_internals import CheckStatus
from dbt_orchestration.ledger.attempts import first_attempt_of
from dbt_orchestration.ledger.costs import CREDITS, CREDITS_OF_TESTS
from dbt_orchestration.ledger.failures import RunFailure
from dbt_orchestration.ledger.held import held
from dbt_orchestration.ledger.orphans import Orphan, orphans
from dbt_orchestration.ledger.provenance import SECONDS, text_in
from dbt_orchestration.ledger.pushes import pushes_key
from dbt_orchestration.ledger.recorded import (
    COMPLETED,
    evaluation_in,
    executions,
)
from dbt_orchestration.ledger.run_tags import CREDITS_TAG, ENVIRONMENT_TAG, is_from_push
from dbt_orchestration.runs.figures import ROW_COUNT, number
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.types import named

_DAY = 86_400.0
_WEEK = 7 * _DAY
# Bounds of what is read, for installations in which much happens.
_MOST_RUNS, _MOST_FAILED, _MOST_TESTS = 1_000, 100, 100
_MOST_ASKED = 50
_TIMES, _WARNS = 20, 3
_WAITS = {Kind.HISTORY_WAITS, Kind.HELD, Kind.PAUSED}
_LATE = {Kind.BUILD_NOT_STARTED, Kind.BUILD_LATE, Kind.NOT_FRESH}
_HOW = {
    dg.DagsterRunStatus.SUCCESS: How.SUCCEEDED,
    dg.DagsterRunStatus.FAILURE: How.FAILED,
    dg.DagsterRunStatus.CANCELED: How.CANCELED,
}
_PASS, _WARN, _FAIL = "pass", "warn", "fail"
_Metadata = Mapping[str, dg.MetadataValue[Any]]


@dataclass(frozen=True)
class Reader:
    """Reads an environment's morning.

    Attributes:
        found: what the push sensor found last.
        scheduled: since when the daily build's schedule is on, in seconds since 1970; None if it
            is off.
        now: in seconds since 1970.
    """

    settings: Settings
    environment: str
    instance: dg.DagsterInstance
    dbt: DbtAssets
    found: Sequence[Finding]
    scheduled: float | None
    now: float

    def morning(self) -> Morning:
        """How the environment is."""
        wrong = sorted(self._wrong(), key=lambda each: (each.kind.rank, each.node))
        waits = [each for each in wrong if each.kind in _WAITS]
        late = [each for each in wrong if each.kind in _LATE]
        days = self._daily
        newest = days[-1] if days else max(([each] for each in self._runs), key=_size, default=[])
        compared = days[0] if days[1:] else []
        return Morning(
            self.environment,
            self.now,
            self.dbt.env.revision.commit,
            self._build(days[-1]) if days else None,
            self._build(newest) if newest else None,
            self._build(compared) if compared else None,
            [each for each in wrong if each not in (*waits, *late)],
            late,
            waits,
            any(each.outcome is Outcome.TRIED for each in self.found[-1:]),
            [*self._pushes()],
            [*self._models(newest, compared)],
            [*self._flapping()],
            [*self._warning()],
            self._orphans(),
            self._spent(),
            self._dearest(),
        )

    def _wrong(self) -> Collection[Incident]:
        before = Memory.read(self.instance, self.environment, self.now).open
        scheduled = self.scheduled
        if scheduled is not None:
            # Where nothing has been built yet, nothing is late.
            of_here = dg.RunsFilter(tags={ENVIRONMENT_TAG: self.environment})
            first = self.instance.get_run_records(of_here, limit=1, ascending=True)
            began = first[0].create_timestamp.timestamp() if first else self.now
            scheduled = max(scheduled, began)
        look = Look(
            self.settings,
            self.environment,
            self.instance,
            self.dbt,
            self.found,
            scheduled,
            before,
            self.now,
        )
        return look.incidents().values()

    # Runs

    @cached_property
    def _runs(self) -> Sequence[dg.RunRecord]:
        """Those of the last week, the newest first."""
        since = datetime.fromtimestamp(self.now - _WEEK, UTC)
        tags = {ENVIRONMENT_TAG: self.environment}
        wanted = dg.RunsFilter(tags=tags, created_after=since)
        return self.instance.get_run_records(wanted, limit=_MOST_RUNS)

    @cached_property
    def _daily(self) -> Sequence[Sequence[dg.RunRecord]]:
        """The daily builds, the oldest first, each with its retries."""
        found: dict[str, list[dg.RunRecord]] = {}
        for record in reversed(self._runs):
            run = record.dagster_run
            if self._cause(run) is Cause.DAILY:
                found.setdefault(first_attempt_of(run), []).append(record)
        return [*found.values()]

    def _cause(self, run: dg.DagsterRun) -> Cause:
        if is_from_push(run.tags):
            return Cause.PUSH
        schedule = run.tags.get(SCHEDULE_TAG)
        if schedule == daily_schedule(self.environment):
            return Cause.DAILY
        return Cause.SCHEDULE if schedule else Cause.HAND

    def _build(self, attempts: Sequence[dg.RunRecord]) -> Build:
        last = attempts[-1].dagster_run
        return Build(
            last.run_id,
            _HOW.get(last.status, How.RUNNING),
            attempts[0].start_time or attempts[0].create_timestamp.timestamp(),
            sum(map(self._seconds, attempts)),
        )

    def _seconds(self, record: dg.RunRecord) -> float:
        if record.start_time is None:
            return 0.0
        return max(0.0, (record.end_time or self.now) - record.start_time)

    def _spent(self) -> Sequence[Spent]:
        counts: Counter[tuple[Cause, str]] = Counter()
        seconds: dict[tuple[Cause, str], float] = {}
        credits: dict[tuple[Cause, str], float] = {}
        for record in self._runs:
            run = record.dagster_run
            who = self._cause(run), text_in(self._pushed.get(run.run_id, {}), "author")
            counts[who] += 1
            seconds[who] = seconds.get(who, 0.0) + self._seconds(record)
            if cost := run.tags.get(CREDITS_TAG):
                credits[who] = credits.get(who, 0.0) + float(cost)
        found = [Spent(*who, counts[who], took, credits.get(who)) for who, took in seconds.items()]
        return sorted(found, key=lambda each: -each.seconds)

    def _dearest(self) -> Sequence[tuple[str, float]]:
        wanted = dg.RunsFilter(
            job_name=named(self.environment, JOB),
            created_after=datetime.fromtimestamp(self.now - _WEEK, UTC),
        )
        kind = dg.DagsterEventType.ASSET_OBSERVATION
        found: dict[str, float] = {}
        for run in self.instance.get_runs(wanted, limit=_MOST_ASKED):
            for record in self.instance.get_records_for_run(run.run_id, of_type=kind).records:
                if observed := record.asset_observation:
                    names = (CREDITS, CREDITS_OF_TESTS)
                    cost = sum(number(observed.metadata, name) or 0.0 for name in names)
                    asset = "/".join(observed.asset_key.path)
                    found[asset] = found.get(asset, 0.0) + cost
        return sorted(found.items(), key=lambda each: -each[1])

    # Pushes

    @cached_property
    def _told(self) -> Sequence[dg.EventLogRecord]:
        """What the push sensor and its runs said in the last week, the newest first."""
        wanted = dg.AssetRecordsFilter(
            pushes_key(self.environment), after_timestamp=self.now - _WEEK
        )
        return self.instance.fetch_materializations(wanted, limit=_MOST_RUNS).records

    @cached_property
    def _pushed(self) -> Mapping[str, _Metadata]:
        """What was said of pushes that built something, by the id of the run."""
        return {each.run_id: _metadata(each) for each in self._told if each.run_id}

    def _pushes(self) -> Iterator[Pushed]:
        runs = {each.dagster_run.run_id: each for each in self._runs}
        for record in self._told:
            if record.timestamp < self.now - _DAY:
                break
            said, run = _metadata(record), runs.get(record.run_id)
            yield Pushed(
                text_in(said, "commit"),
                text_in(said, "author"),
                text_in(said, "commit url"),
                record.run_id if run else "",
                _names(run.dagster_run) if run else (),
                int(number(said, "left alone") or 0),
                self._seconds(run) if run else 0.0,
                number(said, "seconds saved") or 0.0,
            )

    # Models

    def _models(
        self, now: Sequence[dg.RunRecord], before: Sequence[dg.RunRecord]
    ) -> Iterator[Model]:
        earlier = self._figures(before)
        for key, (seconds, rows) in self._figures(now).items():
            seconds_before, rows_before = earlier.get(key, (None, None))
            yield Model("/".join(key.path), seconds, rows, seconds_before, rows_before)

    def _figures(
        self, attempts: Sequence[dg.RunRecord]
    ) -> Mapping[dg.AssetKey, tuple[float, int | None]]:
        """Seconds and rows of what a build has built; of partitions all seconds together."""
        found: dict[dg.AssetKey, tuple[float, int | None]] = {}
        nodes = set(self.dbt.nodes.values())
        kind = dg.DagsterEventType.ASSET_MATERIALIZATION
        for attempt in attempts:
            run_id = attempt.dagster_run.run_id
            for record in self.instance.get_records_for_run(run_id, of_type=kind).records:
                if (event := record.asset_materialization) and event.asset_key in nodes:
                    seconds, rows = found.get(event.asset_key, (0.0, None))
                    count = number(event.metadata, ROW_COUNT)
                    seconds += number(event.metadata, SECONDS) or 0.0
                    found[event.asset_key] = seconds, rows if count is None else int(count)
        return found

    # Tests

    def _flapping(self) -> Iterator[Unsteady]:
        names = {test: key for key, test in self.dbt.checks.items()}
        failed = [r for r in self._runs if r.dagster_run.status is dg.DagsterRunStatus.FAILURE]
        times: Counter[str] = Counter()
        for record in failed[:_MOST_FAILED]:
            failure = RunFailure.of(self.instance, record.dagster_run.run_id)
            times.update(failure.nodes.keys() & names.keys())
        for test, count in times.most_common(_MOST_TESTS):
            results = self._results(names[test]) if count > 1 else ()
            if sum(result == _FAIL for result, _ in groupby(results)) > 1:
                yield _unsteady(names[test], results, _FAIL)

    def _warning(self) -> Iterator[Unsteady]:
        storage = self.instance.event_log_storage
        latest = storage.get_latest_asset_check_execution_by_key([*self.dbt.checks])
        warned = [
            key
            for key, record in latest.items()
            if record.status is CheckStatus.FAILED
            and (found := evaluation_in(record))
            and found.severity is dg.AssetCheckSeverity.WARN
        ]
        for key in sorted(warned)[:_MOST_TESTS]:
            results = self._results(key)
            if len(results) >= _WARNS and set(results) == {_WARN}:
                yield _unsteady(key, results, _WARN)

    def _results(self, key: dg.AssetCheckKey) -> Sequence[str]:
        """How a test went the last times, the newest first."""
        history = islice(executions(self.instance, key, COMPLETED, _TIMES), _TIMES)
        return [_result(found) for record in history if (found := evaluation_in(record))]

    # Relations

    def _orphans(self) -> Sequence[Orphan]:
        # What a held commit does not have is there again once it is released.
        if held(self.instance, self.environment):
            return []
        return [each for each in orphans(self.instance, self.dbt.env) if not each.absent]


def _size(attempts: Sequence[dg.RunRecord]) -> int:
    return len(_names(attempts[0].dagster_run))


def _names(run: dg.DagsterRun) -> Sequence[str]:
    return sorted(key.path[-1] for key in run.asset_selection or ())


def _unsteady(key: dg.AssetCheckKey, results: Sequence[str], bad: str) -> Unsteady:
    return Unsteady(key.name, "/".join(key.asset_key.path), results.count(bad), len(results))


def _result(found: dg.AssetCheckEvaluation) -> str:
    if found.passed:
        return _PASS
    return _WARN if found.severity is dg.AssetCheckSeverity.WARN else _FAIL


def _metadata(record: dg.EventLogRecord) -> _Metadata:
    event = record.asset_materialization
    return event.metadata if event else {}
