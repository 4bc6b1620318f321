"""What the chart writes for Dagster, taken by Dagster, on a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg
import kubernetes
import pytest
import requests
import yaml
from dagster._grpc.client import DagsterGrpcClient

from tests.deploy.conftest import Render, data_of
from tests.deploy.webservers import LOCATION, serving
from tests.postgres.server import PASSWORD, postgresql

_LOCATIONS = "{ workspaceOrError { ... on Workspace { locationEntries { name loadStatus } } } }"


def _code_server_is_up(port: int) -> bool | None:
    try:
        return bool(DagsterGrpcClient(port=port, host="127.0.0.1").ping("")) or None
    except Exception:  # whatever gRPC raises while nobody answers
        return None


@contextmanager
def _written(values: str, render: Render, patch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What the chart writes for Dagster, on a PostgreSQL that runs as long."""
    patch.setenv("DAGSTER_PG_PASSWORD", PASSWORD)
    patch.setattr(kubernetes.config, "load_incluster_config", lambda **_: None)
    with postgresql() as server:
        said = {
            "host": "127.0.0.1",
            "port": urlsplit(server.url).port,
            "database": "postgres",
            "params.sslmode": "disable",
        }
        options = [f"--set=postgres.{name}={value}" for name, value in said.items()]
        yield data_of(render(values, *options), "dagster-instance")


@pytest.mark.parametrize("values", ["values-dev.yaml", "values-prod.yaml"])
def test_the_instance_keeps_what_happened(
    values: str, render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _written(values, render, monkeypatch) as written:
        (tmp_path / "dagster.yaml").write_text(written["dagster.yaml"])
        with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
            assert "Postgres" in type(instance.event_log_storage).__name__
            instance.report_runless_asset_event(dg.AssetMaterialization("table"))
            assert instance.get_latest_materialization_event(dg.AssetKey("table"))


def test_the_workspace_loads(
    render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with _written("values-prod.yaml", render, monkeypatch) as written:
        # The webserver is on this machine, where there is no Kubernetes, and so are code servers.
        ours = yaml.safe_load(written["dagster.yaml"])
        del ours["run_launcher"]
        (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(ours))
        (tmp_path / "location.py").write_text(LOCATION)
        code = ["code-server", "start", "--python-file", "location.py", "--host", "127.0.0.1"]
        with serving(tmp_path, "dagster", *code, up=_code_server_is_up) as port:
            workspace = yaml.safe_load(written["workspace.yaml"])
            places = [each["grpc_server"] for each in workspace["load_from"]]
            names = {place["location_name"] for place in places}
            for place in places:
                assert place["host"].startswith("dagster-code-")
                place |= {"host": "127.0.0.1", "port": port}
            (tmp_path / "workspace.yaml").write_text(yaml.safe_dump(workspace))
            with serving(tmp_path, "dagster-webserver", "--workspace", "workspace.yaml") as web:
                answer = requests.post(
                    f"http://127.0.0.1:{web}/graphql", json={"query": _LOCATIONS}, timeout=60
                )
        entries = answer.json()["data"]["workspaceOrError"]["locationEntries"]
        assert "prod" in names
        assert {each["name"]: each["loadStatus"] for each in entries} == dict.fromkeys(
            names, "LOADED"
        )
