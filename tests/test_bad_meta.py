"""Wrong `meta.dagster` in a dbt project, and what is said of each: where it is and what to do."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from dbt_orchestration.history.partitions import check_nodes
from dbt_orchestration.settings.project_meta import ProjectError

NOW = datetime(2024, 3, 10, 5, 30, tzinfo=UTC)
MICROBATCH = {
    "materialized": "incremental",
    "incremental_strategy": "microbatch",
    "batch_size": "day",
    "begin": "2024-01-01",
}
OPTED_IN = {"materialized": "incremental", "incremental_strategy": "delete+insert"}

META: list[tuple[dict[str, Any], Any, str]] = [
    # unknown keys
    (MICROBATCH, {"on_chnge": "ask"}, "on_chnge: there is no such key: did you mean on_change?"),
    (MICROBATCH, {"partition": {}}, "partition: there is no such key: did you mean partitions?"),
    (MICROBATCH, {"xyz": 1}, "xyz: there is no such key; there are: owners, group, asset_key, on_"),
    (
        MICROBATCH,
        {"partitions": {"ende": "2025-01-01"}},
        "partitions.ende: there is no such key: did you mean end?",
    ),
    (
        MICROBATCH,
        {"freshness": {"fail_after_hour": 5}},
        "freshness.fail_after_hour: there is no such key: did you mean fail_after_hours?",
    ),
    # other types
    (MICROBATCH, "daily", "write a mapping: `key: value`"),
    (MICROBATCH, ["daily"], "write a mapping: `key: value`"),
    (MICROBATCH, {"owners": 5}, "owners: write a list"),
    (MICROBATCH, {"owners": [5]}, "owners.0: write a text, in quotes if it looks like a number"),
    (MICROBATCH, {"owners": [""]}, "owners.0: String should have at least 1 character"),
    (MICROBATCH, {"owners": {"email": "a@example.com"}}, "owners: write a list"),
    (MICROBATCH, {"group": 2024}, "group: write a text, in quotes if it looks like a number"),
    (MICROBATCH, {"group": ["a"]}, "group: write a text"),
    (MICROBATCH, {"asset_key": 5}, "asset_key: write a list"),
    (MICROBATCH, {"on_change": "rebuld"}, "on_change: Input should be 'rebuild', 'ask' or 'forw"),
    (MICROBATCH, {"on_change": ["ask"]}, "on_change: Input should be 'rebuild', 'ask' or 'forwar"),
    (MICROBATCH, {"ref": "orders"}, "ref: write a mapping: `key: value`"),
    # partitions
    *(
        (MICROBATCH, {"partitions": wrong}, "partitions: write a mapping: `key: value`")
        for wrong in ("day", ["day"], [], True, False, 5)
    ),
    (MICROBATCH, {"partitions": {"chunk": 0}}, "partitions.chunk: Input should be greater than or"),
    (
        MICROBATCH,
        {"partitions": {"chunk": 10**9}},
        "chunk: Input should be less than or equal to 1",
    ),
    (MICROBATCH, {"partitions": {"chunk": True}}, "chunk: Input should be a valid integer"),
    (
        MICROBATCH,
        {"partitions": {"mergeable": "often"}},
        "mergeable: Input should be a valid boolean",
    ),
    (
        MICROBATCH,
        {"partitions": {"end": "soon"}},
        "end: 'soon' is no date: write it as '2024-01-31'",
    ),
    (
        MICROBATCH,
        {"partitions": {"end": 2025}},
        "partitions.end: 2025 is no date: write it as '2024",
    ),
    (
        MICROBATCH,
        {"partitions": {"end": "2024-01-01"}},
        "partitions of m: end: there is no partition before it: begin is 2024-01-01 00:00:00",
    ),
    *(
        (MICROBATCH, {"partitions": {key: value}}, f"partitions.{key}: a microbatch model says it")
        for key, value in {
            "batch_size": "day",
            "begin": "2024-01-01",
            "lookback": 2,
            "start_var": "a",
            "end_var": "b",
        }.items()
    ),
    (OPTED_IN, {"partitions": {}}, "partitions of m: batch_size: is required; begin: is required"),
    (
        OPTED_IN,
        {"partitions": {"batch_size": "week"}},
        "batch_size: Input should be 'hour', 'day',",
    ),
    (
        OPTED_IN,
        {"partitions": {"batch_size": "day", "begin": 20240101}},
        "partitions.begin: 20240101 is no date: write it as '2024-01-31' or '2024-01-31T13:00'",
    ),
    (
        OPTED_IN,
        {"partitions": {"batch_size": "day", "begin": "2024-01-01", "lookback": -1}},
        "partitions.lookback: Input should be greater than or equal to 0",
    ),
    (
        OPTED_IN,
        {"partitions": {"batch_size": "day", "begin": "2024-02-01", "end": "2024-01-01"}},
        "end: there is no partition before it: begin is 2024-02-01 00:00:00",
    ),
    (
        OPTED_IN,
        {"partitions": {"batch_size": "day", "begin": "2031-01-01"}},
        "begin is 2031-01-01 00:00, which is still to come: until then there is nothing to build,"
        " and no table to read. Let it begin earlier, or disable the model",
    ),
    *(
        (
            {"materialized": kind},
            {"partitions": {"batch_size": "day", "begin": "2024-01-01"}},
            f" {kind} has none: remove it, or make it incremental",
        )
        for kind in ("table", "view", "ephemeral")
    ),
    # dbt's own config
    (MICROBATCH | {"begin": "2031-01-01"}, {}, "begin is 2031-01-01 00:00, which is still to come"),
    (MICROBATCH | {"begin": "soon"}, {}, "partitions of m: begin: 'soon' is no date: write it as"),
    (MICROBATCH | {"begin": None}, {}, "partitions of m: begin: is required"),
    (
        MICROBATCH | {"batch_size": "week"},
        {},
        "partitions of m: batch_size: Input should be 'hour'",
    ),
    (MICROBATCH | {"lookback": -1}, {}, "lookback: Input should be greater than or equal to 0"),
    # freshness
    *(
        (MICROBATCH, {"freshness": wrong}, "freshness: write a mapping: `key: value`")
        for wrong in ("daily", 24, ["daily"])
    ),
    *(
        (
            MICROBATCH,
            {"freshness": wrong},
            "freshness: write deadline_cron and lower_bound_delta_ho",
        )
        for wrong in (
            {},
            {"deadline_cron": "0 9 * * *"},
            {"lower_bound_delta_hours": 24},
            {"warn_after_hours": 24},
            {"fail_after_hours": 24, "timezone": "UTC"},
            {"deadline_cron": "0 9 * * *", "lower_bound_delta_hours": 24, "fail_after_hours": 24},
        )
    ),
    *(
        (
            MICROBATCH,
            {"freshness": {"fail_after_hours": hours}},
            f"freshness.fail_after_hours: Input should be {what}",
        )
        for hours, what in {
            -1: "greater than 0",
            0: "greater than 0",
            10**30: "less than or equal to 100000",
            "many": "a valid number",
        }.items()
    ),
    (
        MICROBATCH,
        {"freshness": {"fail_after_hours": 1, "warn_after_hours": 2}},
        "freshness: warn_window must be less than fail_window",
    ),
    (
        MICROBATCH,
        {"freshness": {"deadline_cron": "9 Uhr", "lower_bound_delta_hours": 24}},
        "freshness.deadline_cron: '9 Uhr' is not a cron expression, for example '0 8 * * *'",
    ),
    (
        MICROBATCH,
        {"freshness": {"deadline_cron": "0 9 * * *", "lower_bound_delta_hours": 48}},
        "freshness: lower_bound_delta must be less than or equal to the smallest cron interval",
    ),
    (
        MICROBATCH,
        {
            "freshness": {
                "deadline_cron": "0 9 * * *",
                "lower_bound_delta_hours": 24,
                "timezone": "Seoul",
            }
        },
        "freshness.timezone: 'Seoul' is not an IANA time zone, for example 'Asia/Seoul'",
    ),
]


def model(config: dict[str, Any], meta: Any) -> dict[str, Any]:
    return {
        "unique_id": "model.p.m",
        "resource_type": "model",
        "name": "m",
        "original_file_path": "models/m.sql",
        "config": {**config, "meta": {"dagster": meta}},
    }


def check(*nodes: dict[str, Any]) -> None:
    check_nodes({"nodes": {str(n): node for n, node in enumerate(nodes)}, "sources": {}}, NOW)


@pytest.mark.parametrize(("config", "meta", "message"), META)
def test_a_wrong_meta_dagster(config: dict[str, Any], meta: Any, message: str) -> None:
    with pytest.raises(ProjectError) as error:
        check(model(config, meta))
    said = str(error.value)
    assert said.startswith("models/m.sql: ")
    assert " of m: " in said
    assert message in said


@pytest.mark.parametrize(
    ("config", "meta"),
    [
        (MICROBATCH, None),
        (MICROBATCH, {}),
        (MICROBATCH, {"partitions": None, "freshness": None}),
        (MICROBATCH, {"partitions": {"end": "20240201", "chunk": 7, "mergeable": True}}),
        (MICROBATCH | {"begin": "20240101", "lookback": 0}, {}),
        (MICROBATCH | {"begin": "2024-06-01", "batch_size": "year"}, {}),
        (OPTED_IN, {"partitions": {"batch_size": "day", "begin": date(2024, 1, 1), "lookback": 0}}),
        ({"materialized": "table"}, {"owners": "ann@example.com", "group": "g", "asset_key": "a"}),
        ({"materialized": "table"}, {"asset_key": ["a", "b"], "on_change": "ask"}),
        ({"materialized": "table"}, {"has_self_dependency": True, "freshness_check": {"a": 1}}),
        ({"materialized": "table"}, {"auto_materialize_policy": {"type": "eager"}}),
        ({"materialized": "view"}, {"freshness": {"fail_after_hours": 0.5}}),
        ({"materialized": "test"}, {"ref": {"name": "orders", "version": 2}}),
    ],
)
def test_a_right_meta_dagster(config: dict[str, Any], meta: Any) -> None:
    check(model(config, meta))


def test_everything_that_is_wrong_is_said_at_once() -> None:
    a, b = (model(MICROBATCH, {"grp": "a"}) | {"name": name} for name in "ab")
    with pytest.raises(ProjectError, match=r"of a: grp: .* mean group.; .* of b: grp: .* mean"):
        check(a, b)
