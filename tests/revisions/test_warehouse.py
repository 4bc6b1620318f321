"""What is there, by the relations that the warehouse lists."""

from __future__ import annotations

from typing import Any

import pytest

from dbt_orchestration.revisions.warehouse import Seen, compare

THERE, GONE = Seen(there=True, sure=True), Seen(there=False, sure=True)


def seen(materialized: str, *found: tuple[str, str, str, str], own: str = "") -> Seen:
    macros: dict[str, Any] = {
        f"macro.dbt_duckdb.materialization_{materialized}_duckdb": {
            "name": f"materialization_{materialized}_duckdb",
            "package_name": "dbt_duckdb",
        }
    }
    if own:
        macros[f"macro.shop.{own}"] = {"name": own, "package_name": "shop"}
    manifest = {
        "metadata": {"adapter_type": "duckdb"},
        "nodes": {"model.shop.a": {"config": {"materialized": materialized}}},
        "macros": macros,
    }
    return compare(manifest, {"model.shop.a": ("db", "Main", "a")}, found)["model.shop.a"]


@pytest.mark.parametrize(
    ("materialized", "kind"),
    [("table", "table"), ("incremental", "table"), ("view", "view"), ("external", "view")],
)
def test_a_relation_is_found_by_its_name_in_any_case(materialized: str, kind: str) -> None:
    assert seen(materialized, ("DB", "MAIN", "A", kind)) == THERE
    assert seen(materialized, ("db", "main", "b", kind), ("db", "other", "a", kind)) == GONE


def test_a_relation_of_another_type_is_another_one() -> None:
    assert seen("table", ("db", "main", "a", "view")) == GONE
    assert seen("view", ("db", "main", "a", "table")) == GONE


def test_nobody_knows_what_a_materialization_of_the_project_leaves() -> None:
    assert seen("ledger") == Seen(there=False, sure=False)
    assert seen("view", own="materialization_view_default") == Seen(there=False, sure=False)
    own = seen("view", ("db", "main", "a", "table"), own="materialization_view_default")
    assert own == Seen(there=True, sure=False)
