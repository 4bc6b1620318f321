"""The form that goes on with the daily build."""

from __future__ import annotations

import dagster as dg

from tests.automation.site import Site, names
from tests.automation.test_history import partitions
from tests.conftest import checks, failure
from tests.operations.forms import rows, shown, started

FORM = "resume_daily_build"


def daily(site: Site) -> dg.ExecuteInProcessResult:
    job = site.load().resolve_job_def("prod_full_build")
    return job.execute_in_process(instance=site.instance, raise_on_error=False)


def push(site: Site, message: str) -> None:
    """A commit that is loaded, and builds nothing yet."""
    site.clone.push(message)
    site.request()


def test_what_failed_and_what_was_not_reached_is_built_with_the_fix(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "sum(amount) / cast('x' as integer)")
    push(built, "wrong")
    assert not daily(built).success
    other = built.instance.create_run_for_job(
        built.loaded["prod"].resolve_implicit_global_asset_job_def(),
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({dg.AssetKey(["prod", "totals"])}),
    )
    said = failure(built.launch(FORM))
    assert f"run {other.run_id[:8]} is building some of what is left" in said
    built.instance.report_run_canceled(other)
    # The fix comes, and somebody builds some of it.
    built.clone.edit("models/customers.sql", " / cast('x' as integer)", " * 2")
    push(built, "right")
    assert built.materialize("customers", "totals").success
    asked, again = built.launch(FORM), built.launch(FORM)  # a double click
    assert rows(shown(asked)["plan"]) == [
        ["big\\_customers", "not reached"],
        ["big_customers", "as a whole", "a second"],
    ]
    [request] = started(built)
    assert names(request) == ["big_customers"]
    assert request.tags["dbt/why"].startswith(
        f"run {asked.run_id[:8]} goes on with the daily build"
    )
    twice = built.instance.get_run_by_id(again.run_id)
    assert twice
    assert twice.tags["dbt/why"].startswith("asks for what another one asked for at the same time")
    assert built.run(request).success
    assert built.query("select sum(amount) from main.big_customers") == [(800,)]
    assert "was built since" in shown(built.launch(FORM))["next"]
    assert started(built) == []


def test_a_model_whose_test_failed_is_built_again_with_what_reads_it(built: Site) -> None:
    built.load()
    built.clone.edit("seeds/raw_orders.csv", "4,30,25", "3,30,25")
    built.clone.write(
        "models/stg.yml",
        "models: [{name: stg_orders, columns: [{name: order_id, data_tests: [unique]}]}]",
    )
    push(built, "an order twice")
    assert not daily(built).success
    said = shown(built.launch(FORM, dry_run=True))["plan"]
    found = {row[0].replace("\\", ""): row[1] for row in rows(said)}
    assert "Got 1 result" in found["unique_stg_orders_order_id"]
    assert found["stg_orders"] == "as a whole"
    assert "raw_orders" not in found
    assert started(built) == []
    built.clone.edit("seeds/raw_orders.csv", "3,30,25", "4,30,25")
    push(built, "once")
    assert built.materialize("raw_orders").success
    built.launch(FORM)
    [request] = started(built)
    assert names(request) == sorted(
        ["big_customers", "customers", "daily", "kept", "monthly", "peak", "stg_orders", "totals"]
    )
    result = built.run(request)
    assert result.success
    assert all(check.passed for check in checks(result).values())
    assert "nothing is left" in shown(built.launch(FORM))["next"]


DAYS = """\
{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="day_at",
    batch_size="day", begin="2024-01-01", lookback=0,
    meta={"dagster": {"partitions": {"chunk": 1, "end": "2024-01-04"}}}
) }}
select date_trunc('day', ordered_at) as day_at, sum(amount) as amount
from {{ ref("stg_orders") }}
where cast(case when day(ordered_at) = 2 then 'x' else '1' end as integer) = 1
group by 1
"""


def test_the_partitions_that_were_to_be_built_are_built(built: Site) -> None:
    built.clone.write("models/days.sql", DAYS)
    push(built, "a day that fails")
    assert not daily(built).success
    built.clone.edit("models/days.sql", "then 'x'", "then '1'")
    push(built, "a day that does not")
    said = shown(built.launch(FORM))["plan"]
    assert ["days", "the partition 2024-01-02"] in [row[:2] for row in rows(said)]
    [request] = started(built)
    assert names(request) == ["days"]
    result = built.run(request)
    assert result.success
    assert partitions(result, "days") == ["2024-01-02"]
    assert built.query("select count(*) from main.days") == [(3,)]


def test_where_nothing_is_left_it_says_so(built: Site) -> None:
    assert "There was no daily build of prod yet." in shown(built.launch(FORM))["next"]
    assert daily(built).success
    assert "has succeeded" in shown(built.launch(FORM))["next"]
    assert started(built) == []


def test_a_build_that_still_goes_on_is_left_alone(built: Site) -> None:
    job = built.load().resolve_job_def("prod_full_build")
    run = built.instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED)
    assert f"still goes on: wait for run {run.run_id[:8]}." in failure(built.launch(FORM))
