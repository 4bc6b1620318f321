"""A change of an incremental model and its history: real git, dbt and DuckDB."""

from __future__ import annotations

import re
import shutil
from typing import Any

import dagster as dg

from dbt_orchestration.history.order import Order
from dbt_orchestration.revisions.kept import revisions_home, revisions_in
from dbt_orchestration.settings.models import Environment, Push
from tests.automation.site import Site, names
from tests.automation.test_push import EVERYTHING
from tests.conftest import failure, materialized

DAYS = ["2024-01-01", "2024-01-02", "2024-01-03"]


def begin(site: Site) -> None:
    write_history(site)
    site.clone.push("with readers")
    assert site.build().success


def write_history(site: Site) -> None:
    site.clone.edit(
        "models/daily.sql", "lookback=0,", "lookback=0, on_schema_change='append_new_columns',"
    )
    site.clone.edit("models/daily.sql", '"end"', '"chunk": 2, "end"')
    site.clone.write("models/monthly.sql", MONTHLY)
    site.clone.write("models/peak.sql", "select max(amount) as amount from {{ ref('daily') }}")


MONTHLY = """\
{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="month_at",
    batch_size="month", begin="2024-01-01", lookback=0,
    meta={"dagster": {"partitions": {"end": "2024-02-01"}}}
) }}
select date_trunc('month', day_at) as month_at, sum(amount) as amount
from {{ ref("daily") }}
group by 1
"""


def partitions(result: dg.ExecuteInProcessResult, name: str) -> list[str | None]:
    return [
        event.materialization.partition
        for event in result.get_asset_materialization_events()
        if event.materialization.asset_key.path[-1] == name
    ]


def add_column(site: Site) -> None:
    amount = "sum(amount) as amount"
    site.clone.edit("models/daily.sql", amount, f"{amount}, count(*) as n")


def say(site: Site, on_change: str) -> None:
    """Let the model say what a change does."""
    said = f'{{"on_change": "{on_change}", "partitions"'
    site.clone.edit("models/daily.sql", '{"partitions"', said)
    site.clone.push(on_change)
    assert "nothing is due" in site.says()


def approve(site: Site, loaded: dg.Definitions | None = None) -> str:
    """What the job says that it starts."""
    return shown(form(site, loaded))["waits"]


def form(
    site: Site, loaded: dg.Definitions | None = None, **said: Any
) -> dg.ExecuteInProcessResult:
    """The job, launched with what a person has filled in."""
    job = (loaded or site.loaded["prod"]).resolve_job_def("prod_rebuild_history")
    return job.execute_in_process(
        instance=site.instance,
        run_config={
            "ops": {"prod_approve": {"config": {"reason": "so", "dry_run": False, **said}}}
        },
        tags={"user": "ann"},
        raise_on_error=False,
    )


def shown(result: dg.ExecuteInProcessResult) -> dict[str, str]:
    """What a form's run shows."""
    [event] = [e for e in result.all_events if e.is_successful_output]
    return {k: str(v.value) for k, v in event.step_output_data.metadata.items()}


def observed(site: Site, name: str) -> dict[str, Any]:
    """What an asset says of the history that waits."""
    [record] = site.instance.fetch_observations(dg.AssetKey(["prod", name]), limit=1).records
    event = record.asset_observation
    assert event is not None
    return {"said": event.description, **{k: v.value for k, v in event.metadata.items()}}


def daily(site: Site) -> list[tuple[Any, ...]]:
    return site.query("select * from main.daily order by 1")


def test_a_change_of_logic_rebuilds_every_partition_and_who_reads_it(built: Site) -> None:
    before = daily(built)
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence")
    request = built.request()
    assert names(request) == ["daily", "monthly", "peak"]
    assert Order.of_tags(request.tags).partitions == {
        "model.shop.daily": ["2024-01-01..2024-01-03"],
        "model.shop.monthly": ["2024-01-01"],
    }
    assert request.tags["dbt/why"].startswith("3 nodes (4 partitions rebuilt) of 9")
    result = built.run(request)
    assert result.success
    # the newest batch first, each with its days in order
    assert partitions(result, "daily") == ["2024-01-02", "2024-01-03", "2024-01-01"]
    assert daily(built) == [(day, amount * 10) for day, amount in before]
    assert "nothing is due" in built.says()


