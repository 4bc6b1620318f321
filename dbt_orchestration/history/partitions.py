"""Partitions of incremental models, read from dbt's own words. Pure functions, no I/O.

A ``microbatch`` model is partitioned by its ``batch_size`` from its ``begin``. Any other
incremental model can opt in with ``meta.dagster.partitions`` and read its window from two vars::

    meta:
      dagster:
        partitions:
          batch_size: day              # hour, day, month or year
          begin: "2013-01-01"          # first partition
          end: "2014-01-01"            # optional, exclusive: no partition starts then or later
          chunk: 30                    # optional: partitions that one batch may build
          mergeable: true               # optional: they may, although nobody can prove it
          lookback: 1                  # partitions before the newest that a build repeats
          start_var: partition_start   # ISO 8601, UTC, inclusive
          end_var: partition_end       # ISO 8601, UTC, exclusive

On a microbatch model ``end``, ``chunk`` and ``mergeable`` are read; the rest is dbt's config.
Everything is in UTC, as dbt's microbatch is: https://docs.getdbt.com/docs/build/incremental-microbatch
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from dbt_orchestration.changes.dates import BatchSize
from dbt_orchestration.changes.policy import HistoryPolicy
from dbt_orchestration.settings.project_meta import (
    Chunk,
    Lookback,
    Moment,
    ProjectError,
    read_meta,
    wrong,
)
from dbt_orchestration.settings.user_input import problems

if TYPE_CHECKING:
    import dagster as dg

# Keys are Dagster's defaults for each size, so that its UI groups and sorts them as people expect.
_KEY_FORMAT: Mapping[BatchSize, str] = {
    "hour": "%Y-%m-%d-%H:%M",
    "day": "%Y-%m-%d",
    "month": "%Y-%m-%d",
    "year": "%Y",
}
_CRON: Mapping[BatchSize, str] = {
    "hour": "0 * * * *",
    "day": "0 0 * * *",
    "month": "0 0 1 * *",
    "year": "0 0 1 1 *",
}


# A week or a month of a busy model fits into memory, and leaves something to see in between.
_CHUNK: Mapping[BatchSize, int] = {"hour": 168, "day": 30, "month": 12, "year": 5}


# What a microbatch model says in its own config.
_OF_DBT = frozenset({"batch_size", "begin", "lookback", "start_var", "end_var"})


class PartitionError(ValueError):
    """A request for partitions that cannot be met."""


class PartitionConfig(BaseModel):
    """How one incremental model is partitioned. Times are UTC; ``end`` is exclusive."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch_size: BatchSize
    begin: Moment
    end: Moment | None = None
    chunk: Chunk = Field(default_factory=lambda data: _CHUNK[data["batch_size"]])
    mergeable: bool | None = None
    lookback: Lookback = 1
    start_var: str | None = None
    end_var: str | None = None
    partial_full_refresh: bool = False

    @field_validator("end")
    @classmethod
    def _later(cls, end: datetime | None, info: ValidationInfo) -> datetime | None:
        begin = info.data.get("begin")
        if end and begin and end <= begin:
            raise ValueError(f"there is no partition before it: begin is {begin}")
        return end

    @property
    def is_microbatch(self) -> bool:
        """Whether dbt itself cuts the window into batches."""
        return self.start_var is None

    @cached_property
    def definition(self) -> dg.TimeWindowPartitionsDefinition:
        """Dagster's definition. The running partition exists, as dbt builds the running batch."""
        import dagster as dg

        return dg.TimeWindowPartitionsDefinition(
            start=_truncate(self.begin, self.batch_size),
            end=self.end and _ceil(self.end, self.batch_size),
            cron_schedule=_CRON[self.batch_size],
            fmt=_KEY_FORMAT[self.batch_size],
            timezone="UTC",
            end_offset=1,
        )

    @property
    def first_window(self) -> tuple[datetime, datetime]:
        """Start (inclusive) and end (exclusive) of the first partition, in UTC."""
        start = _truncate(self.begin, self.batch_size)
        return start, _ceil(start + timedelta(microseconds=1), self.batch_size)


def _truncate(moment: datetime, size: BatchSize) -> datetime:
    """The start of the batch that ``moment`` lies in, as dbt truncates ``begin``."""
    kept = {"year": 1, "month": 2, "day": 3, "hour": 4}[size]
    year, month, day, hour = (*moment.timetuple()[:kept], *(1, 1, 0)[kept - 1 :])
    return datetime(year, month, day, hour, tzinfo=UTC)


def _ceil(moment: datetime, size: BatchSize) -> datetime:
    start = _truncate(moment, size)
    if start == moment:
        return moment
    longest = {"hour": timedelta(hours=1), "day": timedelta(days=1)}.get(size, timedelta(days=31))
    return _truncate(start + (timedelta(days=366) if size == "year" else longest), size)


