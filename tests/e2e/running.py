"""``make up`` as a person has it: the real webserver and daemon, driven through GraphQL."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import duckdb
import requests

from tests.conftest import EVERY_NODE

_LAUNCH = """mutation($params: ExecutionParams!) {
    launchPipelineExecution(executionParams: $params) { __typename
        ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } } }"""
_RUN = """query($id: ID!) { runOrError(runId: $id) { ... on Run {
    status rootRunId parentRunId tags { key value } assetSelection { path }
    stats { ... on RunStatsSnapshot { startTime endTime } }
    eventConnection { events { __typename
        ... on MaterializationEvent { assetKey { path } partition }
        ... on ExecutionStepFailureEvent { stepKey error { message } } } } } } }"""
# What takes seconds takes minutes on a machine that is busy with something else.
PATIENCE = 900.0
FINISHED = {"SUCCESS", "FAILURE", "CANCELED"}


T = TypeVar("T")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def until(what: Callable[[], T | None], seconds: float = PATIENCE) -> T:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (found := what()) is not None:
            return found
        time.sleep(0.5)  # each look costs the webserver some work
    raise AssertionError(f"not within {seconds} s")


@dataclass
class Up:
    """One ``dbt-orchestration up`` on the small project."""

    state: Path
    port: int
    variables: Mapping[str, str] = field(
        default_factory=lambda: {
            "DBT_ORCHESTRATION_PROJECT_DIR": str(EVERY_NODE),
            "DBT_ORCHESTRATION_CONFIG": "tests/e2e/environments.yaml",
        }
    )
    file: str = "warehouse.duckdb"
    process: subprocess.Popen[str] | None = None

    @property
    def warehouse(self) -> Path:
        return self.state / self.file

    def start(self) -> None:
        variables = {**self.variables, "DBT_ORCHESTRATION_STATE_DIR": str(self.state)}
        with (self.state / "up.log").open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dbt_orchestration.cli", "up", "--port", str(self.port)],
                env=os.environ | variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                start_new_session=True,
            )
        until(lambda: True if "Dagster is up" in self.output() else self._died())

    def first_built(self) -> None:
        """Wait until what was not there when it started is built."""
        done = "First full build of prod: done"
        until(lambda: True if done in self.output() else self._died())

    def _died(self) -> None:
        assert self.process is not None
        assert self.process.poll() is None, self.output()

    def output(self) -> str:
        return (self.state / "up.log").read_text()

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(timeout=PATIENCE)

    def query(self, query: str, **variables: Any) -> Any:
        answer = requests.post(
            f"http://127.0.0.1:{self.port}/graphql",
            json={"query": query, "variables": variables},
            timeout=PATIENCE,
        ).json()
        assert "errors" not in answer, answer
        [data] = answer["data"].values()
        return data

    def launch(
        self,
        *names: str,
        job: str = "__ASSET_JOB",
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        ops: Mapping[str, Any] | None = None,
    ) -> str:
        """Press Materialize, or launch a job; its run.

        Args:
            config: of dbt's own op.
            ops: config of other ops, by their names.
        """
        selector: dict[str, Any] = {
            "repositoryLocationName": "prod",
            "repositoryName": "__repository__",
            "pipelineName": job,
        }
        if names:
            selector["assetSelection"] = [{"path": ["prod", name]} for name in names]
        ops = {"dbt_prod": {"config": dict(config)}} if config else ops
        metadata = [{"key": key, "value": value} for key, value in (tags or {}).items()]
        params = {
            "selector": selector,
            "runConfigData": {"ops": ops} if ops else {},
            "executionMetadata": {"tags": metadata},
        }
        launched = self.query(_LAUNCH, params=params)
        assert launched["__typename"] == "LaunchRunSuccess", launched
        run_id: str = launched["run"]["runId"]
        return run_id

    def run(self, run_id: str) -> Any:
        return self.query(_RUN, id=run_id)

    def finished(self, run_id: str) -> Any:
        def look() -> Any:
            run = self.run(run_id)
            return run if run["status"] in FINISHED else None

        return until(look)

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        def ask() -> list[tuple[Any, ...]] | None:
            # A run that has ended holds the file until its process has.
            with suppress(duckdb.IOException), duckdb.connect(str(self.warehouse)) as connection:
                return [*connection.execute(sql).fetchall()]
            return None

        return until(ask)


def materialized(run: Any) -> list[tuple[str, str | None]]:
    return [
        (event["assetKey"]["path"][-1], event["partition"])
        for event in run["eventConnection"]["events"]
        if event["__typename"] == "MaterializationEvent"
    ]
