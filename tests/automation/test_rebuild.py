"""The form that rebuilds by hand: it shows what it would do, and then does it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import dagster as dg
import pytest
from dagster._core.execution.api import create_execution_plan

from dbt_orchestration import dagster_internals
from dbt_orchestration.automation.outcome import Outcome, findings
from dbt_orchestration.history.order import Order
from tests.automation import test_history
from tests.automation.site import Site, names
from tests.automation.test_history import DAYS, daily, partitions, say
from tests.conftest import failure

begin = test_history.begin


def fill_in(site: Site, **form: Any) -> dg.ExecuteInProcessResult:
    return site.launch("rebuild", "ann", **{"reason": "so", **form})


def shown(result: dg.ExecuteInProcessResult) -> Mapping[str, str]:
    [event] = [e for e in result.all_events if e.is_successful_output]
    return {k: str(v.value) for k, v in event.step_output_data.metadata.items()}


def started(site: Site, name: str = "prod") -> list[dg.RunRequest]:
    """What the sensor beside the form asks for."""
    definitions, sensor = site.loaded[name], f"{name}_rebuild"
    with dg.build_sensor_context(
        site.instance, cursor=site.cursors.get(sensor), definitions=definitions
    ) as context:
        data = definitions.resolve_sensor_def(sensor).evaluate_tick(context)
    site.cursors[sensor] = data.cursor
    return list(data.run_requests or ())


def test_nothing_starts_before_it_is_said(built: Site) -> None:
    result = fill_in(built, model="daily", since="2024-01-02", until="2024-01-03")
    said = shown(result)
    assert said["command"] == (
        "dbt build --select daily+ --event-time-start 2024-01-02 --event-time-end 2024-01-04"
    )
    assert "| daily | 2 partitions, 2024-01-02 to 2024-01-03 | " in said["plan"]
    assert "| monthly | the partition 2024-01-01 | a second |" in said["plan"]
    assert "| peak | as a whole | a second |" in said["plan"]
    assert "Nothing was started" in said["next"]
    assert started(built) == []


def rows(plan: str) -> dict[str, str]:
    """What is built of each model, as the form shows it."""
    lines = [line.strip("| ").split(" | ") for line in plan.splitlines() if line.startswith("|")]
    return {name: what for name, what, _ in lines[2:]}


def built_by(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What a run built of each model, in the same words; how it made a table is not told."""
    found: dict[str, str] = {}
    for event in result.get_asset_materialization_events():
        name = event.materialization.asset_key.path[-1]
        keys = sorted(key for key in partitions(result, name) if key)
        several = f"{len(keys)} partitions, {keys[0]} to {keys[-1]}" if len(keys) > 1 else ""
        found[name] = several or (f"the partition {keys[0]}" if keys else "as a whole")
    return found


@pytest.mark.parametrize(
    "form",
    [
        {"model": "daily", "since": "2024-01-02", "until": "2024-01-03"},
        {"model": "daily", "since": "2024-01-02", "include_downstream": False},
        {"model": "daily", "full_refresh": True},
        {"model": "monthly"},
        {"model": "peak"},
    ],
)
def test_what_is_shown_is_what_the_run_does(built: Site, form: Mapping[str, Any]) -> None:
    plan = shown(fill_in(built, **form, dry_run=False))["plan"]
    [request] = started(built)
    result = built.run(request)
    assert result.success
    whole = {name: what.removeprefix("from nothing: ") for name, what in rows(plan).items()}
    assert whole == built_by(result)
    recreated = {name for name, what in rows(plan).items() if what.startswith("from nothing")}
    assert recreated == ({"daily", "monthly"} if "full_refresh" in form else set())


def test_the_form_shows_what_the_run_finds_out_of_a_change(built: Site) -> None:
    say(built, "ask")
    built.clone.edit("models/daily.sql", "sum(amount)", "cast(sum(amount) as varchar)")
    built.clone.push("as text")
    built.says()
    said = shown(fill_in(built, model="daily", since="2024-01-02", until="2024-01-02"))["plan"]
    assert "daily: its change calls for a table that is built from nothing" in said


def test_what_an_earlier_version_was_asked_for_is_still_done(built: Site) -> None:
    daily, keys = "model.shop.daily", ["2024-01-02..2024-01-03"]
    asked = fill_in(built, model="daily")
    said = json.dumps({"nodes": [daily], "config": {"partitions": {daily: keys}}})
    built.instance.add_run_tags(asked.run_id, {".dagster/dbt_rebuild": said})
    [request] = started(built)
    assert names(request) == ["daily"]
    assert Order.of_tags(request.tags).partitions == {daily: keys}


