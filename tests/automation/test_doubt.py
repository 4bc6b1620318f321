"""What a run has built and not recorded is not taken for what was recorded before."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import dagster as dg
import pytest

from dbt_orchestration.history.order import Order
from dbt_orchestration.runs.landing import Landing
from dbt_orchestration.runs.plan import RunPlan
from tests.automation import test_from_nothing
from tests.automation.site import Site, names
from tests.automation.test_from_nothing import assert_from_nothing
from tests.conftest import failure

begin = test_from_nothing.begin

CUSTOMERS = "models/customers.sql", "count(*) as orders", "count(*) * 10 as orders"


def stop_before(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Stop the run once dbt has built the model, or its first batch, and nothing says so yet."""
    results = Landing.results

    def stopped(landing: Landing, work: RunPlan, event: Mapping[str, object]) -> Iterator[object]:
        data = event["data"]
        assert isinstance(data, dict)
        if data["node_info"]["node_name"] == name:
            raise dg.DagsterExecutionInterruptedError
        yield from results(landing, work, event)

    monkeypatch.setattr(Landing, "results", stopped)


def stop_and_go_back(
    site: Site, monkeypatch: pytest.MonkeyPatch, name: str, edit: tuple[str, str, str]
) -> dg.RunRequest:
    """A push whose run is stopped at ``name``, and a push that takes it back; what is due then."""
    path, old, new = edit
    site.clone.edit(path, old, new)
    site.clone.push("forth")
    request = site.request()
    with monkeypatch.context() as patch:
        stop_before(patch, name)
        assert not site.run(request).success
    site.clone.edit(path, new, old)
    site.clone.push("and back")
    return site.request()


@pytest.mark.parametrize(
    ("name", "edit"),
    [
        ("customers", CUSTOMERS),
        ("raw_orders", ("seeds/raw_orders.csv", "2024-01-01", "2024-01-02")),
        ("by_vars", ("models/by_vars.sql", "sum(amount)", "sum(amount) * 10")),
        ("daily", ("models/daily.sql", "sum(amount)", "sum(amount) * 10")),
        ("kept_query", ("models/kept_query.sql", "select amount", "select amount * 2 as amount")),
    ],
)
def test_a_commit_that_goes_back_finds_what_a_stopped_run_left(
    built: Site,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    edit: tuple[str, str, str],
) -> None:
    request = stop_and_go_back(built, monkeypatch, name, edit)
    assert name in names(request)
    result = built.run(request)
    assert result.success, failure(result)
    assert "nothing is due" in built.says()
    assert_from_nothing(built)


def test_it_says_why(built: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    request = stop_and_go_back(built, monkeypatch, "customers", CUSTOMERS)
    reason = Order.of_tags(request.tags).reasons["model.shop.customers"]
    assert reason == "a run was stopped, or failed, while it built this"


def test_a_stopped_run_of_the_same_code_leaves_nothing_in_doubt(
    built: Site,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built.load()
    with monkeypatch.context() as patch:
        stop_before(patch, "customers")
        assert not built.materialize("customers", "totals").success
    assert "nothing is due" in built.says()


def test_what_dbt_fails_at_half_way_is_built_again(built: Site) -> None:
    built.clone.edit(*CUSTOMERS)
    said = "{{ config(post_hook='select no_such_column from {{ this }}') }}"
    path = built.clone.folder / "dbt/models/customers.sql"
    before = path.read_text()
    path.write_text(f"{said}\n{before}")
    built.clone.push("forth")
    assert not built.build().success
    path.write_text(before.replace(CUSTOMERS[2], CUSTOMERS[1]))
    built.clone.push("and back")
    request = built.request()
    assert "customers" in names(request)
    assert built.run(request).success
    assert "nothing is due" in built.says()
    assert_from_nothing(built)


FAILING = """\
{{ config(
    materialized='incremental', post_hook="{% if var('fail', false) %}select nothing{% endif %}"
) }}
select 1 as one
"""


def test_what_dbt_fails_at_with_the_same_code_is_not_due(built: Site) -> None:
    built.clone.write("models/failing.sql", FAILING)
    built.clone.push("a hook that may fail")
    assert built.build().success
    assert not built.materialize("failing", config={"vars": {"fail": True}}).success
    assert "nothing is due" in built.says()
