"""How a run's partitions become batches, phases, and what a person asked for."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from dbt_orchestration.history.batches import batches, reads_itself
from dbt_orchestration.history.late import reloaded_since
from dbt_orchestration.history.partitions import PartitionConfig, PartitionError, partition_keys
from dbt_orchestration.history.phases import Phase, descendants, phases
from dbt_orchestration.history.rebuild import Wanted, rebuild
from dbt_orchestration.history.request import keys_of, ranges_of

NOW = datetime(2024, 1, 10, 12, tzinfo=UTC)


def model(size: str = "day", begin: str = "2024-01-01", **more: Any) -> PartitionConfig:
    return PartitionConfig.model_validate({"batch_size": size, "begin": begin, **more})


def day(number: int) -> str:
    return f"2024-01-{number:02}"


def cut(config: PartitionConfig, keys: list[str], **how: bool) -> list[list[str]]:
    how = {"mergeable": True, "in_order": False, **how}
    return [list(batch) for batch in batches(config, keys, **how)]


def test_the_newest_neighbours_go_first_and_together() -> None:
    keys = [day(n) for n in (1, 2, 3, 5, 6, 7, 8)]
    assert cut(model(chunk=3), keys) == [
        [day(6), day(7), day(8)],
        [day(5)],
        [day(1), day(2), day(3)],
    ]


def test_what_must_not_go_together_goes_one_by_one() -> None:
    keys = [day(n) for n in (1, 2, 3)]
    assert cut(model(), keys, mergeable=False) == [[day(3)], [day(2)], [day(1)]]
    assert cut(model(), keys, in_order=True) == [[day(1)], [day(2)], [day(3)]]


@pytest.mark.parametrize(
    ("size", "keys", "most"), [("hour", 227, 168), ("day", 10, 30), ("month", 1, 12)]
)
def test_a_batch_has_a_size_of_its_own(size: str, keys: int, most: int) -> None:
    config = model(size)
    every = list(partition_keys(config, NOW))
    every = every[:keys]
    found = cut(config, every)
    assert [len(batch) for batch in found] == [min(most, keys), *([keys - most] * (keys > most))]
    assert sorted(key for batch in found for key in batch) == every


@pytest.mark.parametrize(
    ("begin", "end"),
    [("2024-03-10", "2024-03-11"), ("2024-03-31", "2024-04-01"), ("2024-11-03", "2024-11-04")],
)
def test_days_on_which_clocks_change_have_24_hours(begin: str, end: str) -> None:
    config = model("hour", begin, end=end)
    keys = list(partition_keys(config, datetime(2025, 1, 1, tzinfo=UTC)))
    assert len(keys) == 24
    assert cut(config, keys) == [keys]


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("select * from {{ this }}", True),
        ("{% if is_incremental() %} where true {% endif %}", True),
        ("select 'this' as this from {{ ref('a') }}", False),
        ("{# {{ this }} #} select 1", False),
    ],
)
def test_a_model_that_looks_at_its_own_table_is_built_in_order(code: str, expected: bool) -> None:
    assert reads_itself(code) is expected


def test_partitions_are_said_in_ranges() -> None:
    config = model()
    keys = {day(n) for n in (1, 2, 3, 7, 9, 10)}
    said = ranges_of(config, keys, NOW)
    assert said == [f"{day(1)}..{day(3)}", day(7), f"{day(9)}..{day(10)}"]
    assert set(keys_of(config, said, NOW)) == keys
    with pytest.raises(PartitionError, match="there is no partition 2024-02-01"):
        keys_of(config, ["2024-01-01..2024-02-01"], NOW)


def manifest(**parents: str) -> dict[str, Any]:
    """Nodes by name, each with the names of its parents; a name in capitals is incremental."""
    nodes: dict[str, Any] = {}
    for name, above in parents.items():
        kind = "snapshot" if name.startswith("snap") else "model"
        config: dict[str, Any] = {"materialized": "table", "full_refresh": None}
        if name.isupper():
            config |= {
                "materialized": "incremental",
                "incremental_strategy": "microbatch",
                "batch_size": "month" if name == "MONTHS" else "day",
                "begin": "2024-01-01",
            }
        if name == "merged":
            config |= {"materialized": "incremental", "incremental_strategy": "merge"}
        nodes[name] = {
            "unique_id": name,
            "name": name.lower(),
            "resource_type": kind,
            "config": config,
            "depends_on": {"nodes": above.split()},
        }
    children: dict[str, list[str]] = {name: [] for name in nodes}
    for name, above in parents.items():
        for parent in above.split():
            children[parent].append(name)
    parent_map = {name: above.split() for name, above in parents.items()}
    return {"nodes": nodes, "unit_tests": {}, "child_map": children, "parent_map": parent_map}


CHAIN = manifest(
    a="", DAYS="a", view="DAYS", MONTHS="DAYS", snap="a", merged="view", end="MONTHS view"
)


def test_what_reads_a_table_that_is_made_anew_comes_after_it() -> None:
    every = {"a", "DAYS", "MONTHS", "end"}
    assert phases(CHAIN, every, (), ()) == [Phase(every)]
    assert phases(CHAIN, every, (), {"DAYS", "MONTHS"}) == [
        Phase({"a", "DAYS"}, set(), {"DAYS"}),
        Phase({"MONTHS"}, set(), {"MONTHS"}),
        Phase({"end"}),
    ]
    # also through what is not built
    assert phases(CHAIN, {"DAYS", "merged"}, (), {"DAYS"}) == [
        Phase({"DAYS"}, set(), {"DAYS"}),
        Phase({"merged"}),
    ]


def test_a_test_runs_before_the_table_that_it_tests_is_exchanged() -> None:
    tested = manifest(DAYS="", end="DAYS", on_days="DAYS", on_both="DAYS end")
    assert phases(tested, {"DAYS", "end"}, {"on_days", "on_both"}, {"DAYS"}) == [
        Phase({"DAYS"}, {"on_days"}, {"DAYS"}),
        Phase({"end"}, {"on_both"}),
    ]


def test_descendants_are_all_that_read_it() -> None:
    assert descendants(CHAIN, ["DAYS"]) == {"view", "MONTHS", "merged", "end"}


def test_a_rebuild_takes_the_partitions_that_read_the_range() -> None:
    found = rebuild(CHAIN, Wanted("days", "2024-01-03", "2024-01-05"), NOW)
    assert found.nodes == ["DAYS", "MONTHS", "view", "end", "merged"]
    assert found.partitions == {"DAYS": [day(3), day(4), day(5)], "MONTHS": ["2024-01-01"]}
    assert found.rebuilt == []
    assert found.notes == [
        "merged is incremental without partitions: only new rows are added to it. full_refresh"
        " recreates it."
    ]
    assert found.command == (
        "dbt build --select days+ --event-time-start 2024-01-03 --event-time-end 2024-01-06"
    )


def test_a_rebuild_from_nothing_makes_all_incremental_tables_anew() -> None:
    found = rebuild(CHAIN, Wanted("days", full_refresh=True), NOW)
    assert found.rebuilt == ["DAYS", "MONTHS", "merged"]
    assert found.partitions == {}
    assert found.command == "dbt build --select days+ --full-refresh"


def test_a_snapshot_is_never_rebuilt() -> None:
    with pytest.raises(PartitionError, match="snap is a snapshot: what its source was like"):
        rebuild(CHAIN, Wanted("snap"), NOW)
    found = rebuild(CHAIN, Wanted("a"), NOW)
    assert "snap is a snapshot: it keeps its history, and is added to." in found.notes


@pytest.mark.parametrize("until", ["2024-01-03", "20240103", "2024-W01-3", "2024-01-03T23:59"])
def test_a_date_is_the_whole_day_in_whatever_form(until: str) -> None:
    hours = {"HOURS": CHAIN["nodes"]["DAYS"] | {"unique_id": "HOURS", "name": "hours"}}
    hours["HOURS"]["config"] = hours["HOURS"]["config"] | {"batch_size": "hour"}
    every = {"nodes": hours, "unit_tests": {}, "child_map": {}, "parent_map": {"HOURS": []}}
    found = rebuild(every, Wanted("hours", "2024-01-03", until), NOW).partitions["HOURS"]
    assert (found[0], found[-1], len(found)) == ("2024-01-03-00:00", "2024-01-03-23:00", 24)


@pytest.mark.parametrize(
    ("since", "until", "message"),
    [
        ("2030-01-01", "", "since: 2030-01-01 is not within the partitions of days, which go from"),
        ("2024-02-01", "", "since: 2024-02-01 is not within .* 2024-01-01 to 2024-01-"),
        ("2023-12-31", "", "since: 2023-12-31 is not within"),
        ("", "2030-01-01", "until: 2030-01-01 is not within"),
        ("", "9999-12-31", "until: 9999-12-31 is not within"),
        ("", "2023-12-31", "until: 2023-12-31 is not within"),
        ("2024-01-05", "2024-01-03", "until 2024-01-03 is before since 2024-01-05: exchange them"),
        ("2030-01-05", "2030-01-03", "until 2030-01-03 is before since 2030-01-05: exchange them"),
        ("soon", "", "since: 'soon' is no date: write it as '2024-01-31' or '2024-01-31T13:00'"),
        ("", "0001-01-01T00:00+09:00", "until: '0001-01-01T00:00.09:00' is no date"),
    ],
)
def test_a_range_that_does_not_fit_names_the_field(since: str, until: str, message: str) -> None:
    with pytest.raises(PartitionError, match=message):
        rebuild(CHAIN, Wanted("days", since, until), NOW)


def test_a_moment_in_another_zone_is_that_moment() -> None:
    found = rebuild(CHAIN, Wanted("days", "2024-01-03T00:00+09:00", "2024-01-03"), NOW)
    assert found.partitions["DAYS"] == [day(2), day(3)]


def test_what_was_loaded_again_makes_due_what_reads_it() -> None:
    built = {day(1): 10, day(2): 11, day(3): 30}
    months = model("month")
    assert reloaded_since(model(), built, [(model(), {day(1): 9, day(2): 20, day(3): 20})]) == {
        day(2)
    }
    assert reloaded_since(model(), built, [(months, {"2024-01-01": 20})]) == {day(1), day(2)}
    assert reloaded_since(model(), {}, [(months, {"2024-01-01": 20})]) == set()
