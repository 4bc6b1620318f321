"""dbt retry: a run that goes on from one that did not succeed."""

from __future__ import annotations

import dagster as dg

from tests.automation.site import Site, names
from tests.automation.test_history import partitions
from tests.conftest import failure, materialized
from tests.operations.forms import rows, shown, started
from tests.operations.test_resume import DAYS, push

RETRY = {"command": "retry", "reason": "mended"}


def test_what_a_run_did_not_build_is_built_with_what_it_was_told(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "sum(amount) / cast('x' as integer)")
    built.clone.edit("models/kept.sql", "select", "select {{ var('n', 1) }} as n,")
    push(built, "wrong")
    wanted = {"select": "customers kept totals", "vars": {"n": 7}, "reason": "so"}
    built.launch("dbt", command="build", **wanted)
    [request] = started(built)
    run = built.run(request)
    assert not run.success
    built.clone.edit("models/customers.sql", " / cast('x' as integer)", " * 2")
    push(built, "right")
    dry = shown(built.launch("dbt", **RETRY, dry_run=True))
    assert ["totals", "not reached"] in rows(dry["plan"])
    assert started(built) == []
    built.launch("dbt", **RETRY, run=run.run_id[:8])
    [request] = started(built)
    assert names(request) == ["customers", "totals"]
    assert f"wants dbt retry of run {run.run_id[:8]}: mended" in request.tags["dbt/why"]
    assert request.tags["dagster/parent_run_id"] == run.run_id
    assert request.run_config == {
        "ops": {
            "dbt_prod": {
                "config": {"full_refresh": False, "vars": {"n": 7}, "exclude_tests": False}
            }
        }
    }
    result = built.run(request)
    assert result.success
    assert materialized(result) == ["customers", "totals"]
    said = failure(built.launch("dbt", **RETRY, run=run.run_id))
    assert f"run {result.run_id[:8]} has succeeded: nothing of it is left." in said


def test_of_a_history_the_days_are_built_that_failed(built: Site) -> None:
    built.clone.write("models/days.sql", DAYS.replace("then 'x'", "then '1'"))
    push(built, "days")
    assert built.build_all()
    built.clone.write("models/days.sql", DAYS.replace("sum(amount)", "sum(amount) * 2"))
    push(built, "a day that fails")
    built.launch("rebuild", model="days", reason="twice", dry_run=False)
    [request] = started(built)
    run = built.run(request)
    assert not run.success
    built.clone.edit("models/days.sql", "then 'x'", "then '1'")
    push(built, "a day that does not")
    asked = shown(built.launch("dbt", **RETRY))
    assert ["days", "the partition 2024-01-02"] in [row[:2] for row in rows(asked["plan"])]
    [request] = started(built)
    assert names(request) == ["days"]
    result = built.run(request)
    assert result.success
    assert partitions(result, "days") == ["2024-01-02"]
    assert "has succeeded" in failure(built.launch("dbt", **RETRY, run=run.run_id))


def test_what_cannot_be_is_refused_in_one_line(built: Site) -> None:
    form = built.launch("run_now", select="totals", reason="x", dry_run=True).run_id
    works = built.instance.create_run_for_job(
        built.loaded["prod"].resolve_implicit_global_asset_job_def(),
        status=dg.DagsterRunStatus.STARTED,
        tags={"dbt/environment": "prod"},
    ).run_id
    wrong = {
        "": "run: no build of prod has failed lately.",
        "so": "run: 'so' is no id of a run, nor the beginning of one.",
        "0000": "run: none of prod's last runs begins with 0000: see Runs for the id",
        form[:8]: f"run: {form[:8]} has built no model, seed or snapshot of prod: launch prod_run",
        works: f"run: run {works[:8]} still goes on",
    }
    for said, why in wrong.items():
        line = failure(built.launch("dbt", **RETRY, run=said))
        assert line.startswith(f"Nothing was started: {why}")
        assert "\n" not in line
    assert "reason: say in" in failure(built.launch("dbt", command="retry"))
    assert started(built) == []
