"""Events of dbt that belong to one result, put together."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from dbt.adapters.events.types import AdapterEventDebug, SQLQuery, SQLQueryStatus
from dbt.events.types import LogModelResult, NodeFinished, NodeStart
from dbt_common.events.base_types import BaseEvent, msg_from_base_event

from dbt_orchestration.dbt.outcomes import Outcomes

INFO = {"unique_id": "model.shop.orders", "node_status": "error"}


def started() -> BaseEvent:
    return NodeStart(node_info=INFO)


def sent(sql: str) -> BaseEvent:
    return SQLQuery(conn_name="", sql=sql, node_info=INFO)


def answered() -> BaseEvent:
    return SQLQueryStatus(status="OK", elapsed=1.0, node_info=INFO)


def debug(text: str) -> BaseEvent:
    return AdapterEventDebug(name="Snowflake", base_msg=text, args=[], node_info=INFO)


def result() -> BaseEvent:
    return LogModelResult(description="orders", status="ERROR", node_info=INFO)


def finished(message: str, **response: object) -> BaseEvent:
    outcome = {"status": "error", "message": message, "adapter_response": response}
    return NodeFinished(node_info=INFO, run_result=outcome)


def seen(*events: BaseEvent, end: bool = True) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    outcomes = Outcomes(lambda event: found.append(event["data"]["outcome"]))
    for event in events:
        outcomes.see(msg_from_base_event(event))
    if end:
        outcomes.end()
    return found


def test_a_result_has_what_its_end_says() -> None:
    [outcome] = seen(started(), result(), finished("no such table", rows_affected=3))
    assert outcome["message"] == "no such table"
    assert outcome["adapter_response"] == {"rows_affected": 3}


@pytest.mark.parametrize(
    ("queries", "statement"),
    [
        ([sent("a"), answered(), sent("b")], "b"),
        # What the adapter puts right after a failure, and what it sent before and got over.
        ([sent("a"), sent("b"), sent("use warehouse x"), answered()], "b"),
        ([sent("a"), answered()], ""),
    ],
)
def test_the_statement_that_failed_is_that_without_an_answer(
    queries: list[BaseEvent], statement: str
) -> None:
    [outcome] = seen(sent("of the node before"), started(), *queries, result(), finished("no"))
    assert outcome["statement"] == statement


@pytest.mark.parametrize(("said", "query_id"), [("01b7-00", "01b7-00"), ("None", "")])
def test_snowflake_says_which_query_failed(said: str, query_id: str) -> None:
    [outcome] = seen(started(), debug(f"Snowflake query id: {said}"), result(), finished("no"))
    assert outcome["query_id"] == query_id


def test_a_result_without_an_end_is_handed_over_when_dbt_ends() -> None:
    assert seen(started(), result(), end=False) == []
    assert len(seen(started(), result())) == 1


def test_threads_are_kept_apart() -> None:
    found: list[dict[str, Any]] = []
    outcomes = Outcomes(lambda event: found.append(event["data"]["outcome"]))
    outcomes.see(msg_from_base_event(sent("mine")))
    other = threading.Thread(target=lambda: outcomes.see(msg_from_base_event(sent("theirs"))))
    other.start()
    other.join()
    outcomes.see(msg_from_base_event(result()))
    outcomes.see(msg_from_base_event(finished("no")))
    assert [outcome["statement"] for outcome in found] == ["mine"]
