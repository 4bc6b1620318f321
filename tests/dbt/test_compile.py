"""What dbt compiles for the change engine is whole, or is not there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from dbt_orchestration.changes.project import Project
from dbt_orchestration.dbt.cache import Cache
from dbt_orchestration.dbt.compile import compile_nodes
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.read import read_project
from dbt_orchestration.revisions.prepare import ProjectFolder, prepare

FILES = {
    "dbt_project.yml": "name: shop\nprofile: shop\nmodels: {+materialized: table}\n",
    "profiles.yml": (
        "shop:\n  target: prod\n  outputs:\n"
        "    prod: {type: duckdb, path: nowhere/shop.duckdb, threads: 4}\n"
    ),
    "models/numbers.sql": "select 1 as n",
    "models/middle.sql": "{{ config(materialized='ephemeral') }}select n from {{ ref('numbers') }}",
    "models/below.sql": "{{ config(materialized='ephemeral') }}select n from {{ ref('middle') }}",
    "models/reader.sql": "select n from {{ ref('below') }}",
}
# Nothing in these names tells that they ask the warehouse.
HIDDEN = {
    "models/hidden.sql": (
        "{{ config(materialized='ephemeral') }}select n from {{ ref('numbers') }}"
        "{% if execute %}{% do this.information_schema(42, 43, 44) %}{% endif %}"
    ),
    "models/above.sql": "{{ config(materialized='ephemeral') }}select n from {{ ref('hidden') }}",
    "models/broken.sql": "select n from {{ ref('above') }} join {{ ref('middle') }} using (n)",
}


def write(folder: Path, files: Mapping[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def compiled(project: Path, home: Path) -> Project:
    target = DbtTarget(project, home / "logs", project)
    revision = prepare(ProjectFolder(target), home / "revisions", analysed=False)
    cache = Cache(home / "compiled.sqlite")
    return compile_nodes(read_project(revision, target), revision, target, cache)


def sql_of(project: Project, name: str) -> str:
    return " ".join(project.compiled[f"model.shop.{name}"].full.split())


WHOLE = (
    'with __dbt__cte__middle as ( select n from "shop"."main"."numbers" ), '
    "__dbt__cte__below as ( select n from __dbt__cte__middle ) select n from __dbt__cte__below"
)


def test_a_node_that_does_not_compile_spoils_no_other(tmp_path: Path) -> None:
    write(tmp_path / "shop", {**FILES, **HIDDEN})
    project = compiled(tmp_path / "shop", tmp_path)
    failed = {f"model.shop.{name}" for name in ("hidden", "above", "broken")}
    assert project.uncompiled.keys() == failed
    assert project.compiled.keys() == project.nodes.keys() - failed
    assert sql_of(project, "reader") == WHOLE
    assert all("hidden" in why for why in project.uncompiled.values())


def test_a_node_that_does_not_compile_is_not_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "shop", {**FILES, **HIDDEN})
    first = compiled(tmp_path / "shop", tmp_path)
    monkeypatch.setattr("dbt_orchestration.dbt.compile.dbt_session", None)
    again = compiled(tmp_path / "shop", tmp_path)
    assert (again.compiled, again.uncompiled) == (first.compiled, first.uncompiled)


def test_ephemeral_models_are_whole_in_whatever_order_they_are_compiled(tmp_path: Path) -> None:
    write(tmp_path / "shop", FILES)
    first = compiled(tmp_path / "shop", tmp_path)
    assert sql_of(first, "reader") == WHOLE
    # Only the one in the middle is new, and its reader with it.
    write(tmp_path / "shop", {"models/middle.sql": FILES["models/middle.sql"] + " where n > 0"})
    second = compiled(tmp_path / "shop", tmp_path)
    where = WHOLE.replace('"numbers" )', '"numbers" where n > 0 )')
    assert sql_of(second, "reader") == where
    assert "with __dbt__cte__middle as" in sql_of(second, "below")
