"""What was built, as Dagster's event log says: the only truth about it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice

import dagster as dg

from dbt_orchestration.assets.translator import PARTITIONS_CHECK
from dbt_orchestration.dagster_internals import CheckRecord, CheckStatus
from dbt_orchestration.ledger.attempts import partitions_until, unfinished_runs
from dbt_orchestration.ledger.doubt import doubts
from dbt_orchestration.ledger.left import left_by
from dbt_orchestration.ledger.present import absent_since
from dbt_orchestration.ledger.provenance import (
    CODE_VERSION_TAG,
    DATA_VERSION_TAG,
    FINGERPRINT,
    MISSING,
    READS,
    RELATION,
    SECONDS,
    SECONDS_BEFORE,
    UNIQUE_ID,
    code_version_in,
    short_name_in,
)
from dbt_orchestration.ledger.recorded import (
    COMPLETED,
    evaluation_in,
    executions,
    is_as_it_was,
    last_build,
)
from dbt_orchestration.revisions.explanation import PARTIAL, STOPPED

_EARLIER = 10

# Of a test that a run planned and ended without doing: when it was done before, and how, by run and
# test. It takes a query for each (2 ms), and each tick looks; a failed build may leave thousands.
_before: dict[tuple[str, dg.AssetCheckKey], tuple[float, str | None]] = {}
_MOST_BEFORE = 20_000


@dataclass(frozen=True)
class Built:
    """The last time a node was built.

    Attributes:
        fingerprint: what it was built with.
        timestamp: when, in seconds since 1970.
        seconds: how long dbt took; of a partitioned node, for one partition.
        run_id: the run that did.
        partitions: what each of its partitions was built with, if that was asked for.
        missing: partitions that the last run was to build, and did not.
        left_by: the run that did not build, or say that it built, all partitions that it was to.
        relation: the name of the relation that was built; "" if that is not known.
        reads: ``names_read`` of it then; None if that is not known.
        relations: ``short_name`` of the relation that each partition was built into.
    """

    fingerprint: str
    timestamp: float
    seconds: float
    run_id: str
    partitions: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
    left_by: str | None = None
    relation: str = ""
    reads: str | None = None
    relations: Mapping[str, str] = field(default_factory=dict)


def read_built(
    instance: dg.DagsterInstance,
    keys: Mapping[str, dg.AssetKey],
    partitioned: Collection[str] = (),
) -> Mapping[str, Built]:
    """What was built last of each node and is there, by unique id; without those that never were.

    Args:
        partitioned: nodes whose every partition is to be looked at.
    """
    return _read(instance, keys, partitioned)[0]


def read_gone(instance: dg.DagsterInstance, keys: Mapping[str, dg.AssetKey]) -> Mapping[str, Built]:
    """What was built last of each node whose relation is not in the warehouse any more."""
    return _read(instance, keys, ())[1]


def _read(
    instance: dg.DagsterInstance,
    keys: Mapping[str, dg.AssetKey],
    partitioned: Collection[str],
) -> tuple[Mapping[str, Built], Mapping[str, Built]]:
    names = {key: unique_id for unique_id, key in keys.items()}
    absent = absent_since(instance, names)
    unbuilt = _unbuilt_partitions(instance, names)
    in_doubt = doubts(instance, names)
    found: dict[str, Built] = {}
    gone: dict[str, Built] = {}
    for record in instance.get_asset_records(list(names)):
        last = last_build(instance, record)
        event = last and last.asset_materialization
        if not last or not event:
            continue
        key = record.asset_entry.asset_key
        if _is_of_another_kind(event, names[key]):
            continue
        version = (event.tags or {}).get(CODE_VERSION_TAG, "")
        duration = event.metadata.get(SECONDS) or event.metadata.get(SECONDS_BEFORE)
        relation, reads = event.metadata.get(RELATION), event.metadata.get(READS)
        since = absent.get(key)
        is_there = since is None or last.storage_id > since
        missing, left_by = unbuilt.get(key, ((), None))
        # Of a table that was dropped, and that a run has begun to build again.
        lost = partitions_until(instance, key, since) if is_there and since is not None else set()
        doubted = in_doubt.get(key, ())
        stopped = any(d.partitions is None and last.storage_id <= d.place for d in doubted)
        # Each takes a query, for ever, and only what has partitions can have lost some.
        for doubt in doubted if event.partition else ():
            until = partitions_until(instance, key, doubt.place)
            lost |= until if doubt.partitions is None else until & set(doubt.partitions)
        wanted = names[key] in partitioned and is_there
        partitions = _partitions(instance, key, lost) if wanted else {}
        if stopped:
            version = f"{version}{STOPPED}"
        elif key in unbuilt or lost:
            version = f"{version}{PARTIAL}"
        (found if is_there else gone)[names[key]] = Built(
            version,
            last.timestamp,
            float(str(duration.value)) if duration else 0.0,
            last.run_id,
            {p: code_version_in(version) for p, version in partitions.items()},
            sorted({*missing, *lost}),
            None if lost else left_by,
            relation=str(relation.value) if relation else "",
            reads=str(reads.value) if reads else None,
            relations={p: short_name_in(version) for p, version in partitions.items()},
        )
    return found, gone


def _is_of_another_kind(event: dg.AssetMaterialization, unique_id: str) -> bool:
    """Whether a seed was built under the name of what is a model now, or the like."""
    said = event.metadata.get(UNIQUE_ID)
    return said is not None and str(said.value).split(".")[0] != unique_id.split(".", maxsplit=1)[0]


def _partitions(
    instance: dg.DagsterInstance, key: dg.AssetKey, lost: Collection[str]
) -> Mapping[str, str]:
    # The only tag that Dagster looks up for all partitions at once.
    tags = instance.event_log_storage.get_latest_tags_by_partition(
        key, dg.DagsterEventType.ASSET_MATERIALIZATION, [DATA_VERSION_TAG]
    )
    return {p: found[DATA_VERSION_TAG] for p, found in tags.items() if p not in lost}


def _unbuilt_partitions(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetKey]
) -> Mapping[dg.AssetKey, tuple[Sequence[str], str]]:
    """Assets of which a run did not build all it was to: the partitions, if known, and the run."""
    checks = [dg.AssetCheckKey(key, PARTITIONS_CHECK) for key in keys]
    found: dict[dg.AssetKey, tuple[Sequence[str], str]] = {}
    for key, record in _latest_checks(instance, checks).items():
        if record.status is not CheckStatus.SUCCEEDED:
            evaluation = evaluation_in(record)
            said = evaluation.metadata.get(MISSING) if evaluation else None
            missing = said.value if isinstance(said, dg.JsonMetadataValue) else None
            found[key.asset_key] = [str(each) for each in missing or ()], record.run_id
    return found


def _latest_checks(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> Mapping[dg.AssetCheckKey, CheckRecord]:
    """The last execution of each check, without those that a run has not come to, or has left.

    That takes a query for each check that is planned, so it is not for all tests.
    """
    storage = instance.event_log_storage
    untouched: dict[str, bool] = {}
    left: dict[str, Collection[str]] = {}

    def counts(record: CheckRecord) -> bool:
        if record.status is not CheckStatus.PLANNED:
            return True
        run_id = record.run_id
        if run_id not in untouched:
            run = instance.get_run_record_by_id(run_id)
            untouched[run_id] = run is not None and (
                not run.dagster_run.is_finished or run.start_time is None
            )
            left[run_id] = left_by(run.dagster_run) if run else ()
        return not (untouched[run_id] or record.key.asset_key.to_user_string() in left[run_id])

    found: dict[dg.AssetCheckKey, CheckRecord] = {}
    for key, latest in storage.get_latest_asset_check_execution_by_key(list(keys)).items():
        records: Iterable[CheckRecord] = [latest]
        if is_as_it_was(latest) or not counts(latest):
            done = islice(executions(instance, key, COMPLETED), 1)
            records = chain(islice(executions(instance, key), _EARLIER), done)
        if record := next(filter(counts, records), None):
            found[key] = record
    return found


def last_results(
    instance: dg.DagsterInstance, keys: Collection[dg.AssetCheckKey]
) -> Sequence[dg.AssetCheckResult]:
    """What the runs that did these checks last found; not of checks whose result is unknown."""
    return [
        dg.AssetCheckResult(
            passed=found.passed,
            asset_key=key.asset_key,
            check_name=key.name,
            metadata={**found.metadata, "found by": dg.MetadataValue.dagster_run(record.run_id)},
            severity=found.severity,
        )
        for key, record in _latest_checks(instance, keys).items()
        if (found := evaluation_in(record))
    ]


def read_checked(
    instance: dg.DagsterInstance, changed: Mapping[dg.AssetCheckKey, float]
) -> Mapping[dg.AssetCheckKey, str]:
    """The fingerprint of each test when it ran last; without those that did not pass.

    A test that only warns has passed. One that a run planned and did not come to, as after a model
    that failed, stands as it was before, unless what it reads was built since.

    Args:
        changed: the tests, and when what each reads was built last, in seconds since 1970.
    """
    unfinished = {run.run_id for run in unfinished_runs(instance)}
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key(list(changed))
    found: dict[dg.AssetCheckKey, str] = {}
    for key, newest in latest.items():
        record = next(executions(instance, key)) if is_as_it_was(newest) else newest
        if record.status is CheckStatus.PLANNED and record.run_id not in unfinished:
            when, passed = _passed_before(instance, record)
            passed = passed if when >= changed[key] else None
        else:
            passed = _passed(record)
        if passed is not None:
            found[key] = passed
    return found


def _passed(record: CheckRecord) -> str | None:
    """The fingerprint of a test that passed, or only warned."""
    evaluation = evaluation_in(record)
    if evaluation and (evaluation.passed or evaluation.severity is dg.AssetCheckSeverity.WARN):
        value = evaluation.metadata.get(FINGERPRINT)
        return str(value.value) if value else ""
    return None


def _passed_before(instance: dg.DagsterInstance, planned: CheckRecord) -> tuple[float, str | None]:
    known = planned.run_id, planned.key
    if known not in _before:
        if len(_before) >= _MOST_BEFORE:
            _before.clear()
        done = next(executions(instance, planned.key, COMPLETED), None)
        event = done.event if done else None
        _before[known] = (event.timestamp, _passed(done)) if done and event else (0.0, None)
    return _before[known]
