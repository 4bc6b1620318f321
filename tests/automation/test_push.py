"""A push builds exactly what it changed: real git, dbt and DuckDB, and ticks when asked for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import TypeAdapter, ValidationError

from dbt_orchestration import dagster_internals
from dbt_orchestration.automation import tick, wanted
from dbt_orchestration.changes import fingerprints
from dbt_orchestration.changes.terms import digest
from dbt_orchestration.history.order import Order
from dbt_orchestration.ledger import due
from dbt_orchestration.ledger.run_tags import SHA_TAG
from dbt_orchestration.ledger.staleness import Staleness, staleness
from dbt_orchestration.revisions.explanation import Recorded
from dbt_orchestration.revisions.follow import Follower
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.revisions.store import publish, published
from dbt_orchestration.settings.models import Environment, Git, Push
from dbt_orchestration.settings.types import OUR_JOBS, JobName
from tests.automation.site import (
    ALWAYS,
    SHOP,
    Clone,
    Site,
    follow,
    git,
    launched_by,
    names,
)
from tests.conftest import failure, materialized
from tests.instances import dagster_in

EVERYTHING = ["big_customers", "customers", "daily", "kept", "raw_orders", "stg_orders", "totals"]


@pytest.fixture
def persistent(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    with dagster_in(tmp_path) as instance:
        yield instance


@pytest.fixture
def site(tmp_path: Path, persistent: dg.DagsterInstance) -> Site:
    return Site.of(tmp_path, persistent)


def begin(site: Site) -> None:
    assert names(request := site.request()) == EVERYTHING
    assert site.run(request).success
    assert site.query("select orders from main.totals") == [(4,)]
    assert "nothing is due; all 7 nodes are as it says" in site.says()


def last(site: Site, name: str) -> dg.AssetMaterialization:
    event = site.instance.get_latest_materialization_event(dg.AssetKey(["prod", name]))
    assert event is not None
    assert event.asset_materialization is not None
    return event.asset_materialization


def shown(tags: Mapping[str, str]) -> dict[str, str]:
    """What Dagster's list of runs shows of a run's tags, before somebody asks for more."""
    return {k: v for k, v in tags.items() if not k.startswith((".dagster/", "dagster/"))}


def test_a_run_by_hand_says_what_it_builds(built: Site) -> None:
    sha = git(built.clone.folder, "rev-parse", "HEAD")
    by_hand = {"dbt/environment": "prod", "dbt/commit": f"{sha[:10]} first"}
    built.load()
    assert shown(built.materialize("customers").dagster_run.tags) == by_hand
    full = built.loaded["prod"].resolve_job_def("prod_full_build")
    assert shown(full.execute_in_process(instance=built.instance).dagster_run.tags) == by_hand


def test_a_subject_of_any_length_fits_into_a_tag(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("very " * 1_000 + "long")
    request = built.request()
    assert max(map(len, request.tags.values())) <= 300
    assert request.tags["dbt/commit"].endswith("…")


def test_a_push_of_one_model_builds_it_and_who_reads_what_changed(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    sha = built.clone.push("largest")
    request = built.request()
    assert names(request) == ["big_customers", "customers"]
    assert shown(request.tags) == {
        "dbt/environment": "prod",
        "dbt/commit": f"{sha[:10]} largest",
        "dbt/why": "2 nodes of 7: big_customers, customers",
    }
    result = built.run(request)
    assert result.success
    assert materialized(result) == ["big_customers", "customers", "pushes"]
    assert shown(result.dagster_run.tags) == shown(request.tags)
    assert last(built, "big_customers").metadata["why"].value == (
        "rows, column_changed amount: big_customers ← customers.amount ← SQL (models/customers.sql)"
    )
    savings = {k: v.value for k, v in last(built, "pushes").metadata.items()}
    assert (savings["built"], savings["left alone"]) == (2, 5)
    assert (savings["author"], savings["branch"]) == ("Ann <ann@example.com>", "main")
    assert float(str(savings["seconds saved"])) > 0
    assert savings["commit"] == f"{sha[:10]} largest"
    assert "nothing is due" in built.says()


def test_a_comment_runs_nothing_and_says_so(built: Site) -> None:
    built.clone.edit("models/customers.sql", "select", "-- all of them\nselect")
    sha = built.clone.push("explain")
    assert built.says() == (
        f"main at {sha[:10]} “explain”: nothing is due; all 7 nodes are as it says."
    )
    assert last(built, "pushes").metadata["built"].value == 0
    assert last(built, "pushes").metadata["left alone"].value == 7


def test_of_three_pushes_the_newest_is_built_once(built: Site) -> None:
    for number in (2, 3, 4):
        built.clone.edit("models/big_customers.sql", "amount >", f"{number} < amount and amount >")
        sha = built.clone.push(str(number))
    request = built.request()
    assert names(request) == ["big_customers"]
    assert request.tags[SHA_TAG] == sha
    assert built.run(request).success
    assert "nothing is due" in built.says()


def test_what_failed_stays_due_and_is_not_tried_again_for_the_same_commit(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "error('no')")
    built.clone.push("broken at run time")
    request = built.request()
    assert names(request) == ["big_customers", "customers"]
    assert not built.run(request).success
    said = built.says()
    assert "2 nodes still due, and tried already: big_customers, customers" in said
    assert built.says() == said
    built.clone.edit("models/kept.sql", "amount * 2", "amount * 3")
    built.clone.push("unrelated")
    assert names(built.request()) == ["big_customers", "customers", "kept"]
    built.clone.edit("models/customers.sql", "error('no')", "sum(amount)")
    built.clone.push("remedy")
    assert names(built.request()) == ["kept"]


def test_a_commit_that_was_built_before_is_built_again_after_another(built: Site) -> None:
    first = git(built.clone.folder, "rev-parse", "HEAD")
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    assert built.build().success
    git(built.clone.folder, "push", "--force", "--quiet", "origin", f"{first}:main")
    request = built.request()
    assert names(request) == ["big_customers", "customers"]
    assert request.tags[SHA_TAG] == first
    assert built.run(request).success
    git(built.clone.folder, "push", "--force", "--quiet", "origin", "HEAD:main")
    assert names(built.request()) == ["big_customers", "customers"]


def test_a_squash_of_what_was_built_is_nothing_new(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    assert built.build().success
    git(built.clone.folder, "reset", "--soft", "HEAD~1")
    git(built.clone.folder, "commit", "--quiet", "--amend", "-m", "squashed", "--allow-empty")
    built.clone.push("squashed")
    assert "nothing is due" in built.says()


def test_a_deleted_branch_stays_as_it_was_until_it_is_back(built: Site) -> None:
    git(built.clone.remote, "update-ref", "-d", "refs/heads/main")
    assert built.says().startswith(f"There is no branch main in {built.clone.remote}: push one")
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("back")
    assert names(built.request()) == ["big_customers", "customers"]


def test_a_commit_that_does_not_parse_changes_nothing(built: Site) -> None:
    good = built.load()
    built.clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
    sha = built.clone.push("broken")
    said = built.says()
    assert said.startswith(f"main at {sha[:10]} cannot be prepared: {sha[:10]}: dbt parse: ")
    assert "models/customers.sql" in said
    assert "unexpected '}', expected ')'" in said
    assert "\n" not in said
    assert str(built.settings.state_dir) not in said
    assert built.loaded["prod"] is good
    built.clone.edit("models/customers.sql", "{{ ref((", "{{ ref(")
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("good")
    assert names(built.request()) == ["big_customers", "customers"]


def test_a_model_built_by_hand_counts(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    built.request()
    assert built.materialize("customers").success
    assert names(built.request()) == ["big_customers"]


def test_a_child_built_by_hand_on_an_old_parent_stays_due(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    built.request()
    assert built.materialize("big_customers").success
    request = built.request()
    assert names(request) == ["big_customers", "customers"]
    assert built.run(request).success
    assert "nothing is due" in built.says()


def another_run(
    site: Site, name: str = "customers", partitions: Mapping[str, list[str]] | None = None
) -> dg.DagsterRun:
    """A run that builds a model and has not ended."""
    run = site.instance.create_run_for_job(
        site.loaded["prod"].resolve_job_def("prod_full_build"),
        tags=Order(partitions=partitions or {}).as_tags(),
        status=dg.DagsterRunStatus.STARTED,
        asset_selection=frozenset({dg.AssetKey(["prod", name])}),
    )
    begins = dg.DagsterEvent(dg.DagsterEventType.RUN_START.value, run.job_name)
    site.instance.report_dagster_event(begins, run.run_id)
    return run


def test_what_somebody_builds_by_hand_is_not_due_meanwhile(built: Site) -> None:
    assert "nothing is due" in built.says()
    run = another_run(built, "daily", {"daily": ["2024-01-02"]})
    assert "nothing is due" in built.says()
    built.instance.report_run_failed(run)  # before it came to say what it had built
    assert "1 node still due, and tried already: daily" in built.says()


def test_what_an_ordinary_build_did_not_come_to_is_left_to_the_next(built: Site) -> None:
    built.clone.write("models/peak.sql", "select max(amount) as amount from {{ ref('daily') }}")
    built.clone.push("peak")
    assert built.build().success
    run = another_run(built, "daily")
    built.instance.report_run_canceled(run)
    assert "nothing is due" in built.says()
    assert built.materialize("peak").success  # while what it reads is not of today
    assert "nothing is due" in built.says()
    assert built.materialize("daily").success
    assert "nothing is due" in built.says()


def test_what_a_first_build_did_not_come_to_is_due(built: Site) -> None:
    text = (built.clone.folder / "dbt" / "models" / "daily.sql").read_text()
    built.clone.write("models/late.sql", text)
    built.clone.push("late")
    built.request()
    job = built.loaded["prod"].resolve_implicit_global_asset_job_def()
    one_day = Order(partitions={"late": ["2024-01-03"]})
    assert (
        job.get_subset(asset_selection={dg.AssetKey(["prod", "late"])}, asset_check_selection=set())
        .execute_in_process(instance=built.instance, tags=one_day.as_tags())
        .success
    )
    built.instance.report_run_failed(another_run(built, "late"))
    assert names(built.request()) == ["late"]


def test_a_partition_that_failed_in_an_ordinary_build_is_left_to_the_next(built: Site) -> None:
    bad = "(select count(*) from information_schema.tables where table_name = 'bad')"
    built.clone.edit(
        "models/daily.sql", "sum(amount)", f"sum(if({bad} = 0, amount, error('no')::int))"
    )
    built.clone.push("may fail")
    assert built.build().success
    full_build = built.loaded["prod"].resolve_job_def("prod_full_build")
    built.query("create table main.bad as select 1 as one")
    failed = full_build.execute_in_process(instance=built.instance, raise_on_error=False)
    assert [e.passed for e in failed.get_asset_check_evaluations()] == [False, True]
    assert "nothing is due" in built.says()
    built.query("drop table main.bad")
    assert full_build.execute_in_process(instance=built.instance).success
    assert "nothing is due" in built.says()


def test_what_was_cancelled_before_it_began_leaves_nothing_due(built: Site) -> None:
    everything = built.load().resolve_job_def("prod_full_build")
    run = built.instance.create_run_for_job(everything, status=dg.DagsterRunStatus.STARTING)
    assert built.instance.event_log_storage.get_records_for_run(run.run_id).records
    built.instance.report_run_canceled(run)
    assert "nothing is due" in built.says()


def test_tests_that_a_failed_build_did_not_come_to_stand_as_they_were(built: Site) -> None:
    file = built.clone.home / "file.csv"
    file.write_text("a\n1\n")
    built.clone.write("models/fails.sql", f"select * from read_csv('{file}')")
    built.clone.write("models/after.sql", "select * from {{ ref('fails') }}")
    built.clone.edit(
        "models/models.yml",
        "models:\n",
        "models:\n  - {name: after, columns: [{name: a, data_tests: [unique]}]}\n",
    )
    built.clone.push("reads a file")
    assert built.build().success
    file.unlink()
    full_build = built.loaded["prod"].resolve_job_def("prod_full_build")
    result = full_build.execute_in_process(instance=built.instance, raise_on_error=False)
    assert not result.success
    assert "customers" in materialized(result)
    assert "nothing is due" in built.says()


def test_a_test_of_what_was_built_is_due_if_the_run_ended_before_it(built: Site) -> None:
    built.load()
    run = another_run(built)
    job = built.loaded["prod"].resolve_implicit_global_asset_job_def()
    customers = dg.AssetKey(["prod", "customers"])
    assert (
        job.get_subset(asset_selection={customers}, asset_check_selection=set())
        .execute_in_process(instance=built.instance)
        .success
    )
    built.instance.report_run_failed(run)
    request = built.request()
    assert names(request) == []
    assert [key.name for key in request.asset_check_keys or ()] == ["unique_customers_customer_id"]
    assert built.run(request).success
    assert "nothing is due" in built.says()


def test_what_a_running_build_will_build_is_waited_for(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    built.request()
    run = another_run(built)
    assert f"2 nodes due, waiting for run {run.run_id[:8]}" in built.says()
    built.instance.report_run_canceled(run)
    assert names(built.request()) == ["big_customers", "customers"]


def test_a_push_that_waited_builds_only_what_nobody_else_built(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    request = built.request()
    assert built.materialize("customers").success
    assert materialized(built.run(request)) == ["big_customers", "pushes"]
    again = built.run(request)
    assert again.success
    assert materialized(again) == []
    assert "nothing is due" in built.says()


def test_what_a_run_leaves_to_another_is_as_that_left_it(built: Site) -> None:
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 2")
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("doubled")
    request = built.request()
    first, second = built.run(request), built.run(request)
    assert first.success
    assert second.success
    assert materialized(second) == []
    checks = [
        {(e.asset_check_key, e.passed) for e in run.get_asset_check_evaluations()}
        for run in (first, second)
    ]
    assert checks[0] == checks[1]
    assert len(checks[0]) == 2
    assert "nothing is due" in built.says()


def test_a_build_that_ends_while_it_is_looked_at_is_waited_for(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    built.request()
    run = another_run(built)

    def ends(*arguments: Any, **options: Any) -> Staleness | None:
        found = staleness(*arguments, **options)
        built.instance.report_run_failed(run)
        return found

    with monkeypatch.context() as patched:
        patched.setattr(due, "staleness", ends)
        assert f"waiting for run {run.run_id[:8]}" in built.says()
    assert names(built.request()) == ["big_customers", "customers"]


def test_a_changed_test_runs_alone(built: Site) -> None:
    built.clone.edit("models/models.yml", "[unique]", "[unique, not_null]")
    built.clone.push("test more")
    request = built.request()
    assert not request.asset_selection
    assert [key.name for key in request.asset_check_keys or ()] == [
        "not_null_customers_customer_id"
    ]
    result = built.run(request)
    assert result.success
    assert [e.passed for e in result.get_asset_check_evaluations()] == [True]
    assert "nothing is due" in built.says()


def test_a_unit_test_that_is_new_runs_alone_and_once(built: Site) -> None:
    built.clone.write(
        "models/unit.yml",
        """
