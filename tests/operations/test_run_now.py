"""The form that runs models at once."""

from __future__ import annotations

import dagster as dg

from dbt_orchestration import dagster_internals
from tests.automation.site import Site, names
from tests.conftest import checks, failure
from tests.operations.forms import rows, shown, started


def test_models_run_ahead_of_the_queue_with_the_reason_on_record(built: Site) -> None:
    built.load()
    built.query("update main.customers set amount = 0")
    asked = built.launch("run_now", select="customers+ peak", exclude="totals", reason="the CFO")
    said = shown(asked)
    assert [row[0] for row in rows(said["plan"])] == ["customers", "big_customers", "peak"]
    assert "Nothing else works on the warehouse." in said["plan"]
    [request] = started(built)
    assert names(request) == ["big_customers", "customers", "peak"]
    run = f"run {asked.run_id[:8]}"
    assert request.tags["dbt/why"] == f"{run} wants customers+ peak at once: the CFO"
    assert request.tags["dagster/priority"] == "10"
    result = built.run(request)
    assert result.success
    assert [check.passed for check in checks(result).values()] == [True]
    assert built.query("select sum(amount) from main.customers") == [(425,)]
    assert started(built) == []


def test_tables_are_made_from_nothing_with_vars_and_without_tests(built: Site) -> None:
    built.load()
    built.query("delete from main.kept where order_id = 1")
    wanted = {"full_refresh": True, "vars": {"big": 0}, "exclude_tests": True}
    form = {"select": "kept customers big_customers", "reason": "a correction", **wanted}
    dry = shown(built.launch("run_now", **form))  # a full refresh is only shown
    assert {row[0]: row[1] for row in rows(dry["plan"])} == {
        "kept": "from nothing",
        "customers": "as a whole",
        "big_customers": "as a whole",
    }
    assert "Nothing was started" in dry["next"]
    assert started(built) == []
    built.launch("run_now", **form, dry_run=False)
    [request] = started(built)
    result = built.run(request)
    assert result.success
    assert checks(result) == {}
    assert built.query("select count(*) from main.kept") == [(4,)]
    assert built.query("select count(*) from main.big_customers") == [(3,)]


def test_selectors_and_paths_of_the_project_are_known(built: Site) -> None:
    built.load()
    mine = "selectors: [{name: mine, definition: {method: fqn, value: customers}}]\n"
    built.clone.write("selectors.yml", mine)
    built.clone.push("a selector")
    built.build_all()
    for select in ("selector:mine", "path:models/customers.sql"):
        asked = shown(built.launch("run_now", select=select, reason="now", dry_run=True))
        assert [row[0] for row in rows(asked["plan"])] == ["customers"], select
    built.clone.write("selectors.yml", mine.replace("customers", "totals"))
    built.clone.push("another one")
    built.build_all()
    asked = shown(built.launch("run_now", select="selector:mine", reason="now", dry_run=True))
    assert [row[0] for row in rows(asked["plan"])] == ["totals"]


WRONG = {
    "reason: say in a few words why": {"select": "customers", "reason": " "},
    "select: there is no model 'custmers': did you mean customers?": {"select": "custmers+"},
    "exclude: there is no model 'total': did you mean totals?": {
        "select": "customers+",
        "exclude": "total",
    },
    "select: --target is an option: leave it out": {"select": "customers --target dev"},
    "select: 'tag:finance' matches nothing": {"select": "customers tag:finance"},
    "select: write names of models": {},
}


def test_what_cannot_be_is_refused_in_one_line(built: Site) -> None:
    built.load()
    for why, form in WRONG.items():
        said = failure(built.launch("run_now", **{"reason": "now", **form}))
        assert said.startswith(f"Nothing was started: {why}")
        assert "\n" not in said
    assert started(built) == []


def test_the_page_says_what_it_waits_for(built: Site) -> None:
    definitions, instance = built.load(), built.instance
    dagster_internals.set_pool_limit(instance, built.settings.pool, 2)
    job = definitions.resolve_job_def("prod_full_build")
    runs = [
        instance.create_run_for_job(
            job,
            status=dg.DagsterRunStatus.STARTED,
            asset_selection=frozenset({dg.AssetKey(["prod", name])}),
        ).run_id[:8]
        for name in ("customers", "peak")
    ]
    plan = shown(built.launch("run_now", select="totals", reason="now", dry_run=True))["plan"]
    assert f"Run {runs[0]} has still to build customers: this waits until that is built." in plan
    assert f"Run {runs[1]} shares no table with this: neither waits for the other." in plan
