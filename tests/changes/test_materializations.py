"""What dbt leaves of the relation that is there: every materialization of dbt and its adapters."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from dbt_orchestration.changes.materializations import (
    REPLACED,
    UPDATED_IN_PLACE,
    is_updated_in_place,
    own_materializations,
)

_DEFINED = re.compile(r"\{%-?\s*materialization\s+(\w+)\s*,")
# A copy of another environment's relation, made by `dbt clone`; no node is one.
_NO_NODE = {"clone"}


def built_in() -> set[str]:
    spec = find_spec("dbt.include")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    found: set[str] = set()
    for place in spec.submodule_search_locations:
        for path in Path(place).rglob("*.sql"):
            found.update(_DEFINED.findall(path.read_text()))
    return found


def test_every_materialization_of_dbt_is_in_one_table() -> None:
    known = built_in() - _NO_NODE
    assert {"table", "incremental", "dynamic_table", "seed"} <= known
    assert known <= REPLACED.keys() | UPDATED_IN_PLACE.keys()
    assert not REPLACED.keys() & UPDATED_IN_PLACE.keys()


@pytest.mark.parametrize(
    ("kind", "materialized", "expected"),
    [
        ("model", "table", False),
        ("model", "view", False),
        ("model", "external", False),
        ("model", "incremental", True),
        ("model", "dynamic_table", True),
        ("model", "materialized_view", True),
        ("model", "nobody_knows", True),
        ("model", "audited", True),
        ("seed", "seed", True),
        # What it keeps is what it is for.
        ("snapshot", "snapshot", False),
    ],
)
def test_what_is_updated_in_place(kind: str, materialized: str, expected: bool) -> None:
    node = {"resource_type": kind, "config": {"materialized": materialized}}
    assert is_updated_in_place(node, {"audited"}) is expected


def test_the_projects_own_table_is_not_dbts() -> None:
    macros = {
        "macro.shop.materialization_table_duckdb": {
            "name": "materialization_table_duckdb",
            "package_name": "shop",
        },
        "macro.dbt.materialization_view_default": {
            "name": "materialization_view_default",
            "package_name": "dbt",
        },
    }
    own = own_materializations({"metadata": {"adapter_type": "duckdb"}, "macros": macros})
    assert own == {"table"}
    node = {"resource_type": "model", "config": {"materialized": "table"}}
    assert is_updated_in_place(node, own)
    assert not is_updated_in_place(node)
