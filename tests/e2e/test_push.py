"""Pushes to a real remote, followed by the real daemon, code servers and run workers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from dbt_orchestration.automation.outcome import Outcome, findings
from tests.automation.site import SHOP, Clone
from tests.conftest import REPOSITORY
from tests.e2e.running import PATIENCE, Up, free_port, materialized, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

_RUNS = """query { runsOrError(filter: {tags: [{key: ".dagster/dbt_sha", value: "%s"}]}) {
    ... on Runs { results { runId status rootRunId tags { key value }
    assetSelection { path } } } } }"""
_EVERY_RUN = """query { runsOrError(limit: 6) { ... on Runs { results { runId status pipelineName
    tags { key value } } } } }"""
_ASSETS = """query { assetNodes(pipeline: {repositoryLocationName: "prod",
    repositoryName: "__repository__", pipelineName: "prod_full_build"}) { assetKey { path } } }"""
_TICKS = """query($name: String!, $sensor: String!) { sensorOrError(sensorSelector: {
    sensorName: $sensor, repositoryLocationName: $name, repositoryName: "__repository__"}) {
    ... on Sensor { id sensorState { id selectorId status ticks(limit: 1) { status skipReason cursor
    error { message } runIds } } } } }"""
_LOGS = """query { sensorOrError(sensorSelector: {sensorName: "prod_push",
    repositoryLocationName: "prod", repositoryName: "__repository__"}) { ... on Sensor {
    sensorState { ticks(limit: 100) { logEvents { events { message } } } } } } }"""
_MESSAGES = """query($id: ID!) { runOrError(runId: $id) { ... on Run { eventConnection { events {
    ... on MessageEvent { message } } } } } }"""
# What is in the log of the asset, which is written after that of the run.
_LATEST = """query { assetOrError(assetKey: {path: ["prod", "daily"]}) { ... on Asset {
    assetMaterializations(limit: 1) { runId } } } }"""
_STOP = """mutation($id: String!) { stopSensor(id: $id) { __typename } }"""
_START = """mutation { startSensor(sensorSelector: {sensorName: "prod_push",
    repositoryLocationName: "prod", repositoryName: "__repository__"}) { __typename } }"""
# Some ten seconds of work. Of what it computes the engine knows that it stays in its batch.
SLOW = "(select sum(a.range * b.range) from range({rows}) as a, range(20000) as b)"

T = TypeVar("T")


class Pushed:
    """A clone, and ``make up`` that follows its remote.

    Args:
        alone: there is no second environment, which has no commit yet, and the clone is that of
            the person who looks at the UI.
    """

    def __init__(self, home: Path, *, alone: bool = False) -> None:
        self.clone = Clone(home)
        self.names = ("prod",) if alone else ("prod", "dev")
        push = {"interval_seconds": 1}
        environments = {
            "prod": {"branch": "main", "target": "prod", "push": push},
            "dev": {
                **{"branch": "dev", "target": "dev", "push": push},
                "full_build": {"enabled": False},
            },
        }
        settings = {
            "project_dir": str(self.clone.folder / "dbt") if alone else "nowhere",
            "profiles_dir": str(SHOP),
            "load_raw": False,
            "git": {"remote": str(self.clone.remote), "project_path": "dbt"},
            "environments": {name: environments[name] for name in self.names},
        }
        config = home / "environments.yaml"
        config.write_text(yaml.safe_dump(settings))
        state = home / "state"
        state.mkdir()
        variables = {
            "DBT_ORCHESTRATION_CONFIG": str(config),
        }
        self.up = Up(state, free_port(), variables)

    def says(self, name: str = "prod") -> str:
        """What the last tick of an environment's sensor said."""
        tick = self._last_tick(name)
        return (tick and tick["skipReason"]) or ""

    def _last_tick(self, name: str) -> Mapping[str, Any] | None:
        """The last tick of an environment's sensor, if it has ended; it must not have failed."""
        ticks = self.up.query(_TICKS, name=name, sensor=f"{name}_push")["sensorState"]["ticks"]
        if not ticks or ticks[0]["status"] == "STARTED":
            return None
        assert ticks[0]["error"] is None, ticks[0]["error"]["message"]
        tick: Mapping[str, Any] = ticks[0]
        return tick

    def runs(self, sha: str) -> list[Mapping[str, Any]]:
        """The push runs of a commit."""
        runs: list[Mapping[str, Any]] = self.up.query(_RUNS % sha)["results"]
        return runs

    def settled(self, sha: str, name: str = "prod", seconds: float = PATIENCE) -> list[Any]:
        """Wait until nothing is due for a commit; its runs."""

        def look() -> bool | None:
            tick = self._last_tick(name)
            found = findings(tick["cursor"]) if tick else ()
            built = found and found[-1].outcome is Outcome.NOTHING_DUE
            return True if built and sha[:10] in found[-1].facts["commit"] else None

        self.until(look, seconds)
        # What a run builds is there before the run has ended.
        return [self.up.finished(run["runId"]) for run in self.runs(sha)]

    def until(self, what: Callable[[], T | None], seconds: float = PATIENCE) -> T:
        """Wait for something; if it does not come, tell what happened instead."""
        try:
            return until(what, seconds)
        except AssertionError as error:
            story = [str(error)]
            for name in self.names:
                ticks = self.up.query(_TICKS, name=name, sensor=f"{name}_push")["sensorState"][
                    "ticks"
                ]
                story.append(f"{name}: {ticks}")
            for run in self.up.query(_EVERY_RUN)["results"]:
                tags = _tags(run)
                story.append(f"{run['runId'][:8]} {run['pipelineName']} {run['status']} {tags}")
                if run["status"] == "FAILURE":
                    events = self.up.query(_MESSAGES, id=run["runId"])["eventConnection"]["events"]
                    story += [event["message"] for event in events if "message" in event][-15:]
            raise AssertionError("\n".join(story)) from None

    def models(self) -> set[str]:
        """What prod consists of in the UI."""
        return {asset["assetKey"]["path"][-1] for asset in self.up.query(_ASSETS)}

    def worker(self, run_id: str) -> int | None:
        """The process of a run, once dbt is at work in it."""
        events = self.up.query(_MESSAGES, id=run_id)["eventConnection"]["events"]
        messages = [event.get("message", "") for event in events]
        if not any("Equivalent command" in message for message in messages):
            return None
        [pid] = {int(found[1]) for m in messages if (found := re.search(r"pid: (\d+)", m))}
        return pid


