"""Another profile: relations in another place, or settings that make other results."""

from __future__ import annotations

from typing import Any

import dagster as dg
import duckdb

from dbt_orchestration.history.order import Order
from tests.automation.site import Site, names
from tests.conftest import failure

MODELS = {
    "halves": "select amount / 2 as half from {{ ref('stg_orders') }}",
    "here": "{{ config(materialized='view') }}select * from {{ ref('halves') }}",
    # In a schema that does not follow the target's, and referring to one that does.
    "fixed": "{{ config(materialized='view', schema='fixed') }}select * from {{ ref('halves') }}",
    "copied": "{{ config(schema='fixed') }}select * from {{ ref('halves') }}",
}
NAMES = "{% macro generate_schema_name(custom, node) %}{{ custom or target.schema }}{% endmacro %}"


def begin(site: Site) -> None:
    for name, sql in MODELS.items():
        site.clone.write(f"models/{name}.sql", sql)
    (site.clone.folder / "dbt" / "macros").mkdir()
    site.clone.write("macros/names.sql", NAMES)
    site.clone.push("halves")
    result = site.build()
    assert result.success, failure(result)


def edit_profile(site: Site, old: str, new: str) -> None:
    file = site.settings.profiles_dir / "profiles.yml"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def rows(site: Site, schema: str) -> dict[str, Any]:
    with duckdb.connect(str(site.settings.duckdb_path)) as connection:
        found = connection.execute(
            f"select table_name from information_schema.tables where table_schema = '{schema}'"
        ).fetchall()
        return {
            name: sorted(map(repr, connection.execute(f"from {schema}.{name}").fetchall()))
            for (name,) in sorted(found)
        }


def why(request: dg.RunRequest) -> dict[str, str]:
    reasons = Order.of_tags(request.tags).reasons
    return {unique_id.split(".")[-1]: reason for unique_id, reason in reasons.items()}


def test_another_schema_moves_every_relation_with_all_its_history(built: Site) -> None:
    before = rows(built, "main")
    assert len(before["daily"]) == 3
    edit_profile(built, "schema: main", "schema: other")
    request = built.request()
    # What copied the rows of a relation that moved is as it was; what refers to one is not.
    assert set(names(request)) == {*before, "fixed"}
    said = why(request)
    there = "its relation was warehouse.main.daily and is warehouse.other.daily"
    assert said["daily"].endswith(there)
    assert said["fixed"].endswith("name of a relation it reads")
    result = built.run(request)
    assert result.success, failure(result)
    assert rows(built, "other") == before
    assert "nothing is due" in built.says()
    built.query("drop table main.halves")
    assert rows(built, "fixed")["fixed"] == before["halves"]
    # And there and back again.
    edit_profile(built, "schema: other", "schema: main")
    assert set(names(built.request())) == {*before, "fixed"}


def test_partitions_that_were_left_in_the_old_place_stay_due(built: Site) -> None:
    before = rows(built, "main")
    edit_profile(built, "schema: main", "schema: other")
    first = built.request()
    tags = {"dagster/partition": "2024-01-02"}
    alone = first._replace(tags=tags, asset_check_keys=[])
    assert built.run(alone._replace(asset_selection=sorted(first.asset_selection or ()))).success
    assert len(rows(built, "other")["daily"]) == 1
    request = built.request()
    assert names(request) == ["daily"]
    assert built.run(request).success
    assert rows(built, "other") == before
    assert "nothing is due" in built.says()


def test_a_setting_that_makes_other_results_makes_everything_due(built: Site) -> None:
    edit_profile(built, "threads: 2", "threads: 3 # more")
    assert "nothing is due" in built.says()
    edit_profile(built, "threads: 3", "settings: {integer_division: true}\n      threads: 3")
    request = built.request()
    assert set(names(request)) == {*rows(built, "main"), "fixed", "copied"}
    assert set(why(request).values()) == {"settings.integer_division of the profile's target"}
    halves = rows(built, "main")["halves"]
    result = built.run(request)
    assert result.success, failure(result)
    assert rows(built, "main")["halves"] != halves
    assert "nothing is due" in built.says()
