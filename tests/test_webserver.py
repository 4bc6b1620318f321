"""Dagster's webserver as the chart starts it: a run names the person that the proxy has let in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import PythonFileTarget
from starlette.testclient import TestClient

from dbt_orchestration.webserver import OWN_PAGES, VARIABLE, Webserver

CODE = """\
import dagster as dg

@dg.asset(partitions_def=dg.StaticPartitionsDefinition(["a"]))
def table(): ...

@dg.job
def form(): ...

defs = dg.Definitions(assets=[table], jobs=[form])
"""
CONFIG = "run_coordinator: {module: dagster, class: QueuedRunCoordinator}\n"
LAUNCH = """mutation($p: ExecutionParams!, $list: [ExecutionParams!]!) {
  other_name: launchRun(executionParams: $p) { ... on LaunchRunSuccess { run { runId } } }
  launchMultipleRuns(executionParamsList: $list) { __typename } }"""
AGAIN = """mutation($p: ReexecutionParams) { launchRunReexecution(reexecutionParams: $p) {
  __typename ... on PythonError { message } } }"""
BACKFILL = """mutation { launchPartitionBackfill(backfillParams: {
  assetSelection: [{path: "table"}], partitionNames: ["a"], tags: [{key: "user", value: "boss"}]
}) { __typename ... on PythonError { message } } }"""
KIM = {"X-Forwarded-User": "kim@acme.com"}


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    (tmp_path / "dagster.yaml").write_text(CONFIG)
    (tmp_path / "code.py").write_text(CODE)
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        yield instance


def test_what_a_person_starts_has_the_name_that_the_proxy_says(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = PythonFileTarget(str(tmp_path / "code.py"), None, None, "code")
    with WorkspaceProcessContext(instance, code) as context:
        monkeypatch.setenv(VARIABLE, "X-Forwarded-User")
        client = TestClient(Webserver(context).create_asgi_app())

        def ask(query: str, headers: Mapping[str, str], **variables: Any) -> Any:
            said = {"query": query, "variables": variables}
            answer = client.post("/graphql", json=said, headers=headers).json()
            assert "errors" not in answer, answer
            return answer["data"]

        def launch(headers: Mapping[str, str], *own: Mapping[str, str]) -> list[str | None]:
            """Runs that say for themselves who has started them; who that is then."""
            job = {"repositoryLocationName": "code", "repositoryName": "__repository__"}
            params = {"selector": {**job, "jobName": "form"}, "executionMetadata": {"tags": own}}
            ask(LAUNCH, headers, p=params, list=[params])
            return [run.tags.get("user") for run in instance.get_runs(limit=2)]

        boss, kept = {"key": "user", "value": "boss"}, {"key": "why", "value": "wrong totals"}
        assert launch(KIM, boss, kept) == ["kim@acme.com"] * 2
        [run] = instance.get_runs(limit=1)
        assert run.tags["why"] == "wrong totals"
        assert launch({}, boss) == [None] * 2

        lee = {"X-Forwarded-User": "lee@acme.com"}
        again = {"parentRunId": run.run_id, "strategy": "ALL_STEPS"}
        ask(AGAIN, lee, p=again)
        [second] = instance.get_runs(limit=1)
        assert second.parent_run_id == run.run_id
        assert second.tags["user"] == "lee@acme.com"

        ask(BACKFILL, KIM)
        [backfill] = instance.get_backfills()
        assert backfill.tags["user"] == "kim@acme.com"

        # Where no proxy is in front, nobody is trusted to say it for somebody else.
        monkeypatch.delenv(VARIABLE)
        client = TestClient(Webserver(context).create_asgi_app())
        assert launch(KIM) == [None] * 2


def test_other_pages_are_refused_where_the_proxy_does_not(
    instance: dg.DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = PythonFileTarget(str(tmp_path / "code.py"), None, None, "code")
    ask, host = {"query": "{ version }"}, {"Host": "dagster.acme.com"}
    with WorkspaceProcessContext(instance, code) as context:

        def statuses() -> list[int]:
            client = TestClient(Webserver(context).create_asgi_app())
            own, other = ({"Origin": f"https://{name}.acme.com"} for name in ("dagster", "evil"))
            answers = [
                client.post("/graphql", json=ask, headers={**host, **own}),
                client.post("/graphql", json=ask, headers={**host, **other}),
                client.post("/graphql", data=ask, headers=host),
                client.get("/graphql", params=ask, headers=host),
                client.get("/server_info"),  # of a probe, by the pod's address
            ]
            return [answer.status_code for answer in answers]

        assert 403 not in statuses()
        monkeypatch.setenv(OWN_PAGES, "true")
        assert statuses() == [200, 403, 403, 403, 200]
        monkeypatch.setenv(OWN_PAGES, "yes please")
        with pytest.raises(
            SystemExit, match="DAGSTER_OWN_PAGES is 'yes please': write true or fal"
        ):
            statuses()