def _tags(run: Mapping[str, Any]) -> dict[str, str]:
    return {tag["key"]: tag["value"] for tag in run["tags"]}


def _built(run: Mapping[str, Any]) -> list[str]:
    return sorted(name for name, _ in materialized(run) if name != "pushes")


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    site = Pushed(tmp_path_factory.mktemp("pushed"))
    site.up.start()
    yield site
    site.up.stop()


def test_the_first_start_builds_everything_once(pushed: Pushed) -> None:
    pushed.up.first_built()
    [run] = pushed.up.query(_EVERY_RUN)["results"]
    assert run["status"] == "SUCCESS"
    assert _tags(run)["dbt/why"].startswith("7 nodes of 7: ")


def test_a_push_runs_what_it_changed_and_nothing_else(pushed: Pushed) -> None:
    """A model that is new comes, and one that is deleted goes, by itself."""
    pushed.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    pushed.clone.write("models/regulars.sql", "select 1 as one from {{ ref('customers') }}")
    (pushed.clone.folder / "dbt" / "models" / "totals.sql").unlink()
    sha = pushed.clone.push("largest")
    [run] = pushed.settled(sha)
    assert run["status"] == "SUCCESS"
    assert sorted(key["path"][-1] for key in run["assetSelection"]) == _built(run)
    assert _built(run) == ["big_customers", "customers", "regulars"]
    assert pushed.up.rows("select amount from main.customers where customer_id = 10") == [(150,)]
    pushed.until(lambda: True if "regulars" in pushed.models() else None)
    assert "totals" not in pushed.models()


def test_what_is_new_in_a_tick_is_in_its_log(pushed: Pushed) -> None:
    pushed.clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
    broken = f"main at {pushed.clone.push('broken')[:10]} cannot be prepared: "
    pushed.until(lambda: True if pushed.says().startswith(broken) else None)
    pushed.clone.edit("models/customers.sql", "{{ ref((", "{{ ref(")
    sha = pushed.clone.push("mended")
    assert pushed.settled(sha) == []
    logged = [
        event["message"]
        for tick in pushed.up.query(_LOGS)["sensorState"]["ticks"]
        for event in tick["logEvents"]["events"]
    ]
    assert [f"{sha[:10]} “mended”: nothing is due" in message for message in logged].count(
        True
    ) == 1
    assert [message.startswith(broken) for message in logged].count(True) == 1


def test_history_that_waits_is_rebuilt_after_a_click(pushed: Pushed) -> None:
    before = pushed.up.rows("select amount from main.daily order by day_at")
    meta = '{"partitions"'
    pushed.clone.edit("models/daily.sql", meta, f'{{"on_change": "ask", {meta[1:]}')
    pushed.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    sha = pushed.clone.push("in pence")
    pushed.until(lambda: True if "Waits for you: to rebuild daily (3" in pushed.says() else None)
    assert pushed.up.rows("select amount from main.daily order by day_at") == before
    said = {"prod_approve": {"config": {"reason": "in pence", "dry_run": False}}}
    asked = pushed.up.launch(job="prod_rebuild_history", ops=said)
    assert pushed.up.finished(asked)["status"] == "SUCCESS"
    [run] = pushed.settled(sha)
    days = {("daily", f"2024-01-0{day}") for day in (1, 2, 3)}
    assert set(materialized(run)) == {*days, ("pushes", None)}
    assert pushed.up.rows("select amount from main.daily order by day_at") == [
        (amount * 10,) for (amount,) in before
    ]


