"""As in containers: code server, daemon and webserver, each started by itself."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import requests
import yaml

from tests.automation.site import SHOP, Clone
from tests.conftest import INSTANCE, REPOSITORY
from tests.e2e.running import free_port, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

_RUNS = """query { runsOrError { ... on Runs { results { status tags { key value }
    assetSelection { path } } } } }"""
_ASSETS = "query { assetNodes { assetKey { path } } }"


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.fixture
def port(clone: Clone, tmp_path: Path) -> Iterator[int]:
    """The webserver's port."""
    settings = {
        "project_dir": "nowhere",
        "profiles_dir": str(SHOP),
        "state_dir": str(tmp_path / "state"),
        "load_raw": False,
        "git": {"remote": str(clone.remote), "project_path": "dbt"},
        "environments": {
            "prod": {"branch": "main", "target": "prod", "push": {"interval_seconds": 1}}
        },
    }
    (tmp_path / "environments.yaml").write_text(yaml.safe_dump(settings))
    home = tmp_path / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text((INSTANCE).read_text())
    with dg.DagsterInstance.from_config(str(home)) as instance:
        # Dagster's processes that start at once would all make its tables, in SQLite.
        instance.get_runs_count()
        instance.all_instigator_state()
        instance.get_asset_keys()
    code, web = free_port(), free_port()
    workspace = tmp_path / "workspace.yaml"
    server = {"host": "127.0.0.1", "port": code, "location_name": "prod"}
    workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
    location = ["-m", "dbt_orchestration.definitions", "-a", "prod"]
    commands = [
        ["-m", "dagster", "code-server", "start", "-p", str(code), *location],
        ["-m", "dagster._daemon", "run", "-w", str(workspace)],
        ["-m", "dagster_webserver", "-p", str(web), "-w", str(workspace)],
    ]
    variables = {
        **os.environ,
        "DAGSTER_HOME": str(home),
        "DBT_ORCHESTRATION_CONFIG": str(tmp_path / "environments.yaml"),
    }
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((tmp_path / "dagster.log").open("w"))
        for command in commands:
            process = subprocess.Popen(
                [sys.executable, *command],
                cwd=REPOSITORY, env=variables, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
            stack.callback(process.wait)
            # A code server ignores SIGTERM where whoever started the tests ignores Ctrl-C.
            stack.callback(os.killpg, process.pid, signal.SIGKILL)
        yield web
    print((tmp_path / "dagster.log").read_text())  # pytest shows it when the test has failed


def query(port: int, text: str) -> list[dict[str, object]]:
    try:
        answer = requests.post(
            f"http://127.0.0.1:{port}/graphql", json={"query": text}, timeout=30
        ).json()
    except requests.ConnectionError:
        return []
    [data] = answer["data"].values()
    found: list[dict[str, object]] = data if isinstance(data, list) else data.get("results", [])
    return found


def test_a_location_that_begins_with_nothing_follows_its_branch(clone: Clone, port: int) -> None:
    def built(sha: str) -> list[str] | None:
        for run in query(port, _RUNS):
            tags = {tag["key"]: tag["value"] for tag in run["tags"]}  # type: ignore[attr-defined]
            if tags.get("dbt/commit", "").startswith(sha[:10]) and run["status"] == "SUCCESS":
                selected = run["assetSelection"]
                return sorted(key["path"][-1] for key in selected)  # type: ignore[attr-defined]
        return None

    first = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=clone.folder, capture_output=True, text=True, check=True
    ).stdout.strip()
    assert len(until(lambda: built(first))) == 7
    clone.write("models/extra.sql", "select 1 as one")
    second = clone.push("extra")
    assert until(lambda: built(second)) == ["extra"]

    def assets() -> list[object]:
        return [asset["assetKey"]["path"] for asset in query(port, _ASSETS)]  # type: ignore[index]

    until(lambda: True if ["prod", "extra"] in assets() else None)