def test_a_request_whose_model_is_gone_is_refused(built: Site) -> None:
    fill_in(built, model="peak", dry_run=False)
    (built.clone.folder / "dbt/models/peak.sql").unlink()
    built.clone.push("no peak")
    built.says()
    assert started(built) == []


def test_an_order_waits_for_the_commit_that_it_is_about(built: Site) -> None:
    """A webserver may know of a commit before the sensor beside the form does."""
    built.load()
    built.clone.write("models/fresh.sql", "select 1 as one")
    built.clone.push("a model")
    while Outcome.LOADING not in [f.outcome for f in findings(built.cursors.get("prod"))]:
        built.tick()
    asked = fill_in(built, model="fresh", dry_run=False)
    assert asked.success, failure(asked)
    assert started(built) == []
    built.load()
    [request] = started(built)
    assert names(request) == ["fresh"]
    assert started(built) == []


def test_the_form_that_nobody_filled_in_says_what_is_missing(built: Site) -> None:
    result = (
        built.load()
        .resolve_job_def("prod_rebuild")
        .execute_in_process(instance=built.instance, raise_on_error=False)
    )
    assert "Nothing was started: no model is named: write its name as model." in failure(result)


def test_a_range_is_rebuilt_with_what_reads_it(built: Site) -> None:
    built.load()
    built.query("update main.daily set amount = 0")
    asked = fill_in(built, model="daily", since="2024-01-02", until="2024-01-03", dry_run=False)
    assert asked.dagster_run.tags["dbt/environment"] == "prod"
    [request] = started(built)
    assert request.tags["dbt/environment"] == "prod"
    assert request.tags["dbt/why"] == f"run {asked.run_id[:8]} asks to rebuild daily: so"
    assert started(built) == []
    assert names(request) == ["daily", "monthly", "peak"]
    result = built.run(request)
    assert result.success
    assert partitions(result, "daily") == ["2024-01-02", "2024-01-03"]
    assert partitions(result, "monthly") == ["2024-01-01"]
    assert [amount for _, amount in daily(built)] == [0, 350, 25]


def test_a_table_is_made_anew_alone(built: Site) -> None:
    built.load()
    built.query("update main.daily set amount = 0")
    fill_in(built, model="daily", include_downstream=False, full_refresh=True, dry_run=False)
    [request] = started(built)
    assert names(request) == ["daily"]
    result = built.run(request)
    assert result.success
    assert sorted(map(str, partitions(result, "daily"))) == DAYS
    assert [amount for _, amount in daily(built)] == [50, 350, 25]


@pytest.mark.parametrize(
    ("form", "why"),
    [
        ({"model": "dayly"}, "there is no model 'dayly': did you mean daily?"),
        ({"model": "peak", "since": "2024-01-01"}, "peak has no partitions"),
        ({"model": "daily", "since": "yesterday"}, "since: 'yesterday' is no date"),
        ({"model": "daily", "since": "2023-12-31"}, "since: 2023-12-31 is not within"),
        ({"model": "daily", "since": "2030-01-01"}, "since: 2030-01-01 is not within"),
        ({"model": "daily", "until": "2030-01-01"}, "until: 2030-01-01 is not within"),
        (
            {"model": "daily", "since": "2024-01-03", "until": "2024-01-02"},
            "before since 2024-01-03",
        ),
        ({"model": "daily", "since": "2024-01-03", "full_refresh": True}, "leave the range empty"),
        ({"model": "daily", "only_reloaded": True}, "nothing that daily reads was loaded again"),
    ],
)
def test_what_cannot_be_is_said_before_anything_starts(
    built: Site,
    form: Mapping[str, Any],
    why: str,
) -> None:
    built.load()
    result = fill_in(built, **form, dry_run=False)
    assert why in failure(result)
    assert started(built) == []


def test_the_form_waits_for_no_build(built: Site) -> None:
    """A build has a place in the warehouse's pool, and the next one waits for it."""
    definitions = built.load()

    def pools(name: str) -> set[str]:
        job = definitions.resolve_job_def(f"prod_{name}")
        plan = create_execution_plan(job)
        run = built.instance.create_run_for_job(job, execution_plan=plan)
        return set(dagster_internals.pools_of(run))

    assert pools("full_build") == {built.settings.pool}
    forms = ("rebuild", "rebuild_history", "run_now", "resume_daily_build")
    assert not set[str]().union(*map(pools, forms))
