"""What a run takes, from its tags and what was built before."""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from typing import Any

import pytest

from dbt_orchestration.history.partitions import PartitionConfig, PartitionError
from dbt_orchestration.history.request import (
    Partitions,
    Request,
    partitions_to_build,
    resumes,
    window_vars,
)

NOW = datetime(2024, 1, 10, 12, tzinfo=UTC)
RANGE = ("dagster/asset_partition_range_start", "dagster/asset_partition_range_end")


def model(size: str = "day", begin: str = "2024-01-01", **more: Any) -> PartitionConfig:
    return PartitionConfig.model_validate({"batch_size": size, "begin": begin, **more})


def request(*chosen: str, full_refresh: bool = False, now: datetime = NOW) -> Request:
    return Request(dict(zip(RANGE, chosen, strict=False)), full_refresh, None, now)


def built(*keys: str) -> Any:
    def look(name: str) -> AbstractSet[str]:
        return set(keys)

    return look


def test_a_resumed_full_refresh_keeps_what_landed() -> None:
    every = [f"2024-01-{day:02}" for day in range(1, 11)]
    found = partitions_to_build(
        request(full_refresh=True), {"m": model()}, built(), {"m": set(every) - {"2024-01-05"}}
    )
    assert found == {"m": Partitions(["2024-01-05"], [day for day in every if day != "2024-01-05"])}


def test_a_resumed_run_whose_partitions_all_landed_builds_them_again() -> None:
    found = partitions_to_build(
        request("2024-01-02", "2024-01-03"),
        {"m": model()},
        built(),
        {"m": {"2024-01-02", "2024-01-03"}},
    )
    assert found == {"m": Partitions(["2024-01-02", "2024-01-03"])}


def test_a_model_whose_begin_is_to_come_is_left_out() -> None:
    models = {"now": model(), "later": model(begin="2030-01-01")}
    assert partitions_to_build(request(), models, built("2024-01-10"), {}).keys() == {"now"}


def test_a_full_refresh_of_some_partitions_is_refused_unless_the_model_is_meant_for_it() -> None:
    some = request("2024-01-02", "2024-01-03", full_refresh=True)
    with pytest.raises(PartitionError, match="would drop all 10 partitions of m, and 2 of them"):
        partitions_to_build(some, {"m": model()}, built(), {})
    meant = {"m": model(partial_full_refresh=True)}
    assert partitions_to_build(some, meant, built(), {})["m"].keys == ["2024-01-02", "2024-01-03"]


def test_models_that_read_vars_share_one_window() -> None:
    models = {
        "a": model(start_var="since", end_var="until"),
        "b": model("month", "2023-12-01", start_var="since", end_var="until"),
        "c": model(),
    }
    partitions = {
        "a": Partitions(["2024-01-09", "2024-01-10"]),
        "b": Partitions(["2023-12-01"]),
        "c": Partitions(["2024-01-01"]),
    }
    assert window_vars(models, partitions) == {
        "since": "2023-12-01T00:00:00",
        "until": "2024-01-11T00:00:00",
    }


@pytest.mark.parametrize(
    ("tags", "parent"),
    [
        ({"dagster/parent_run_id": "p", "dagster/is_asset_resume_retry": "true"}, "p"),
        ({"dagster/parent_run_id": "p", "dagster/is_resume_retry": "true"}, "p"),
        ({"dagster/parent_run_id": "p"}, None),  # re-executed as a whole
        ({}, None),
    ],
)
def test_only_a_retry_from_failure_goes_on_from_its_parent(
    tags: dict[str, str], parent: str | None
) -> None:
    assert resumes(tags) == parent