def test_an_added_column_is_appended_and_filled(built: Site) -> None:
    before = daily(built)
    built.clone.edit(
        "models/daily.sql", "sum(amount) as amount", "sum(amount) as amount, count(*) as n"
    )
    built.clone.push("count")
    request = built.request()
    assert names(request) == ["daily"]
    assert built.run(request).success
    assert [row[:2] for row in daily(built)] == before
    assert all(row[2] >= 1 for row in daily(built))
    assert "nothing is due" in built.says()


def test_what_failed_of_the_history_is_due_and_nothing_else(built: Site) -> None:
    built.clone.edit(
        "models/daily.sql",
        "sum(amount)",
        "sum(case when ordered_at = timestamp '2024-01-01' then ('no' || amount)::bigint"
        " else amount * 2 end)",
    )
    built.clone.push("a broken day")
    assert not built.build().success
    assert "still due, and tried already" in built.says()
    built.clone.push("again")
    request = built.request()
    assert Order.of_tags(request.tags).partitions["model.shop.daily"] == ["2024-01-01"]


def test_a_model_that_asks_waits_for_a_person(built: Site) -> None:
    before = daily(built)
    say(built, "ask")
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("in pence")
    request = built.request()
    assert names(request) == ["big_customers", "customers"]
    assert built.run(request).success
    said = built.says()
    assert (
        "nothing else is due. Waits for you: to rebuild daily (3 partitions), monthly (1 partition)"
        in said
    )
    assert re.search(
        ", and 1 that read them; about .*\\. Launch the job prod_rebuild_history", said
    )
    assert daily(built) == before
    assert approve(built).startswith("rebuild daily (3 partitions), monthly (1 partition), and 1")
    request = built.request()
    assert re.search("; ann let history be rebuilt \\(run .{8}: so\\)$", request.tags["dbt/why"])
    assert names(request) == ["daily", "monthly", "peak"]
    assert built.run(request).success
    assert daily(built) == [(day, amount * 10) for day, amount in before]
    assert "nothing is due" in built.says()
    assert approve(built) == "nothing waits"


def test_an_asset_says_what_of_it_waits(built: Site) -> None:
    say(built, "ask")
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence")
    assert "Waits for you" in built.says()
    said = observed(built, "daily")
    assert said["said"].startswith("Built by older code, and waits for you: 3 partitions, about ")
    assert said["partitions of older code"] == 3
    assert "daily ← SQL (models/daily.sql)" in said["why"]
    built.says()
    daily = dg.AssetKey(["prod", "daily"])
    assert len(built.instance.fetch_observations(daily, limit=9).records) == 1
    built.clone.edit("models/daily.sql", "sum(amount) * 10", "sum(amount)")
    built.clone.push("back")
    assert "nothing is due" in built.says()
    assert observed(built, "daily")["said"] == "No part of its history waits for you any more."


def test_a_person_lets_new_partitions_only_have_the_code_of_a_change(built: Site) -> None:
    before = daily(built)
    say(built, "ask")
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence")
    waits = built.says()
    assert "Waits for you: to rebuild daily (3 partitions), monthly (1 partition)" in waits
    plan = shown(form(built, new_partitions_only=True, dry_run=True))["plan"]
    assert "| daily | the partition 2024-01-03 | " in plan
    assert built.says() == waits
    form(built, new_partitions_only=True)
    request = built.request()
    assert names(request) == ["daily", "monthly", "peak"]
    assert built.run(request).success
    assert "nothing is due" in built.says()
    *old, (day, amount) = before
    assert daily(built) == [*old, (day, amount * 10)]
    built.clone.write("models/other.sql", "select 1 as one")
    built.clone.push("another model")
    assert names(built.request()) == ["other"]
    built.clone.edit("models/daily.sql", "sum(amount) * 10", "sum(amount) * 100")
    built.clone.push("another change")
    built.build()
    assert "Waits for you: to rebuild daily (3 partitions)" in built.says()
    assert approve(built)
    built.build()
    assert daily(built) == [(day, amount * 100) for day, amount in before]


def test_a_table_that_is_built_from_nothing_has_no_new_partitions_only(built: Site) -> None:
    say(built, "ask")
    built.clone.edit("models/daily.sql", "sum(amount)", "cast(sum(amount) as varchar)")
    built.clone.push("as text")
    assert "Waits for you" in built.says()
    refused = form(built, models=["daily"], new_partitions_only=True)
    assert "Nothing was started: new_partitions_only: the change of daily calls" in failure(refused)