def test_a_run_keeps_its_commit_while_a_newer_one_is_loaded(pushed: Pushed) -> None:
    slow = "(select count(sleep_ms(15000)))"
    pushed.clone.write("models/slow.sql", f"select {slow} as n, 'old' as version")
    old = pushed.clone.push("slow")
    pushed.until(lambda: next((True for r in pushed.runs(old) if r["status"] == "STARTED"), None))
    pushed.clone.write("models/slow.sql", "select 1 as n, 'new' as version")
    new = pushed.clone.push("fast")
    pushed.until(
        lambda: (
            True
            if f"waiting for run {pushed.runs(old)[0]['runId'][:8]}" in pushed.says()
            or "nothing is due" in pushed.says()
            else None
        )
    )
    [first] = [pushed.up.finished(run["runId"]) for run in pushed.runs(old)]
    assert first["status"] == "SUCCESS"
    assert _tags(first)["dbt/commit"].startswith(old[:10])
    [second] = pushed.settled(new)
    assert _built(second) == ["slow"]
    assert pushed.up.rows("select version from main.slow") == [("new",)]


def test_two_environments_are_pushed_to_at_once(pushed: Pushed) -> None:
    pushed.clone.edit("models/kept.sql", "amount * 2", "amount * 4")
    sha = pushed.clone.push("both")
    pushed.clone.push("both", branch="dev")
    dev = subprocess.run(
        ["git", "rev-parse", "HEAD"],
        cwd=pushed.clone.folder,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    [prod_run] = pushed.settled(sha)
    [dev_run] = pushed.settled(dev, "dev")
    assert _built(prod_run) == ["kept"]
    assert len(set(_built(dev_run))) == 8
    assert pushed.up.rows("select max(doubled) from dev.kept") == [(800,)]


def test_a_git_hook_makes_dagster_look_at_once(pushed: Pushed) -> None:
    sensor = pushed.up.query(_TICKS, name="prod", sensor="prod_push")
    state = sensor["sensorState"]
    pushed.up.query(_STOP, id=state["id"])
    hook = pushed.clone.remote / "hooks" / "post-receive"
    variables = f"export DAGSTER_URL=http://127.0.0.1:{pushed.up.port} ENVIRONMENTS=prod\n"
    script = (REPOSITORY / "docs" / "hooks" / "post-receive").read_text()
    hook.write_text(script.replace("set -eu\n", f"set -eu\n{variables}"))
    hook.chmod(0o755)
    pushed.clone.write("models/hooked.sql", "select 1 as one")
    sha = pushed.clone.push("hook")  # returns when the hook does

    def loaded() -> bool | None:
        if "hooked" in pushed.models():
            return True
        # A busy machine was still preparing when the first look ended, and no sensor looks again.
        subprocess.run([hook], check=True, capture_output=True)
        return None

    pushed.until(loaded)
    hook.unlink()
    assert not pushed.runs(sha)
    pushed.up.query(_START)
    [run] = pushed.settled(sha)
    assert _built(run) == ["hooked"]


def test_a_worker_that_is_killed_is_replaced(pushed: Pushed) -> None:
    """In the middle of a table's history: what had succeeded stays, the rest is built."""
    pushed.clone.edit("models/daily.sql", '"on_change": "ask", ', "")
    pushed.clone.edit("models/daily.sql", '"end"', '"mergeable": False, "end"')
    pushed.clone.edit("models/daily.sql", "* 10", f"* 0 + {SLOW.format(rows=150_000)}")
    sha = pushed.clone.push("slow again")

    def begun() -> str | None:
        [latest] = pushed.up.query(_LATEST)["assetMaterializations"]
        run_id: str = latest["runId"]
        return run_id if run_id in {run["runId"] for run in pushed.runs(sha)} else None

    run_id = pushed.until(begun)
    os.kill(pushed.until(lambda: pushed.worker(run_id)), signal.SIGKILL)
    killed, replaced = sorted(pushed.settled(sha), key=lambda run: run["status"])
    assert (killed["status"], replaced["status"]) == ("FAILURE", "SUCCESS")
    days: set[tuple[str, str | None]] = {("daily", f"2024-01-0{day}") for day in (1, 2, 3)}
    succeeded = set(materialized(killed))
    assert succeeded
    assert succeeded < days
    assert set(materialized(replaced)) == {*(days - succeeded), ("pushes", None)}
    assert pushed.up.rows("select count(*), min(amount) > 1000000 from main.daily") == [(3, True)]
