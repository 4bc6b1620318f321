"""What people read where something failed: on the page of the asset, and on that of the run."""

from __future__ import annotations

import re
from typing import Any

import dagster as dg

from dbt_orchestration.settings.failed_rows import FailedRows
from dbt_orchestration.settings.models import Environment
from tests.automation.site import ALWAYS, Site
from tests.conftest import checks, failure, materialized

BROKEN = """\
select
    sum(orders) as orders,
    no_such_column as nothing
from {{ ref("customers") }}
"""


def begin(site: Site) -> None:
    assert site.build().success


def said(result: dg.ExecuteInProcessResult, name: str) -> dict[str, str]:
    """What the run observed of an asset, by label; and what of it in one line."""
    kind = dg.DagsterEventType.ASSET_OBSERVATION
    [found] = [
        event.asset_observation_data.asset_observation
        for event in result.all_events
        if event.event_type is kind and event.asset_key == dg.AssetKey(["prod", name])
    ]
    texts = {label: str(value.value) for label, value in found.metadata.items()}
    return {"": found.description or "", **texts}


def told(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What the failed step says beside its message, by label."""
    [event] = [e for e in result.all_events if e.is_step_failure]
    data = event.step_failure_data.user_failure_data
    assert data is not None
    return {label: str(value.value) for label, value in data.metadata.items()}


def test_a_failed_model_says_why_and_where(built: Site) -> None:
    built.clone.write("models/totals.sql", BROKEN)
    sha = built.clone.push("count nothing")
    result = built.build()
    assert not result.success
    page = said(result, "totals")
    assert 'Referenced column "no\\_such\\_column" not found' in page[""]
    assert "Binder Error" in page["failed"]
    assert "compiled code at" not in page["failed"]
    [marked] = [line for line in page["compiled SQL"].splitlines() if "fails here" in line]
    assert marked.strip().startswith("no_such_column as nothing")
    assert '"warehouse"."main"."customers"' in page["compiled SQL"]
    assert page["relation"] == '"warehouse"."main"."totals"'
    assert page["commit"] == f"{sha[:10]} count nothing"
    assert "Re-execute all (*) ▾ → From asset failure" in page["run again"]
    assert page["run"] == result.run_id
    # The same, one click from the step that failed.
    assert "model totals (models/totals.sql)" in failure(result)
    assert marked in told(result)["what failed"]
    assert told(result)["run again"] == page["run again"]


def test_a_model_that_does_not_compile_says_so_without_sql(built: Site) -> None:
    built.clone.write(
        "models/totals.sql", "select {% if execute %}{{ 1 / 0 }}{% endif %} as orders"
    )
    built.clone.push("divide")
    result = built.build()
    page = said(result, "totals")
    assert "division by zero" in page["failed"]
    assert "compiled SQL" not in page


def test_a_model_that_fails_of_an_ephemeral_one_that_it_reads_names_that(built: Site) -> None:
    built.clone.write(
        "models/half.sql",
        "{{ config(materialized='ephemeral') }} select {% if execute %}{{ 1 / 0 }}{% endif %} as n",
    )
    built.clone.write("models/totals.sql", 'select sum(n) as orders from {{ ref("half") }}')
    built.clone.push("divide by zero")
    result = built.build()
    assert said(result, "totals")[""].replace("\\", "") == (
        "Failed: Compilation Error in model half (models/half.sql): division by zero"
    )


def test_a_model_whose_batches_failed_names_them_and_shows_the_first(built: Site) -> None:
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(nothing)")
    built.clone.push("sum nothing")
    page = said(built.build(), "daily")
    assert 'Referenced column "nothing" not found' in page["failed"]
    assert page["failed batches"].startswith("batch 2024-01-0")
    [marked] = [line for line in page["compiled SQL"].splitlines() if "fails here" in line]
    assert "sum(nothing)" in marked


TWICE = """\
select customer_id, amount, 1 as orders from {{ ref("stg_orders") }}
"""
UNIQUE = "unique_customers_customer_id"


def metadata(result: dg.ExecuteInProcessResult, check: str) -> dict[str, Any]:
    """What a check says, by label."""
    found = checks(result)[check].metadata
    return {
        label: value.records if isinstance(value, dg.TableMetadataValue) else value.value
        for label, value in found.items()
    }


def test_a_skipped_model_says_because_of_whom(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "sum(nothing)")
    built.clone.push("sum nothing")
    result = built.build()
    page = said(result, "totals")
    assert page[""] == "Skipped, because this failed: model customers"
    assert page["skipped because of"] == "model customers"
    assert 'Referenced column "nothing" not found' in page["cause"]
    assert page["see"] == str(dg.AssetKey(["prod", "customers"]))
    assert said(result, "customers")[""].startswith("Failed: ")
    assert said(result, "big_customers")["skipped because of"] == "model customers"
    message, tables = summary(built, result)
    assert message == "0 built in 0.0 s, 1 failed, 2 skipped."
    assert [name for name, _ in cells(tables["not built"])] == [
        "model customers", "prod/big_customers", "prod/totals",
    ]  # fmt: skip
    assert "built" not in tables


def test_a_failed_test_says_how_many_rows_which_sql_and_since_when(built: Site) -> None:
    built.clone.write("models/customers.sql", TWICE)
    sha = built.clone.push("count customer 10 twice")
    first = built.build()
    check = metadata(first, UNIQUE)
    assert check["failed_rows"] == 1
    assert "Got 1 result, configured to fail if != 0" in check["message"]
    assert "having count(*) > 1" in check["compiled SQL"]
    assert check["fails since"] == "this run"
    assert "From asset failure" in check["run again"]
    assert check["run"] == first.run_id
    assert said(first, "totals")["skipped because of"] == f"test {UNIQUE}"
    assert "having count(*) > 1" in told(first)["what failed"]
    built.clone.write("models/totals.sql", 'select count(*) as orders from {{ ref("customers") }}')
    built.clone.push("something else")
    check = metadata(built.build(), UNIQUE)
    assert check["first failed in"] == first.run_id
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", check["fails since"])
    assert check["first failed with"] == f"{sha[:10]} count customer 10 twice"
    # The test stands in models.yml, where nobody has changed anything.
    assert check["last changed"].startswith(f"{sha[:10]} count customer 10 twice (Ann")


def test_a_failed_test_shows_some_of_its_rows(built: Site) -> None:
    built.clone.write("models/customers.sql", TWICE)
    built.clone.push("count customer 10 twice")
    check = metadata(built.build(), UNIQUE)
    assert [record.data for record in check["sample"]] == [{"unique_field": "10", "n_records": "2"}]


def test_a_sample_is_small_and_shows_values_as_they_are(built: Site) -> None:
    built.clone.write(
        "models/customers.sql",
        "select range as customer_id, repeat('<b>|`', 99) as amount, 1 as orders from range(50)",
    )
    (built.clone.folder / "dbt" / "tests").mkdir()
    built.clone.write(
        "tests/none.sql", 'select customer_id, amount, null as n from {{ ref("customers") }}'
    )
    built.clone.push("a test that wants no rows")
    check = metadata(built.build(), "none")
    assert check["failed_rows"] == 50
    assert len(check["sample"]) == 10
    [first, *_] = check["sample"]
    assert first.data["amount"].startswith("<b>|`<b>|`")
    assert len(first.data["amount"]) < 140
    assert first.data["n"] == "NULL"


def test_a_sample_that_cannot_be_taken_fails_nothing_else(built: Site) -> None:
    (built.clone.folder / "dbt" / "tests").mkdir()
    # To count the rows, nobody looks at the column.
    built.clone.write(
        "tests/bad.sql",
        "{{ config(severity='warn') }}"
        " select error('bad ' || customer_id) as one from {{ ref(\"customers\") }}",
    )
    built.clone.push("a test that counts and does not show")
    result = built.build()
    assert result.success
    check = metadata(result, "bad")
    assert "bad" in check["no sample"]
    assert check["status"] == "warn"


def test_no_rows_are_shown_of_what_holds_personal_data(built: Site) -> None:
    built.clone.write("models/customers.sql", TWICE)
    built.clone.edit(
        "models/models.yml",
        "      - name: customer_id\n",
        "      - name: customer_id\n        config: {meta: {contains_pii: true}}\n",
    )
    built.clone.push("customers are people")
    check = metadata(built.build(), UNIQUE)
    assert "sample" not in check
    assert check["no sample"] == "model customers has contains_pii"
    assert check["failed_rows"] == 1


def test_an_environment_can_show_no_rows(built: Site) -> None:
    silent = Environment(
        branch="main", target="prod", push=ALWAYS, failed_rows=FailedRows(enabled=False)
    )
    built.settings = built.settings.model_copy(update={"environments": {"prod": silent}})
    built.clone.write("models/customers.sql", TWICE)
    built.clone.push("count customer 10 twice")
    check = metadata(built.build(), UNIQUE)
    assert "sample" not in check
    assert "failed_rows.enabled is false" in check["no sample"]


def test_a_failed_unit_test_shows_the_difference_and_stops_its_model(built: Site) -> None:
    built.clone.write(
        "models/units.yml",
        "unit_tests:\n"
        "  - name: sums\n    model: totals\n"
        "    given: [{input: ref('customers'), rows: [{orders: 1}, {orders: 2}]}]\n"
        "    expect: {rows: [{orders: 4}]}\n",
    )
    built.clone.edit("models/totals.sql", "sum(orders)", "sum(orders) + 0")
    built.clone.push("a unit test")
    result = built.build()
    assert "+++,3\n---,4" in metadata(result, "sums")["message"]
    assert said(result, "totals")["skipped because of"] == "unit test sums"


def summary(site: Site, result: dg.ExecuteInProcessResult) -> tuple[str, dict[str, str]]:
    """The line that sums a run up in its log, and its tables."""
    kind = dg.DagsterEventType.ENGINE_EVENT
    [(message, found)] = [
        (event.message, event.engine_event_data.metadata)
        for entry in site.instance.all_logs(result.run_id, of_type=kind)
        if (event := entry.dagster_event)
        and {"built", "not built"} & {*event.engine_event_data.metadata}
    ]
    return message or "", {label: str(value.value) for label, value in found.items()}


def cells(markdown: str) -> list[list[str]]:
    lines = [line for line in markdown.splitlines() if line.startswith("|")][2:]
    return [
        [cell.strip().replace("\\", "") for cell in line.strip("|").split("|")] for line in lines
    ]


def test_a_run_lists_what_it_built_the_slowest_first(built: Site) -> None:
    built.clone.edit("models/stg_orders.sql", "select", "select distinct")
    built.clone.push("distinct orders")
    result = built.build()
    message, tables = summary(built, result)
    rows = cells(tables["built"])
    assert sorted(name.removeprefix("prod/") for name, *_ in rows) == [
        name for name in materialized(result) if name != "pushes"
    ]
    seconds = [float(each) for _, each, *_ in rows]
    assert seconds == sorted(seconds, reverse=True)
    by_name = {name: rest for name, *rest in rows}
    assert by_name["prod/customers"][1:] == ["3", ""]
    assert by_name["prod/daily"][2] == "3"
    assert message.startswith(f"{len(rows)} built in ")
    assert message.endswith(" s, 0 failed, 0 skipped.")
    assert "not built" not in tables


def test_a_run_lists_what_it_did_not_build_and_because_of_whom(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "sum(nothing)")
    built.clone.edit("models/stg_orders.sql", "select", "select distinct")
    built.clone.push("sum nothing")
    _, tables = summary(built, built.build())
    (failed, why), *skipped = cells(tables["not built"])
    assert failed == "model customers"
    assert why.startswith("failed: Binder Error")
    assert skipped == [
        [f"prod/{name}", "skipped, because this failed: model customers"]
        for name in ("big_customers", "totals")
    ]


def test_a_failure_says_who_changed_the_file_last(built: Site) -> None:
    built.clone.edit("models/totals.sql", "sum(orders)", "sum(nothing)")
    sha = built.clone.commit("sum nothing")
    built.clone.edit("dbt_project.yml", "big: 100", "big: 101")
    newest = built.clone.push("something else")
    page = said(built.build(), "totals")
    assert page["commit"] == f"{newest[:10]} something else"
    assert page["last changed"].startswith(f"{sha[:10]} sum nothing (Ann <ann@example.com>, 20")


def test_a_remote_that_is_gone_hides_no_failure(built: Site) -> None:
    built.clone.edit("models/totals.sql", "sum(orders)", "sum(nothing)")
    built.clone.push("sum nothing")
    request = built.request()
    built.clone.remote.rename(built.clone.home / "away.git")
    page = said(built.run(request), "totals")
    assert "Binder Error" in page["failed"]
    assert "last changed" not in page