unit_tests:
  - name: orders_are_counted
    model: totals
    given: [{input: ref('customers'), rows: [{orders: 2}, {orders: 3}]}]
    expect: {rows: [{orders: 5}]}
""",
    )
    built.clone.push("unit test")
    request = built.request()
    assert [key.name for key in request.asset_check_keys or ()] == ["orders_are_counted"]
    result = built.run(request)
    assert result.success
    assert materialized(result) == ["pushes"]
    assert "nothing is due" in built.says()


def test_a_changed_key_rebuilds_the_table(built: Site) -> None:
    built.clone.edit("models/kept.sql", "amount * 2 as", "amount + 1 as")
    built.clone.push("another number")
    request = built.request()
    assert names(request) == ["kept"]
    assert Order.of_tags(request.tags).rebuild == ["model.shop.kept"]
    assert built.run(request).success
    assert built.query("select doubled from main.kept order by order_id") == [
        (51,),
        (151,),
        (201,),
        (26,),
    ]


def doubled(site: Site) -> list[int]:
    return [n for (n,) in site.query("select doubled from main.kept order by order_id")]


def test_whoever_builds_a_table_that_must_be_rebuilt_rebuilds_it(built: Site) -> None:
    built.clone.edit("models/kept.sql", "amount * 2 as", "amount + 1 as")
    built.clone.push("another number")
    built.request()
    assert built.materialize("kept").success
    assert doubled(built) == [51, 151, 201, 26]
    assert "nothing is due" in built.says()


def test_a_table_that_says_so_is_never_rebuilt(built: Site) -> None:
    built.clone.edit("models/kept.sql", 'unique_key="order_id"', "full_refresh=false")
    built.clone.push("kept for good")
    assert built.build().success
    built.clone.edit("models/kept.sql", "amount * 2 as", "amount + 1 as")
    built.clone.push("another number")
    request = built.request()
    assert not Order.of_tags(request.tags).rebuild
    assert built.run(request).success
    assert doubled(built) == [100, 300, 400, 50]
    built.clone.edit("models/kept.sql", "amount + 1 as", "amount + 2 as")
    built.clone.push("and another")
    request = built.request()
    order = replace(Order.of_tags(request.tags), rebuild=["kept"])
    refused = request.with_replaced_attrs(tags={**request.tags, **order.as_tags()})
    assert "kept says full_refresh: false" in failure(built.run(refused))


def test_a_retry_may_have_built_some_of_what_was_to_be_rebuilt(built: Site) -> None:
    built.clone.edit("models/kept.sql", "amount * 2 as", "amount + 1 as")
    built.clone.edit("models/totals.sql", "sum(orders)", "max(orders)")
    built.clone.push("two")
    request = built.request()
    rest = request.with_replaced_attrs(asset_selection=[dg.AssetKey(["prod", "totals"])])
    assert built.run(rest).success


def test_a_batch_that_failed_leaves_the_model_due(site: Site) -> None:
    site.clone.edit(
        "models/daily.sql",
        "sum(amount)",
        "sum(case when ordered_at = timestamp '2024-01-02' then error('no') else amount end)",
    )
    site.clone.push("a broken day")
    assert not site.build().success
    assert "1 node (1 partition rebuilt) still due, and tried already: daily" in site.says()
    site.clone.push("unrelated")
    assert Order.of_tags(site.request().tags).reasons == {
        "model.shop.daily": "not all of its partitions were built"
    }


def test_what_cannot_be_explained_is_rebuilt(built: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    built.clone.edit("models/kept.sql", "amount * 2 as", "amount + 1 as")
    built.clone.push("another number")
    monkeypatch.setattr("dbt_orchestration.ledger.staleness.read_explanations", lambda *_: {})
    request = built.request()
    assert Order.of_tags(request.tags).rebuild == ["model.shop.kept"]


def test_a_commit_that_could_not_be_loaded_is_not_published(built: Site) -> None:
    good = built.load()
    built.clone.edit("models/daily.sql", '"end": "2024-01-04"', '"finish": "2024-01-04"')
    sha = built.clone.push("a typo")
    said = built.says()
    assert f"main at {sha[:10]} cannot be prepared" in said
    assert (
        "it cannot be loaded: models/daily.sql: meta.dagster of daily: partitions.finish: " in said
    )
    built.clone.edit("models/daily.sql", '"finish"', '"end"')
    for ours in ("pushes", "morning_page"):
        built.clone.write(f"models/{ours}.sql", "select 1 as one")
        built.clone.push("a name of ours")
        said = f"it cannot be loaded: models/{ours}.sql: the asset key prod/{ours} is that of an a"
        assert said in built.says()
        (built.clone.folder / "dbt" / "models" / f"{ours}.sql").unlink()
    assert built.loaded["prod"] is good
    (built.clone.folder / "dbt" / "dbt_project.yml").write_text("name: [")
    built.clone.push("no YAML")
    assert "cannot be prepared" in built.says()
    assert "follow.log" not in built.says()


@pytest.mark.parametrize(
    ("path", "text", "said"),
    [
        ("dbt_project.yml", "[1, 2]\n", "dbt_project.yml: it is no mapping of keys to values"),
        ("packages.yml", "[1]\n", "packages.yml: it is no mapping of keys to values"),
        ("packages.yml", "packages: 3\n", "packages.yml: packages is no list"),
        ("models/x.yml", "[1]\n", "models/x.yml"),
    ],
)
def test_a_file_that_is_no_project_file_is_said_by_name(
    built: Site, path: str, text: str, said: str
) -> None:
    built.clone.write(path, text)
    sha = built.clone.push("broken")
    tick = built.says()
    assert f"main at {sha[:10]} cannot be prepared" in tick
    assert said in tick
    assert "nothing is due" in tick


def test_an_unexpected_exception_is_said_and_the_next_commit_builds(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RecursionError("too deep")

    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("deep")
    with monkeypatch.context() as patch:
        patch.setattr("dbt_orchestration.revisions.prepare.analyse", broken)
        assert "RecursionError: too deep" in built.says()
    built.clone.push("the next")
    assert "customers" in names(built.request())


def test_a_full_disk_is_not_the_commits_fault(built: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("unable to write file")

    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("big")
    monkeypatch.setattr("dbt_orchestration.revisions.prepare.analyse", full)
    free = shutil.disk_usage("/")._replace(free=1_000_000)
    monkeypatch.setattr("dbt_orchestration.revisions.disk.shutil.disk_usage", lambda _: free)
    said = built.says()
    assert "is full: it has 0 MB left, and a commit needs 20 MB" in said


def test_every_job_of_ours_has_a_name_that_settings_refuse(built: Site) -> None:
    jobs = built.load().jobs or ()
    names = {str(job.name).removeprefix("prod_") for job in jobs}
    assert names | {"load_raw", "nothing", "tell_lightdash", "credits"} == set(OUR_JOBS)
    # Nor may one be called as what the fields of a form stand under.
    ops = {node.name for job in jobs if isinstance(job, dg.JobDefinition) for node in job.nodes}
    assert "prod_hold" in ops
    for op in ops:
        with pytest.raises(ValidationError):
            TypeAdapter(JobName).validate_python(op.removeprefix("prod_"))


def died(site: Site, request: dg.RunRequest, will_retry: str) -> None:
    """Leave the run that was asked for as if its process had died at once."""
    run = site.instance.create_run_for_job(
        site.loaded["prod"].resolve_implicit_global_asset_job_def(),
        tags={**request.tags, "dagster/will_retry": will_retry},
        asset_selection=frozenset(request.asset_selection or ()),
    )
    site.instance.report_run_failed(run)


def test_a_run_that_died_and_is_not_started_again_is_asked_for_again(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    keys = set()
    for _ in range(6):
        request = built.request()
        keys.add(request.run_key)
        died(built, request, will_retry="false")
        built.cursors.clear()
    assert len(keys) == 6
    assert "still due, and tried already" in built.says()


def test_a_retry_that_dagster_announced_and_never_starts_is_not_waited_for_for_ever(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes all for done if the last event of a run is in no log but that of the run."""
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    request = built.request()
    died(built, request, will_retry="true")
    built.cursors.clear()
    assert "still due, and tried already" in built.says()
    monkeypatch.setattr("dbt_orchestration.ledger.attempts._RETRY_SECONDS", 0.0)
    built.cursors.clear()
    assert built.build().success
    assert "nothing is due" in built.says()


