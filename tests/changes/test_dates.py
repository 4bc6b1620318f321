"""Dates are compared as moments, however they are written."""

from __future__ import annotations

from typing import Any

import pytest

from dbt_orchestration.changes.actions import (
    PARTITIONS_ADDED,
    PARTITIONS_REMOVED,
    partition_changes,
)


def node(begin: str, end: str | None = None) -> dict[str, Any]:
    return {
        "config": {
            "materialized": "incremental",
            "incremental_strategy": "microbatch",
            "batch_size": "day",
            "begin": begin,
            "meta": {"dagster": {"partitions": {"end": end} if end else {}}},
        }
    }


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (("2024-01-01",), ("2024-01-01",), ()),
        (("2024-02-01",), ("20240101",), PARTITIONS_ADDED),
        (("20240201",), ("2024-01-01T00:00",), PARTITIONS_ADDED),
        (("2024-01-01",), ("20240201",), PARTITIONS_REMOVED),
        # the later one, and before the other in the order of the text
        (("2024-W20-1",), ("2024-06-01",), PARTITIONS_REMOVED),
        (("2024-01-01T01:00",), ("2024-01-01 23:00",), PARTITIONS_REMOVED),
        (("2024-01-01T00:00+09:00",), ("2024-01-01T00:00-05:00",), PARTITIONS_REMOVED),
        (("2024-01-01T00:00-05:00",), ("2024-01-01T00:00+09:00",), PARTITIONS_ADDED),
        (("2024-01-01", "2024-06-01"), ("2024-01-01", "20240701"), PARTITIONS_ADDED),
        (("2024-01-01", "20240701"), ("2024-01-01", "2024-06-01"), PARTITIONS_REMOVED),
        (("2024-01-01", "20240701"), ("2024-01-01",), PARTITIONS_ADDED),
        (("2024-01-01",), ("2024-01-01", "20240701"), PARTITIONS_REMOVED),
        # nothing is known of it
        (("2024-01-01",), ("soon",), PARTITIONS_REMOVED),
    ],
)
def test_partitions_are_added_or_removed(
    old: tuple[str, ...], new: tuple[str, ...], expected: Any
) -> None:
    assert partition_changes(node(*old), node(*new)) == ((expected,) if expected else ())