def test_history_is_looked_at_before_it_is_started(built: Site) -> None:
    say(built, "ask")
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence")
    assert "Waits for you" in built.says()
    said = shown(form(built, dry_run=True))
    assert "| daily | 3 partitions, 2024-01-01 to 2024-01-03 | " in said["plan"]
    assert "| peak | as a whole | " in said["plan"]
    assert said["next"] == "Nothing was started: launch it with dry_run: false."
    assert "Waits for you" in built.says()


def test_some_of_the_history_that_waits_is_started(built: Site) -> None:
    prod = built.settings.environments["prod"].model_copy(update={"on_change": "ask"})
    built.settings = built.settings.model_copy(update={"environments": {"prod": prod}})
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.edit("models/kept.sql", "amount * 2 as", "amount * 3 as")
    built.clone.push("in pence")
    built.load()
    assert "to rebuild daily (3 partitions), kept (whole), monthly (1 p" in built.says()
    assert "models: peak does not wait; what waits is daily, " in failure(
        form(built, models=["peak"])
    )
    misspelt = "Nothing was started: there is no model 'dayly': did you mean daily?"
    assert failure(form(built, models=["dayly"])) == misspelt
    assert shown(form(built, models=["kept"]))["waits"].startswith("rebuild kept (whole); about ")
    request = built.request()
    assert names(request) == ["kept"]
    assert built.run(request).success
    assert "Waits for you: to rebuild daily (3 partitions), monthly (1 partition)" in built.says()
    # What it reads is of older code as well, so that is started with it.
    assert shown(form(built, models=["monthly"]))["waits"].startswith("rebuild daily (3 partitions")
    assert names(built.request()) == ["daily", "monthly", "peak"]
    assert built.build().success
    assert "nothing is due" in built.says()


def test_a_click_on_a_page_of_the_commit_before_starts_what_the_sensor_said(built: Site) -> None:
    """The webserver learns a moment after the daemon that a code location has loaded a commit."""
    say(built, "ask")
    before = built.loaded["prod"]
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence")
    assert "Waits for you: to rebuild daily (3 partitions)" in built.says()
    assert approve(built, before).startswith("rebuild daily (3 partitions)")
    assert names(built.request()) == ["daily", "monthly", "peak"]


def test_a_build_of_the_day_leaves_history_that_waits_due(built: Site) -> None:
    before = daily(built)
    say(built, "ask")
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence")
    assert "Waits for you" in built.says()
    assert built.materialize(*EVERYTHING, "monthly", "peak").success
    assert [amount for _, amount in daily(built)] == [b for _, b in before[:2]] + [
        before[2][1] * 10
    ]
    said = built.says()
    assert "Waits for you: to rebuild daily (2 partitions)" in said
    approve(built)
    request = built.request()
    assert names(request) == ["daily", "monthly", "peak"]
    assert Order.of_tags(request.tags).partitions["model.shop.daily"] == ["2024-01-01..2024-01-02"]
    assert built.run(request).success
    assert "nothing is due" in built.says()


def test_above_the_limit_nothing_starts_by_itself(built: Site) -> None:
    prod = Environment(
        branch="main", target="prod", push=Push(interval_seconds=1, max_partitions=3)
    )
    built.settings = built.settings.model_copy(update={"environments": {"prod": prod}})
    built.load()
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence")
    assert "Waits for you: to rebuild daily (3 partitions), monthly (1 partition)" in built.says()


def test_a_table_that_must_be_made_anew_waits_and_is_added_to(built: Site) -> None:
    before = daily(built)
    say(built, "ask")
    anew(built)
    assert "Waits for you: to rebuild daily (3 partitions)" in built.says()
    assert built.materialize("daily").success  # as the build of the day does
    assert [row[:2] for row in daily(built)] == before
    assert "Waits for you: to rebuild daily (3 partitions)" in built.says()
    approve(built)
    assert built.build().success
    assert [len(row) for row in daily(built)] == [3, 3, 3]
    assert "nothing is due" in built.says()


def test_an_environment_may_leave_history_as_it_is(built: Site) -> None:
    before = daily(built)
    prod = built.settings.environments["prod"].model_copy(update={"on_change": "forward_only"})
    built.settings = built.settings.model_copy(update={"environments": {"prod": prod}})
    built.load()
    anew(built)
    request = built.request()
    assert not Order.of_tags(request.tags).rebuild
    assert built.run(request).success
    assert daily(built) == before
    assert "nothing is due" in built.says()


