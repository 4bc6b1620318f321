"""Whatever is killed while a push is being built: it ends as if nothing had been, by itself.

Real processes; what is killed is killed with SIGKILL, once the first day of a table's history has
succeeded. Then every day has to be there, of the new code; no run may be left that nobody works on.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
import requests

from tests.e2e.running import FINISHED, materialized, until
from tests.e2e.test_push import SLOW, Pushed

_UNFINISHED = """query { runsOrError(filter: {statuses: [QUEUED, STARTING, STARTED, CANCELING]}) {
    ... on Runs { results { runId status } } } }"""
_LOADED = """query { workspaceOrError { ... on Workspace { locationEntries {
    name loadStatus locationOrLoadError { __typename } } } } }"""


# Three days, each some seconds of work.
_DAILY = """\
{{{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="day_at",
    batch_size="day", begin="2024-01-01", lookback=0,
    meta={{"dagster": {{"partitions": {{"mergeable": false, "end": "2024-01-04"}}}}}}
) }}}}
select date_trunc('day', ordered_at) as day_at, {number} + 0 * {slow} as amount
from {{{{ ref("stg_orders") }}}}
group by 1
"""


def write(site: Pushed, number: int) -> str:
    site.clone.write(
        "models/daily.sql", _DAILY.format(number=number, slow=SLOW.format(rows=40_000))
    )
    return site.clone.push(f"number {number}")


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    site = Pushed(tmp_path_factory.mktemp("faults"))
    sha = write(site, 0)
    site.up.start()
    site.settled(sha)
    yield site
    site.up.stop()


def _processes() -> dict[int, tuple[int, str]]:
    """Parent and command line of every process."""
    listed = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    )
    lines = (line.split(maxsplit=2) for line in listed.stdout.splitlines())
    return {int(pid): (int(parent), args) for pid, parent, args in lines if args != "<defunct>"}


def _descendants(pid: int) -> list[int]:
    parents = {child: parent for child, (parent, _) in _processes().items()}
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found[1:]


def _of(pushed: Pushed, what: str) -> list[int]:
    every = _processes()
    assert pushed.up.process is not None
    return [pid for pid in _descendants(pushed.up.process.pid) if what in every[pid][1]]


def everything(pushed: Pushed, _: str) -> list[int]:
    assert pushed.up.process is not None
    return [pushed.up.process.pid, *_descendants(pushed.up.process.pid)]


def up_alone(pushed: Pushed, _: str) -> list[int]:
    assert pushed.up.process is not None
    return [pushed.up.process.pid]


def dagster_dev(pushed: Pushed, _: str) -> list[int]:
    return _of(pushed, "dbt_orchestration.local.dagster_dev")


def daemon(pushed: Pushed, _: str) -> list[int]:
    return _of(pushed, "dagster._daemon")


def webserver(pushed: Pushed, _: str) -> list[int]:
    return _of(pushed, "dbt_orchestration.local.webserver")


def code_servers(pushed: Pushed, _: str) -> list[int]:
    return _of(pushed, "dagster api grpc")


def code_servers_and_worker(pushed: Pushed, run_id: str) -> list[int]:
    return [*_of(pushed, "dagster api grpc"), *filter(None, [pushed.worker(run_id)])]


def worker(pushed: Pushed, run_id: str) -> list[int]:
    return [*filter(None, [pushed.worker(run_id)])]


def _loaded(pushed: Pushed) -> bool:
    entries = pushed.up.query(_LOADED)["locationEntries"]
    return all(
        (entry["locationOrLoadError"] or {}).get("__typename") == "RepositoryLocation"
        for entry in entries
    )


def _settled(pushed: Pushed, sha: str) -> list[Any] | None:
    """Runs of the commit, once nothing is due; None if Dagster went away in between."""
    # A tick that found no code server has failed, and says so.
    with suppress(requests.RequestException, KeyError, AssertionError):
        return pushed.settled(sha, seconds=60)
    return None


VICTIMS: list[Callable[[Pushed, str], list[int]]]
VICTIMS = [everything, up_alone, daemon, code_servers_and_worker, code_servers]
VICTIMS += [dagster_dev, webserver, worker]


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victims", VICTIMS, ids=lambda victims: victims.__name__)
def test_it_ends_as_if_nothing_had_been_killed(
    pushed: Pushed, victims: Callable[[Pushed, str], list[int]]
) -> None:
    number = VICTIMS.index(victims) + 1
    sha = write(pushed, number)

    def begun() -> str | None:
        runs = (run["runId"] for run in pushed.runs(sha))
        return next((run_id for run_id in runs if materialized(pushed.up.run(run_id))), None)

    run_id = pushed.until(begun)
    killed = victims(pushed, run_id)
    assert killed
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    process = pushed.up.process
    assert process is not None
    if process.pid in killed:
        process.wait()
        pushed.up.start()
    runs = until(lambda: _settled(pushed, sha))
    assert [run["status"] for run in runs if run["status"] not in FINISHED] == []
    assert pushed.up.query(_UNFINISHED)["results"] == []
    assert pushed.up.rows("select count(*), min(amount), max(amount) from main.daily") == [
        (3, number, number)
    ]
    tables = pushed.up.rows("select table_name from information_schema.tables")
    assert [name for (name,) in tables if "__" in name] == []
    until(lambda: _loaded(pushed) or None)