def test_what_is_wrong_is_said_until_git_is_asked_again(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
    built.clone.push("broken")
    said = built.says()
    assert "cannot be prepared" in said
    prod = Environment(branch="main", target="prod", push=Push(interval_seconds=3600))
    built.settings = built.settings.model_copy(update={"environments": {"prod": prod}})
    built.load()
    monkeypatch.setattr("dbt_orchestration.automation.wanted.Remote", None)
    assert built.says() == said


def test_a_revision_that_is_nowhere_leaves_the_sensor(built: Site) -> None:
    shutil.rmtree(built.settings.state_dir / "revisions")
    shutil.rmtree(
        built.clone.home / "dagster" / "storage" / "dbt_orchestration__prod", ignore_errors=True
    )
    for folder in (built.clone.home / "dagster").rglob("dbt_orchestration__prod"):
        shutil.rmtree(folder)
    definitions = built.load()
    assert [sensor.name for sensor in definitions.sensors or ()] == ["prod_push"]
    assert "nothing is due" in built.says()


def test_another_value_of_an_environment_variable_is_a_change(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.clone.edit(
        "models/totals.sql", "sum(orders)", "{{ env_var('FACTOR', '1') }} * sum(orders)"
    )
    built.clone.push("factor")
    assert built.build().success
    monkeypatch.setenv("FACTOR", "7")
    assert names(request := built.request()) == ["totals"]
    assert built.run(request).success
    assert built.query("select orders from main.totals") == [(28,)]
    assert "nothing is due" in built.says()


def test_the_same_commit_again_after_another_is_another_run(built: Site) -> None:
    first = git(built.clone.folder, "rev-parse", "HEAD")
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    second = built.clone.push("largest")
    requests = [built.request()]
    assert built.run(requests[0]).success
    git(built.clone.folder, "push", "--force", "--quiet", "origin", f"{first}:main")
    assert built.build().success
    git(built.clone.folder, "push", "--force", "--quiet", "origin", f"{second}:main")
    requests.append(built.request())
    assert requests[0].run_key != requests[1].run_key


def test_a_child_that_a_push_built_on_a_failed_parent_is_not_built_for_ever(built: Site) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "error('no')")
    built.clone.push("broken")
    assert not built.build().success
    assert built.materialize("big_customers").success
    assert names(request := built.request()) == ["big_customers"]
    assert built.run(request).success
    assert "still due, and tried already" in built.says()


def test_a_failed_test_stays_due_with_what_it_held_up(built: Site) -> None:
    built.clone.edit("models/customers.sql", "group by 1", "group by 1 union all select 10, 0, 0")
    built.clone.push("not unique")
    result = built.build()
    assert not result.success
    built.clone.push("unrelated")
    request = built.request()
    assert [key.name for key in request.asset_check_keys or ()] == ["unique_customers_customer_id"]
    assert "big_customers" in names(request)
    result = built.run(request)
    assert not result.success
    assert "big_customers" not in materialized(result)


def test_a_wiped_table_is_built_again(built: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    assert built.build().success
    assert "nothing is due" in built.says()
    built.instance.wipe_assets([dg.AssetKey(["prod", "customers"])])
    a_minute_later = time.time() + 61
    monkeypatch.setattr(time, "time", lambda: a_minute_later)
    assert names(built.request()) == ["customers"]


def test_new_and_deleted_models_come_and_go(built: Site) -> None:
    built.clone.write("models/regulars.sql", "select 1 as one from {{ ref('customers') }}")
    (built.clone.folder / "dbt" / "models" / "totals.sql").unlink()
    built.clone.push("come and go")
    assert names(built.request()) == ["regulars"]
    keys = {spec.key.path[-1] for spec in built.loaded["prod"].resolve_all_asset_specs()}
    assert "regulars" in keys
    assert "totals" not in keys


def test_an_upgrade_of_the_engine_makes_nothing_due(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprints, "SCHEME", "another")
    assert "nothing is due" in built.says()
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    assert names(built.request()) == ["big_customers", "customers"]


def deferring(home: Path, instance: dg.DagsterInstance) -> Site:
    """A site whose environment dev reads what prod has built."""
    environments = {
        "prod": Environment(branch="main", target="prod", push=ALWAYS),
        "dev": Environment(branch="dev", target="dev", push=ALWAYS, defer_to="prod"),
    }
    site = Site.of(home, instance, environments=environments)
    assert site.build().success
    return site


def test_a_deferring_environment_builds_only_what_differs(
    tmp_path: Path, persistent: dg.DagsterInstance
) -> None:
    site = deferring(tmp_path, persistent)
    site.clone.edit("models/big_customers.sql", "amount from", "amount + 1 as amount from")
    site.clone.push("one model", branch="dev")
    request = site.request("dev")
    assert names(request) == ["big_customers"]
    assert site.run(request, "dev").success
    assert site.query(
        "select table_schema, table_name from information_schema.tables where table_schema = 'dev'"
    ) == [("dev", "big_customers")]
    assert site.query("select sum(amount) from dev.big_customers") == [(402,)]
    assert "nothing is due" in site.says("dev")


def test_what_a_deferring_environment_changes_is_due_after_an_upgrade_of_the_engine(
    tmp_path: Path, persistent: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = deferring(tmp_path, persistent)
    monkeypatch.setattr(fingerprints, "SCHEME", "another")
    monkeypatch.setattr(fingerprints, "digest", partial(digest, "another"))
    assert "nothing is due" in site.says()
    site.clone.edit("models/big_customers.sql", "amount from", "amount + 1 as amount from")
    site.clone.push("one model", branch="dev")
    assert names(site.request("dev")) == ["big_customers"]


def test_without_deferral_a_new_environment_builds_all(built: Site) -> None:
    built.clone.push("dev", branch="dev")
    request = built.request("dev")
    assert names(request) == EVERYTHING
    assert built.run(request, "dev").success
    assert built.query("select count(*) from dev.customers") == [(3,)]


def test_an_idle_tick_asks_only_for_the_branch(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert built.says() == built.says()
    while built.tick().asset_events:
        pass  # what a tick has said itself is news for the next one
    monkeypatch.setattr("dbt_orchestration.ledger.staleness.read_built", None)
    assert "nothing is due" in built.says()


def test_git_is_asked_only_now_and_then(built: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    environments = {"prod": Environment(branch="main", target="prod")}
    seldom = follow(built.clone.home, str(built.clone.remote), environments=environments)
    site = Site(built.clone, built.instance, seldom)
    assert "nothing is due" in site.says()
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    built.clone.push("largest")
    assert "nothing is due" in site.says()
    later = time.time() + 15
    monkeypatch.setattr(time, "time", lambda: later)
    assert names(site.request()) == ["big_customers", "customers"]


@pytest.fixture
def demo_like(tmp_path: Path, persistent: dg.DagsterInstance) -> Site:
    """A site with a table of the demo's raw data, which nobody has loaded."""
    site = Site.of(tmp_path, persistent, load_raw=True)
    site.clone.write(
        "models/raw.yml",
        "sources: [{name: nycflights, schema: raw_flights, tables: [{name: airlines}]}]",
    )
    site.clone.write("models/carriers.sql", "select * from {{ source('nycflights', 'airlines') }}")
    site.clone.push("carriers")
    return site


def test_the_raw_tables_are_loaded_before_anything_is_built(demo_like: Site) -> None:
    load = demo_like.request()
    assert names(load) == ["airlines"]
    [loaded] = demo_like.run(load).asset_materializations_for_node("load_raw_prod")
    schema = loaded.metadata["dagster/column_schema"]
    assert isinstance(schema, dg.TableSchemaMetadataValue)
    assert [(column.name, column.type) for column in schema.schema.columns] == [
        *(("carrier", "varchar"), ("name", "varchar"), ("loaded_at", "timestamp"))
    ]
    build = demo_like.request()
    assert "carriers" in names(build)
    demo_like.run(build)
    assert "nothing is due" in demo_like.says()
    assert demo_like.query("select count(*) from carriers") == [(16,)]


def test_raw_tables_that_cannot_be_loaded_are_asked_for_once(
    demo_like: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("dbt_orchestration.location.flights.ROW_COUNTS", {"airlines": 17})
        load = demo_like.request()
        run_id = demo_like.run(load).run_id
    said = f"waiting for airlines, which run {run_id[:8]} did not load: materialize them."
    assert said in demo_like.says()
    assert demo_like.materialize("nycflights/airlines").success
    assert "carriers" in names(demo_like.request())


def test_a_laptop_follows_the_repository_it_stands_in(
    tmp_path: Path, persistent: dg.DagsterInstance
) -> None:
    clone = Clone(tmp_path)
    settings = follow(tmp_path, "", project_dir=clone.folder / "dbt", git=Git())
    site = Site(clone, persistent, settings)
    assert names(site.request()) == EVERYTHING
    clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    sha = clone.commit("not pushed anywhere")
    assert site.request().tags[SHA_TAG] == sha


def test_outside_a_repository_the_sensor_says_what_to_do(
    tmp_path: Path, persistent: dg.DagsterInstance
) -> None:
    shutil.copytree(SHOP, tmp_path / "shop")
    settings = follow(tmp_path, "", project_dir=tmp_path / "shop", git=Git())
    site = Site(Clone(tmp_path), persistent, settings)
    said = site.says()
    assert said.startswith("Cannot see the branch main: ")
    assert "not a git repository" in said


def test_a_remote_that_is_down_changes_nothing(built: Site) -> None:
    built.load()
    built.clone.remote.rename(built.clone.home / "away.git")
    said = built.says()
    assert said.startswith(f"Cannot see the branch main: git ls-remote {built.clone.remote}: ")
    assert "nothing is due" in said
    (built.clone.home / "away.git").rename(built.clone.remote)
    assert built.says().startswith("main at ")


@dataclass
class Slow:
    """Whatever a tick waits for takes as long as it may; the clock is only looked at."""

    site: Site
    patch: pytest.MonkeyPatch
    now: float = 1_000.0
    ready: bool = False

    def __post_init__(self) -> None:
        head, prepare = Remote.head, Follower.prepare

        def slow_head(remote: Remote, branch: str, seconds: float) -> str | None:
            self.now += seconds
            return head(remote, branch)

        def slow_prepare(
            follower: Follower, sha: str, recorded: Collection[Recorded], seconds: float
        ) -> bool:
            self.now += seconds
            return self.ready and prepare(follower, sha, recorded, 60)

        def slow_publish(*arguments: Any) -> None:
            self.now += 10
            publish(*arguments)

        def slow_reload(_: object, seconds: float) -> None:
            assert seconds > 0
            self.now += seconds

        self.patch.setattr(tick, "monotonic", lambda: self.now)
        self.patch.setattr(Remote, "head", slow_head)
        self.patch.setattr(Follower, "prepare", slow_prepare)
        self.patch.setattr(wanted, "publish", slow_publish)
        self.patch.setattr(dagster_internals, "reload_code_location", slow_reload)

    def tick(self) -> str:
        """What a tick says that took no longer than Dagster lets it."""
        began = self.now
        said = self.site.tick().skip_message or ""
        assert self.now - began < 60
        return said


def test_a_tick_ends_in_time_however_long_it_has_to_wait(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    built.load()
    built.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    sha = built.clone.push("largest")
    slow = Slow(built, monkeypatch)
    assert "Preparing main at " in slow.tick()
    slow.ready = True
    assert "“largest”: prepared, and to be loaded by the next tick." in slow.tick()
    assert "“largest”: prepared, and being loaded." in slow.tick()
    built.load()
    slow.ready = False
    [explained] = (built.settings.state_dir / "revisions" / "prod").glob(f"{sha}*.why.json")
    explained.unlink()
    assert "finding out what is due" in slow.tick()


def kept(site: Site) -> list[str]:
    home = site.settings.state_dir / "revisions" / "prod"
    return sorted(path.name[:40] for path in home.iterdir() if path.is_dir())


def next_commits(site: Site, *subjects: str) -> list[str]:
    """Pushed, prepared and loaded one after the other."""
    shas = []
    for subject in subjects:
        shas.append(site.clone.push(subject))
        site.tick()
        site.load()
    return shas


def test_old_revisions_are_forgotten(tmp_path: Path, persistent: dg.DagsterInstance) -> None:
    site = Site.of(tmp_path, persistent, keep_revisions=2)
    shas = next_commits(site, "0", "1", "2")
    # The last two, and the one that was loaded when the newest was prepared.
    assert kept(site) == sorted(shas[-2:])


def test_a_revision_is_kept_for_a_run_that_waits_and_no_other_run_keeps_any(
    tmp_path: Path, persistent: dg.DagsterInstance
) -> None:
    site = Site.of(tmp_path, persistent, keep_revisions=1)
    [first] = next_commits(site, "0")
    loaded = published("prod", persistent.defs_state_storage)
    job = site.loaded["prod"].resolve_implicit_global_asset_job_def()
    launched_by(persistent, job, str(loaded))
    persistent.create_run_for_job(_of_somebody_else, status=dg.DagsterRunStatus.STARTING)
    shas = next_commits(site, "1", "2", "3")
    assert kept(site) == sorted([first, *shas[-2:]])


@dg.op
def _anything() -> None:
    pass


@dg.job
def _of_somebody_else() -> None:
    _anything()


def test_a_machine_without_the_revision_downloads_it(built: Site) -> None:
    shutil.rmtree(built.settings.state_dir / "revisions")
    definitions = built.load()
    keys = {key.path[-1] for key in definitions.resolve_asset_graph().materializable_asset_keys}
    assert keys >= set(EVERYTHING)
    assert built.materialize("raw_orders").success
