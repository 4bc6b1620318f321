"""Tables that are recreated beside the old ones: what is ours to drop, and names and comments."""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest

from tests.conftest import PROJECTS, Warehouse, failure, make_settings

NAME = "every day"
MODELS = {
    "days": """{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="day_at",
    batch_size="day", begin="2024-01-01", alias="every day",
    meta={"dagster": {"partitions": {"end": "2024-01-03"}}}
) }}
select * from (values (timestamp '2024-01-01', 1), (timestamp '2024-01-02', 2))
    as days("day_at", "it's")
""",
    # Models whose names look like ours, one of them exactly.
    "notes": "{{ config(materialized='table', alias=\"every day__rebuild_notes\") }} select 1 as n",
    "known": "{{ config(materialized='table', alias=\"every day__rebuild_cafe0123\") }} select 1 n",
}
SOURCES = """
sources:
  - name: raw
    schema: main
    tables: [{name: other, identifier: "Every Day__rebuild_cafe0124"}]
"""
BY_HAND = r"""it's \ \' "by hand" $$ \\"""


@pytest.fixture
def warehouse(tmp_path: Path, instance: dg.DagsterInstance) -> Warehouse:
    project = tmp_path / "project"
    shutil.copytree(PROJECTS / "ledger", project, ignore=shutil.ignore_patterns("models"))
    (project / "models").mkdir()
    (project / "models" / "sources.yml").write_text(SOURCES)
    for name, text in MODELS.items():
        (project / "models" / f"{name}.sql").write_text(text)
    return Warehouse(make_settings(tmp_path / "state", project, load_raw=False), "prod", instance)


def make_anew(warehouse: Warehouse) -> None:
    result = warehouse.build("days", config={"full_refresh": True})
    assert result.success, failure(result)


def tables(warehouse: Warehouse) -> set[str]:
    return {name for (name,) in warehouse.execute("select table_name from duckdb_tables()")}


def test_only_what_a_run_left_is_dropped(warehouse: Warehouse) -> None:
    assert warehouse.build("days", "notes", "known").success
    ours = [f"{NAME}__rebuild_cafe0125", f"{NAME}__REBUILD_CAFE0126"]
    others = [f"{NAME}__rebuild_{end}" for end in ("cafe012", "cafe01234", "cafe012x", "", "%")]
    others += [f"x{ours[0]}", f"{NAME}__rebuild_cafe0124", f"{NAME}__dbt_backup"]
    for name in (*ours, *others):
        warehouse.execute(f'create table main."{name}" as select 1 as one')
    make_anew(warehouse)
    kept = {NAME, f"{NAME}__rebuild_notes", f"{NAME}__rebuild_cafe0123", *others}
    assert tables(warehouse) - {"rates"} == kept


def test_comments_go_over_whatever_is_in_them(warehouse: Warehouse) -> None:
    assert warehouse.build("days").success
    text = BY_HAND.replace("'", "''")
    warehouse.execute(f"comment on table main.\"{NAME}\" is '{text}'")
    warehouse.execute(f'comment on column main."{NAME}"."it\'s" is \'{text}\'')
    make_anew(warehouse)
    assert warehouse.execute("select comment from duckdb_tables() where comment <> ''") == [
        (BY_HAND,)
    ]
    assert warehouse.execute(
        "select column_name, comment from duckdb_columns() where comment is not null"
    ) == [("it's", BY_HAND)]
