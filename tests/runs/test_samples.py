"""Of which tests rows are shown, and which query shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dbt_orchestration.runs.samples import Samples
from dbt_orchestration.settings.failed_rows import FailedRows

TEST, MODEL, SOURCE = "test.shop.t", "model.shop.customers", "source.shop.raw.people"
SQL = "\n\nselect email\nfrom customers\nwhere email is null"
QUERY = (
    "select * from (\nselect email\nfrom customers\nwhere email is null\n) as failed_rows\nlimit"
)


def manifest(
    test: Mapping[str, Any], model: Mapping[str, Any], source: Mapping[str, Any]
) -> dict[str, Any]:
    tested = {"resource_type": "test", "name": "t", "depends_on": {"nodes": [MODEL, SOURCE]}}
    return {
        "nodes": {
            TEST: {**tested, **test},
            MODEL: {"resource_type": "model", "name": "customers", **model},
        },
        "sources": {SOURCE: {"resource_type": "source", "name": "people", **source}},
    }


def query(
    test: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    *,
    sql: str = SQL,
    seconds: float = 1.0,
    **settings: Any,
) -> str:
    samples = Samples(manifest(test or {}, model or {}, source or {}), FailedRows(**settings))
    return samples.query(TEST, seconds, sql)


YES = {"contains_pii": True}


@pytest.mark.parametrize(
    "said",
    [
        {"model": {"meta": YES}},
        {"model": {"config": {"meta": YES}}},
        {"model": {"columns": {"email": {"meta": YES}}}},
        {"model": {"columns": {"email": {"config": {"meta": YES}}}}},
        {"model": {"columns": {"email": {"tags": ["contains_pii"]}}}},
        {"model": {"tags": ["contains_pii"]}},
        {"model": {"config": {"tags": "contains_pii"}}},
        {"model": {"meta": {"contains_pii": "email, name"}}},
        {"source": {"meta": YES}},
        {"source": {"columns": {"email": {"meta": YES}}}},
        {"test": {"config": {"meta": YES}}},
        {"model": {"meta": {"gdpr": 1}}, "hidden_by": "gdpr"},
        {"enabled": False},
        {"seconds": 61.0},
    ],
)
def test_no_rows_are_asked_for(said: dict[str, Any]) -> None:
    assert query(**said) == ""


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"model": {"meta": {"contains_pii": False}}},
        {"model": {"meta": {"contains_pii": "no"}}},
        {"model": {"tags": ["pii"]}},
        {"model": {"meta": YES}, "hidden_by": "gdpr"},
        {"seconds": 60.0},
    ],
)
def test_the_first_rows_are_asked_for(said: dict[str, Any]) -> None:
    assert query(**said) == f"{QUERY} 10"


def test_how_many_is_a_setting() -> None:
    assert query(rows=3) == f"{QUERY} 3"


@pytest.mark.parametrize(
    ("metadata", "sql", "begins"),
    [
        ({"name": "not_null"}, SQL, "select *\nfrom customers"),
        # A macro of the project's own.
        ({"name": "not_null"}, "select id from x", "select id from x"),
        ({"name": "not_null"}, "select email, id from x", "select email, id from x"),
        ({"name": "not_null", "namespace": "own"}, SQL, "select email\nfrom"),
        ({"name": "unique"}, SQL, "select email\nfrom"),
    ],
)
def test_of_not_null_whole_rows_are_asked_for(
    metadata: Mapping[str, Any], sql: str, begins: str
) -> None:
    test = {"test_metadata": {"kwargs": {"column_name": "email"}, **metadata}}
    assert query(test, sql=sql).startswith(f"select * from (\n{begins}")
