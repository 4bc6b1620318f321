"""``make up`` as a person has it: the real webserver and daemon, driven through GraphQL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
import requests

from dbt_orchestration.ledger.attempts import RETRY_TAGS
from tests.conftest import EVERY_NODE
from tests.e2e.running import FINISHED, Up, free_port, materialized, until

_RATES = "create schema raw; create table raw.rates as select 2 as rate, now() as loaded_at"
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

_RUNS = "query { runsOrError { ... on Runs { results { runId status rootRunId } } } }"
_LAUNCHES = "mutation { reloadWorkspace { __typename } }"
_TERMINATE = """mutation($id: String!) { terminateRun(runId: $id) { __typename } }"""
_SCHEDULES = """query { repositoryOrError(repositorySelector:
    {repositoryLocationName: "prod", repositoryName: "__repository__"}) { ... on Repository {
    schedules { name scheduleState { status } } } } }"""
_BACKFILL = """mutation($params: LaunchBackfillParams!) {
    launchPartitionBackfill(backfillParams: $params) { __typename
        ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
_BACKFILL_STATUS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) {
    ... on PartitionBackfill { status error { message } } } }"""
_SCHEDULE = """mutation($name: String!) { startSchedule(scheduleSelector: {scheduleName: $name,
    repositoryLocationName: "prod", repositoryName: "__repository__"}) {
    ... on ScheduleStateResult { scheduleState { id } } } }"""
_STOP_SCHEDULE = """mutation($id: String!) { stopRunningSchedule(id: $id) { __typename } }"""


@pytest.fixture(scope="module")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    home = tmp_path_factory.mktemp("up")
    # A project whose profile says itself where its warehouse is.
    project = home / "project"
    shutil.copytree(EVERY_NODE, project)
    profiles = project / "profiles.yml"
    path = "{{ env_var('DBT_DUCKDB_PATH', 'warehouse.duckdb') }}"
    profiles.write_text(profiles.read_text().replace(path, str(home / "state" / "mine.duckdb")))
    running = Up(home / "state", free_port(), file="mine.duckdb")
    running.variables = {**running.variables, "DBT_ORCHESTRATION_PROJECT_DIR": str(project)}
    running.state.mkdir()
    running.rows(_RATES)
    running.start()
    running.first_built()
    yield running
    running.stop()


def test_the_first_start_builds_the_warehouse(up: Up) -> None:
    assert f"http://localhost:{up.port}" in up.output()
    assert up.rows("select amount from main.report") == [(150,)]


def test_the_schedule_runs_in_prod(up: Up) -> None:
    schedules = {s["name"]: s["scheduleState"]["status"] for s in up.query(_SCHEDULES)["schedules"]}
    assert schedules == {
        "prod_full_build_schedule": "RUNNING",
        "prod_every_minute_schedule": "STOPPED",
    }


def test_a_person_materializes_a_partition(up: Up) -> None:
    run = up.finished(up.launch("orders_daily", tags={"dagster/partition": "2024-01-02"}))
    assert run["status"] == "SUCCESS"
    assert materialized(run) == [("orders_daily", "2024-01-02")]


def test_a_person_materializes_two_models_and_the_runs_wait_for_each_other(up: Up) -> None:
    up.rows("drop table main.merged")
    runs = [up.finished(run_id) for run_id in (up.launch("merged"), up.launch("rated"))]
    assert [run["status"] for run in runs] == ["SUCCESS", "SUCCESS"]
    assert [materialized(run) for run in runs] == [[("merged", None)], [("rated", None)]]
    assert up.rows("select count(*) from main.merged") == [(6,)]
    first, second = sorted(runs, key=lambda run: run["stats"]["startTime"])
    assert second["stats"]["startTime"] >= first["stats"]["endTime"]


def test_a_failed_build_retries_once_and_only_what_failed(up: Up) -> None:
    config = {"vars": {"broken_day": "2024-01-03"}, "full_refresh": True}
    # the schedule adds the job's tags, and so does the Launchpad; the API itself does not
    root = up.launch(job="prod_full_build", config=config, tags=RETRY_TAGS)
    up.finished(root)

    def retry() -> Any:
        for run in up.query(_RUNS)["results"]:
            if run["rootRunId"] == root and run["runId"] != root and run["status"] in FINISHED:
                return up.run(run["runId"])
        return None

    retried = until(retry)
    failed = {path["path"][-1] for path in retried["assetSelection"]}
    assert failed == {"orders_daily", "orders_monthly", "report"}
    assert retried["parentRunId"] == root
    assert materialized(retried) == []
    # once: the retry failed too, and nothing follows
    family = [run for run in up.query(_RUNS)["results"] if root in (run["runId"], run["rootRunId"])]
    assert [run["status"] for run in family] == ["FAILURE", "FAILURE"]


def test_everything_can_be_backfilled_at_once(up: Up) -> None:
    """Materialize all: hourly, daily, monthly and unpartitioned assets in one backfill."""
    names = ("orders_hourly", "orders_daily", "orders_monthly", "report")
    params = {
        "allPartitions": True,
        "assetSelection": [{"path": ["prod", name]} for name in names],
    }
    up.rows("delete from main.orders_daily; delete from main.orders_monthly")
    launched = up.query(_BACKFILL, params=params)
    assert launched["__typename"] == "LaunchBackfillSuccess", launched

    def completed() -> str | None:
        backfill = up.query(_BACKFILL_STATUS, id=launched["backfillId"])
        assert backfill["error"] is None, backfill
        status: str = backfill["status"]
        return status if status.startswith(("COMPLETED", "FAILED", "CANCELED")) else None

    assert until(completed) == "COMPLETED_SUCCESS"
    assert up.rows("select sum(amount) from main.orders_daily") == [(150,)]
    assert up.rows("select sum(amount) from main.orders_monthly") == [(150,)]


def test_a_schedule_of_models_with_different_partitions_ticks(up: Up) -> None:
    before = {run["runId"] for run in up.query(_RUNS)["results"]}
    state = up.query(_SCHEDULE, name="prod_every_minute_schedule")["scheduleState"]

    def new_run() -> str | None:
        runs = up.query(_RUNS)["results"]
        return next((run["runId"] for run in runs if run["runId"] not in before), None)

    run = up.finished(until(new_run))
    # Dagster forgets that it was told to stop while a tick goes on, and that launches the run.
    stopped = up.query(_STOP_SCHEDULE, id=state["id"])
    assert stopped["__typename"] == "ScheduleStateResult", stopped
    assert run["status"] == "SUCCESS"
    assert {name for name, _ in materialized(run)} == {
        *("orders_daily", "orders_hourly", "orders_monthly", "report"),
    }


def test_terminating_a_run_frees_the_warehouse(up: Up) -> None:
    run_id = up.launch("slow", config={"vars": {"slow": True}})
    until(lambda: True if _query_runs(up) else None)
    up.query(_TERMINATE, id=run_id)
    assert up.finished(run_id)["status"] == "CANCELED"
    assert up.rows("select n from main.slow") == [(1,)]


def _query_runs(up: Up) -> bool:
    """The slow model is being built: some process holds the file for longer than a glance."""

    def held() -> bool:
        try:
            duckdb.connect(str(up.warehouse)).close()
        except duckdb.IOException:
            return True
        return False

    if held():
        time.sleep(3)
        return held()
    return False


@pytest.mark.parametrize(
    ("method", "headers", "sent"),
    [
        ("GET", {}, {"params": {"query": _LAUNCHES}}),
        ("POST", {}, {"params": {"query": _LAUNCHES}}),
        ("POST", {}, {"data": {"query": _LAUNCHES}}),
        ("POST", {"Content-Type": "text/plain"}, {"data": json.dumps({"query": _LAUNCHES})}),
        (
            "POST",
            {"Content-Type": "text/plain; application/json"},
            {"data": json.dumps({"query": _LAUNCHES})},
        ),
        ("POST", {"Content-Type": "application/graphql"}, {"data": _LAUNCHES}),
        ("POST", {"Origin": "https://evil.example"}, {"json": {"query": _LAUNCHES}}),
        ("POST", {"Origin": "null"}, {"json": {"query": _LAUNCHES}}),
        ("POST", {"Host": "evil.example"}, {"json": {"query": _LAUNCHES}}),
    ],
)
def test_another_web_page_launches_nothing(
    up: Up, method: str, headers: dict[str, str], sent: dict[str, Any]
) -> None:
    url = f"http://127.0.0.1:{up.port}/graphql"
    answer = requests.request(method, url, headers=headers, timeout=60, **sent)
    assert answer.status_code == 403, answer.text
    assert "__typename" not in answer.text


def test_its_own_page_may_ask(up: Up) -> None:
    for host in ("127.0.0.1", "localhost"):
        place = f"http://{host}:{up.port}"
        page = requests.get(place, timeout=60)
        assert page.status_code == 200
        answer = requests.post(
            f"{place}/graphql",
            json={"query": "{ version }"},
            headers={"Origin": place},
            timeout=60,
        )
        assert answer.json()["data"]["version"]


def test_a_port_in_use_is_one_clear_line(up: Up) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbt_orchestration.cli", "up", "--port", str(up.port)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        f"error: port {up.port} is in use: stop what uses it, or choose another with --port"
        " (make up PORT=3001)"
    )


def test_a_second_start_on_the_same_state_is_refused(up: Up) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "dbt_orchestration.cli", "up", "--port", str(free_port())],
        env=os.environ | {"DBT_ORCHESTRATION_STATE_DIR": str(up.state)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (f"error: up is running on {up.state} already: use that one")


def test_stopped_and_started_again_it_loses_nothing_and_builds_nothing(up: Up) -> None:
    before = {run["runId"] for run in up.query(_RUNS)["results"]}
    assert up.process is not None
    session = up.process.pid
    assert up.stop() == 0
    # multiprocessing's tracker ends when it sees that `up` has ended, a moment later.
    until(lambda: None if _alive_in_sessions_of(session) else True)
    up.start()
    assert before <= {run["runId"] for run in up.query(_RUNS)["results"]}
    assert "First full build" not in up.output()


def test_a_warehouse_that_is_gone_is_built_again_and_no_history_is_lost(up: Up) -> None:
    before = {run["runId"] for run in up.query(_RUNS)["results"]}
    up.stop()
    up.warehouse.unlink()
    up.rows(_RATES)
    up.start()
    up.first_built()
    assert len({run["runId"] for run in up.query(_RUNS)["results"]} - before) == 1
    assert before <= {run["runId"] for run in up.query(_RUNS)["results"]}
    assert up.rows("select amount from main.report") == [(150,)]


def _alive_in_sessions_of(pid: int) -> list[str]:
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,sid=,args="], capture_output=True, text=True, check=True
    ).stdout
    alive = [line for line in listed.splitlines() if "<defunct>" not in line]
    return [line for line in alive if str(pid) in line.split()[:3]]
