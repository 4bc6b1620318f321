"""Partitions read from dbt's config: what exists, what a build takes, what is refused."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dbt_orchestration.history.partitions import (
    PartitionConfig,
    PartitionError,
    keys_in_range,
    keys_in_window,
    newest,
    partition_config,
    partition_keys,
    window,
)

NOW = datetime(2024, 3, 10, 5, 30, tzinfo=UTC)


def node(strategy: str | None = "microbatch", partitions: Any = None, **config: Any) -> Any:
    meta = {"meta": {"dagster": {"partitions": partitions}}} if partitions else {}
    return {
        "resource_type": "model",
        "name": "m",
        "original_file_path": "models/m.sql",
        "config": {
            "materialized": "incremental",
            "incremental_strategy": strategy,
            **config,
            **meta,
        },
    }


def configured(**config: Any) -> PartitionConfig:
    found = partition_config(node(**config))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("size", "begin", "first", "last", "count"),
    [
        ("hour", "2024-03-09 22:00:00", "2024-03-09-22:00", "2024-03-10-05:00", 8),
        ("day", "2024-03-01", "2024-03-01", "2024-03-10", 10),
        ("month", "2023-12-01", "2023-12-01", "2024-03-01", 4),
        ("year", "2020-01-01", "2020", "2024", 5),
        # dbt truncates a begin that lies within a batch
        ("month", "2023-12-15", "2023-12-01", "2024-03-01", 4),
        ("day", "2024-03-09 13:00:00", "2024-03-09", "2024-03-10", 2),
    ],
)
def test_the_running_batch_is_a_partition(
    size: str, begin: str, first: str, last: str, count: int
) -> None:
    keys = partition_keys(configured(batch_size=size, begin=begin), NOW)
    assert (keys[0], keys[-1], len(keys)) == (first, last, count)


@pytest.mark.parametrize(
    ("size", "end", "last"),
    [
        ("day", "2024-01-05", "2024-01-04"),
        ("month", "2024-03-01", "2024-02-01"),
        ("month", "2024-02-10", "2024-02-01"),
        ("year", "2024-01-01", "2023"),
        ("hour", "2024-01-01 05:30:00", "2024-01-01-05:00"),
    ],
)
def test_no_partition_starts_at_the_end_or_later(size: str, end: str, last: str) -> None:
    config = configured(batch_size=size, begin="2023-01-01", partitions={"end": end})
    assert partition_keys(config, NOW)[-1] == last


def test_an_end_in_the_future_adds_nothing() -> None:
    config = configured(batch_size="day", begin="2024-03-08", partitions={"end": "2030-01-01"})
    assert partition_keys(config, NOW) == ["2024-03-08", "2024-03-09", "2024-03-10"]


def test_windows_are_utc_and_end_exclusive_also_across_daylight_saving() -> None:
    # 10 March 2024: clocks go forward in New York. In UTC the day still has 24 hours.
    config = configured(batch_size="day", begin="2024-03-01")
    assert window(config, "2024-03-10") == (
        datetime(2024, 3, 10, tzinfo=UTC),
        datetime(2024, 3, 11, tzinfo=UTC),
    )


def test_months_have_their_own_lengths() -> None:
    config = configured(batch_size="month", begin="2024-01-01")
    assert window(config, "2024-02-01") == (
        datetime(2024, 2, 1, tzinfo=UTC),
        datetime(2024, 3, 1, tzinfo=UTC),
    )


@pytest.mark.parametrize(
    ("built", "lookback", "expected"),
    [
        (set(), None, ["03-06", "03-07", "03-08", "03-09", "03-10"]),
        ({"03-10"}, None, ["03-09", "03-10"]),
        ({"03-09"}, 0, ["03-10"]),
        ({"03-10"}, 0, ["03-10"]),
        ({"03-09"}, 3, ["03-07", "03-08", "03-09", "03-10"]),
        ({"03-06"}, 0, ["03-07", "03-08", "03-09", "03-10"]),
        ({"01-01"}, 0, ["03-06", "03-07", "03-08", "03-09", "03-10"]),
        ({"03-10"}, 99, ["03-06", "03-07", "03-08", "03-09", "03-10"]),
    ],
)
def test_newest_leaves_no_gap_after_a_pause(
    built: set[str], lookback: int | None, expected: list[str]
) -> None:
    config = configured(batch_size="day", begin="2024-03-06", lookback=1)
    found = newest(config, {f"2024-{day}" for day in built}, NOW, lookback)
    assert found == [f"2024-{day}" for day in expected]


def test_a_range_includes_both_its_ends() -> None:
    config = configured(batch_size="day", begin="2024-03-01")
    assert keys_in_range(config, "2024-03-02", "2024-03-03", NOW) == ["2024-03-02", "2024-03-03"]


@pytest.mark.parametrize(
    ("first", "last", "message"),
    [
        ("2024-02-29", "2024-03-03", "no partition 2024-02-29: they go from 2024-03-01 to 2024-0"),
        ("2024-03-02", "2024-03-11", "no partition 2024-03-11"),
        ("2024-03-03", "2024-03-02", "is empty"),
        ("yesterday", "2024-03-02", "no partition yesterday"),
    ],
)
def test_a_range_that_cannot_be_is_refused(first: str, last: str, message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        keys_in_range(configured(batch_size="day", begin="2024-03-01"), first, last, NOW)


def test_a_window_of_days_finds_the_months_it_touches() -> None:
    config = configured(batch_size="month", begin="2024-01-01")
    start, end = datetime(2024, 1, 31, tzinfo=UTC), datetime(2024, 2, 1, tzinfo=UTC)
    assert keys_in_window(config, start, end, NOW) == ["2024-01-01"]


def test_an_incremental_model_opts_in_with_vars() -> None:
    opted_in = partition_config(
        node("delete+insert", {"batch_size": "day", "begin": "2024-01-01", "end_var": "until"})
    )
    assert opted_in is not None
    assert (opted_in.is_microbatch, opted_in.start_var, opted_in.end_var) == (
        False,
        "partition_start",
        "until",
    )


@pytest.mark.parametrize(
    "unpartitioned",
    [
        node("merge"),
        {**node(), "resource_type": "snapshot"},
        {**node(), "config": {"materialized": "table"}},
        {"resource_type": "seed", "config": None},
    ],
)
def test_everything_else_has_no_partitions(unpartitioned: Any) -> None:
    assert partition_config(unpartitioned) is None