def partition_config(node: Mapping[str, Any]) -> PartitionConfig | None:
    """How the dbt node of a manifest is partitioned; None if it is not.

    Raises:
        ProjectError: the config contradicts itself; names the file, the model and the key.
    """
    config, policy = node.get("config") or {}, HistoryPolicy.of(node)
    stated = read_meta(node).partitions
    kind = config.get("materialized") or node.get("resource_type")
    # A source is loaded by others, who report which of its partitions they have loaded.
    if node.get("resource_type") != "source" and (
        node.get("resource_type") != "model" or not policy.incremental
    ):
        if stated:
            article = "an" if str(kind)[:1] in "aeiou" else "a"
            what = f"{article} {kind} has none: remove it, or make it incremental"
            raise wrong(node, f"partitions: {what}")
        return None
    declared = stated.model_dump(exclude_none=True) if stated else {}
    # dbt ignores --full-refresh for a model that says `full_refresh: false`.
    declared.setdefault("partial_full_refresh", config.get("full_refresh") is False)
    if policy.microbatch:
        if twice := sorted(_OF_DBT & declared.keys()):
            raise wrong(
                node,
                f"partitions.{twice[0]}: a microbatch model says it in dbt's words: remove it here"
                " and write batch_size, begin and lookback beside incremental_strategy",
            )
        said = {key: config.get(key) for key in ("batch_size", "begin", "lookback")}
        declared |= {key: value for key, value in said.items() if value is not None}
    elif stated is None:
        return None
    else:
        declared.setdefault("start_var", "partition_start")
        declared.setdefault("end_var", "partition_end")
    try:
        return PartitionConfig.model_validate(declared)
    except ValidationError as error:
        file = node.get("original_file_path", node.get("unique_id"))
        what = problems(error, PartitionConfig)
        raise ProjectError(f"{file}: partitions of {node.get('name')}: {what}") from None


def check_nodes(manifest: Mapping[str, Any], now: datetime) -> None:
    """Refuse a project whose nodes say something wrong to Dagster, all of them at once.

    Args:
        now: aware.

    Raises:
        ProjectError: names the file, the node and the key of each.
    """
    refused = []
    for node in (*manifest["nodes"].values(), *manifest["sources"].values()):
        try:
            _refuse_to_come(node, partition_config(node), now)
        except ProjectError as error:
            refused.append(str(error))
    if refused:
        raise ProjectError("; ".join(refused))


def _refuse_to_come(node: Mapping[str, Any], config: PartitionConfig | None, now: datetime) -> None:
    """What reads a model whose first partition is still to come would find no table."""
    if config and node["resource_type"] == "model" and config.first_window[0] > now:
        raise wrong(
            node,
            f"begin is {config.begin:%Y-%m-%d %H:%M}, which is still to come: until then there is"
            " nothing to build, and no table to read. Let it begin earlier, or disable the model",
        )


def partition_keys(config: PartitionConfig, now: datetime) -> Sequence[str]:
    """Every partition up to ``now`` (aware), oldest first, the running one included."""
    return config.definition.get_partition_keys(current_time=now)


def window(config: PartitionConfig, key: str) -> tuple[datetime, datetime]:
    """Start (inclusive) and end (exclusive) of a partition, in UTC."""
    time_window = config.definition.time_window_for_partition_key(key)
    return time_window.start.astimezone(UTC), time_window.end.astimezone(UTC)


def keys_in_range(config: PartitionConfig, first: str, last: str, now: datetime) -> Sequence[str]:
    """The partitions from ``first`` to ``last``, both included, oldest first.

    Raises:
        PartitionError: either is not a partition, or the range is empty.
    """
    keys = partition_keys(config, now)
    for key in (first, last):
        if key not in keys:
            raise PartitionError(f"there is no partition {key}: {_span(keys)}")
    chosen = keys[keys.index(first) : keys.index(last) + 1]
    if not chosen:
        raise PartitionError(f"the range {first} to {last} is empty: its end is before its start")
    return chosen


def keys_in_window(
    config: PartitionConfig, start: datetime, end: datetime, now: datetime
) -> Sequence[str]:
    """The partitions that overlap ``[start, end)``, oldest first."""
    return [
        key
        for key in partition_keys(config, now)
        if window(config, key)[0] < end and window(config, key)[1] > start
    ]


def newest(
    config: PartitionConfig, built: AbstractSet[str], now: datetime, lookback: int | None = None
) -> Sequence[str]:
    """What a build without chosen partitions does, oldest first.

    Never built: every partition, as dbt does on a first run. Else the newest one, ``lookback`` more
    before it, and whatever came after the newest built one, so that a pause leaves no gap.

    Args:
        built: partitions that were built before; keys that no longer exist are ignored.
        now: aware.
        lookback: overrides the model's own.
    """
    keys = partition_keys(config, now)
    known = [index for index, key in enumerate(keys) if key in built]
    if not known:
        return keys
    back = config.lookback if lookback is None else lookback
    return keys[min(max(len(keys) - 1 - back, 0), known[-1] + 1) :]


def _span(keys: Sequence[str]) -> str:
    return f"they go from {keys[0]} to {keys[-1]}" if keys else "there are none yet"