def anew(site: Site) -> None:
    """A change that dbt would not bring into the table."""
    add_column(site)
    site.clone.edit("models/daily.sql", "append_new_columns", "ignore")
    site.clone.push("count")


def test_forward_only_changes_nothing_behind(built: Site) -> None:
    before = daily(built)
    say(built, "forward_only")
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence")
    request = built.request()
    assert "model.shop.daily" not in Order.of_tags(request.tags).partitions
    assert built.run(request).success
    assert daily(built)[:2] == before[:2]
    assert daily(built)[2][1] == before[2][1] * 10
    assert "nothing is due" in built.says()
    # also not when nobody knows any more what the old partitions were built with
    for number in range(3):
        built.clone.edit("models/daily.sql", "select", f"select /* {number} */")
        built.clone.push(f"comment {number}")
        assert "nothing is due" in built.says()
    forget_revisions(built)
    assert "nothing is due" in built.says()


def test_history_that_was_left_alone_does_not_count_as_newer_code_for_ever(built: Site) -> None:
    before = daily(built)
    say(built, "forward_only")
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence")
    assert built.build().success
    built.clone.edit("models/daily.sql", "sum(amount) * 10", "sum(amount)")
    built.clone.edit("models/daily.sql", "forward_only", "rebuild")
    built.clone.push("in pounds again")
    assert built.build().success
    assert daily(built) == before
    assert "nothing is due" in built.says()
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence, all of it")
    assert built.build().success
    assert [row[1] for row in daily(built)] == [row[1] * 10 for row in before]
    assert "nothing is due" in built.says()


def forget_revisions(site: Site) -> None:
    """All but the newest: what older ones built cannot be explained any more."""
    home = revisions_home(site.settings, "prod")
    loaded = revisions_in(revisions_home(site.settings, "prod"))[0].digest
    for folder in home.iterdir():
        if folder.is_dir() and folder.name != loaded:
            shutil.rmtree(folder)
    (home / f"{loaded}.why.json").unlink(missing_ok=True)


def test_a_removed_column_makes_the_table_anew_beside_the_old_one(built: Site) -> None:
    add_column(built)
    built.clone.push("count")
    assert built.build().success
    built.query("comment on table main.daily is 'by hand'")
    built.query("comment on column main.daily.amount is 'in pounds'")
    built.clone.edit("models/daily.sql", ", count(*) as n", "")
    built.clone.push("no count")
    request = built.request()
    assert Order.of_tags(request.tags).rebuild == ["model.shop.daily"]
    result = built.run(request)
    assert result.success
    assert sorted(str(p) for p in partitions(result, "daily")) == DAYS
    assert [len(row) for row in daily(built)] == [2, 2, 2]
    assert built.query("select comment from duckdb_tables() where table_name = 'daily'") == [
        ("by hand",)
    ]
    assert ("in pounds",) in built.query(
        "select comment from duckdb_columns() where table_name = 'daily'"
    )
    assert tables(built, "daily") == ["daily"]
    assert "nothing is due" in built.says()


def tables(site: Site, name: str) -> list[str]:
    rows = site.query("select table_name from duckdb_tables() order by 1")
    return [table for (table,) in rows if table.startswith(name)]


def test_a_failed_test_keeps_the_old_table(built: Site) -> None:
    before = daily(built)
    (built.clone.folder / "dbt" / "tests").mkdir()
    built.clone.write(
        "tests/daily_is_small.sql", "select * from {{ ref('daily') }} where amount > 500"
    )
    built.clone.push("test")
    assert built.build().success
    built.clone.edit("models/daily.sql", "sum(amount) as amount", "sum(amount) * 10 as amount")
    built.clone.edit(
        "models/daily.sql",
        "date_trunc('day', ordered_at) as day_at,",
        "date_trunc('day', ordered_at)::timestamp as day_at, 1 as one,",
    )
    built.clone.edit("models/daily.sql", "append_new_columns", "ignore")
    built.clone.push("in pence")
    request = built.request()
    assert Order.of_tags(request.tags).rebuild == ["model.shop.daily"]
    result = built.run(request)
    assert "daily_is_small" in failure(result)
    assert partitions(result, "daily") == []
    assert daily(built) == before
    assert materialized(result) == ["pushes"]
    assert "still due, and tried already" in built.says()
