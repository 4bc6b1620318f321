"""A roll back puts tables back of which a push has kept copies, instead of computing them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import duckdb
import pytest

from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.operation import operate
from dbt_orchestration.ledger import kept_tables
from dbt_orchestration.runs import copies as runs_copies
from dbt_orchestration.runs import shadow
from dbt_orchestration.settings.models import Push
from tests.automation.site import Site, git, names
from tests.automation.test_from_nothing import assert_from_nothing
from tests.automation.test_held import assert_is, order

_COPIES = (
    "select table_name from information_schema.tables"
    " where table_name like '%\\_\\_kept\\_%' escape '\\' order by 1"
)


def keeping(site: Site, days: int = 3) -> Site:
    """The site, whose pushes keep copies."""
    environments = {
        name: each.model_copy(update={"keep_replaced": days})
        for name, each in site.settings.environments.items()
    }
    site.settings = site.settings.model_copy(update={"environments": environments})
    site.loaded.clear()
    return site


def begin(site: Site) -> None:
    """Two commits, the second of which has changed a table and a history."""
    site.clone.write("models/best.sql", "select max(amount) as most from {{ ref('daily') }}")
    site.clone.push("the best day")
    assert keeping(site).build().success
    site.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    site.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    site.clone.push("DATA-7 largest, in pence")
    assert site.build().success


def copies(site: Site) -> dict[str, str]:
    """Which tables there are copies of, each with the copy's name."""
    return {name.partition("__")[0]: name for (name,) in site.query(_COPIES)}


def mark(site: Site) -> None:
    """Make the copies tell, so that it shows where they go."""
    for name, copy in copies(site).items():
        if name in {"customers", "daily"}:
            with_marks(site, f"update main.{copy} set amount = amount + 100000")


def with_marks(site: Site, sql: str) -> None:
    with duckdb.connect(str(site.settings.duckdb_path)) as connection:
        connection.execute(sql)


def back(site: Site) -> str:
    sha = git(site.clone.folder, "rev-parse", "HEAD^")
    order(site, "roll_back", commit=sha, reason="wrong totals", dry_run=False)
    return sha


def test_what_a_push_replaced_is_put_back_and_put_forward_again(built: Site) -> None:
    site = keeping(built)
    before = copies(site)
    assert before.keys() == {"customers", "daily", "best", "big_customers"}
    new = site.query("select * from main.customers order by 1")
    sha = git(site.clone.folder, "rev-parse", "HEAD^")
    plan = order(site, "roll_back", commit=sha)["plan"]
    assert "| customers | nothing: its table of 20" in plan
    assert "the partition 2024-01-03; 2 others are put back as of 20" in plan
    back(site)
    assert "nothing is due" in site.build_all()
    assert_is(site, sha)
    # What was put back is no copy any more; what it replaced is one. The best day was computed.
    assert copies(site).keys() == before.keys()
    there = {name for (name,) in site.query(_COPIES)}
    assert there & {*before.values()} == {before["best"]}
    mark(site)
    order(site, "roll_forward")
    assert "nothing is due" in site.build_all()
    marked = site.query("select * from main.customers order by 1")
    assert marked == [(c, amount + 100_000, orders) for c, amount, orders in new]


def test_a_history_that_is_put_back_waits_for_nobody_however_long_it_is(built: Site) -> None:
    site = keeping(built)
    few = Push(interval_seconds=1, max_partitions=2)
    prod = site.settings.environment("prod").model_copy(update={"push": few})
    site.settings = site.settings.model_copy(update={"environments": {"prod": prod}})
    mark(site)
    back(site)
    assert names(site.request()) == ["best", "big_customers", "customers", "daily"]
    assert "nothing is due" in site.build_all()
    marked = "select count(*) from main.daily where amount > 50000"
    assert site.query(marked) == [(2,)]


def test_days_that_were_built_since_are_computed(built: Site) -> None:
    site = keeping(built)
    mark(site)
    site.load()
    assert site.materialize("daily").success  # its newest day
    back(site)
    assert "nothing is due" in site.build_all()
    days = site.query("select day_at::date::text, amount from main.daily order by 1")
    assert [(day, amount > 50_000) for day, amount in days] == [
        ("2024-01-01", True),
        ("2024-01-02", True),
        ("2024-01-03", False),
    ]


def test_a_table_that_somebody_built_since_is_computed(built: Site) -> None:
    site = keeping(built)
    with_marks(site, f"update main.{copies(site)['customers']} set amount = amount + 100000")
    site.load()
    assert site.materialize("customers").success
    sha = back(site)
    assert "nothing is due" in site.build_all()
    assert site.query("select max(amount) < 50000 from main.customers") == [(True,)]
    assert_is(site, sha)


def test_what_reads_something_that_is_computed_is_computed(built: Site) -> None:
    """Its copy was made of what stood there before."""
    site = keeping(built)
    with_marks(site, f"drop table main.{copies(site)['customers']}")
    copy = copies(site)["big_customers"]
    with_marks(site, f"update main.{copy} set amount = amount + 100000")
    sha = back(site)
    assert "nothing is due" in site.build_all()
    assert_is(site, sha)


def test_what_reads_a_copy_whose_test_fails_stays_as_it_is(built: Site) -> None:
    """As a whole: a table that was put back and not recorded would be right by its record alone."""
    site = keeping(built)
    # A test says that customers are unique.
    copy = copies(site)["customers"]
    with_marks(site, f"insert into main.{copy} from main.{copy}")
    with_marks(site, f"update main.{copies(site)['big_customers']} set amount = amount + 100000")
    before = site.query("select * from main.big_customers order by 1")
    back(site)
    assert not site.build().success
    assert site.query("select * from main.big_customers order by 1") == before
    order(site, "roll_forward")
    assert "nothing is due" in site.build_all()
    assert_from_nothing(site)


def test_an_exchange_that_fails_half_way_leaves_nothing_right_by_its_record_alone(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = keeping(built)

    def half(*arguments: Any, tables: Sequence[Any], **others: Any) -> Any:
        if "swap_in" not in arguments:
            return operate(*arguments, tables=tables, **others)
        operate(*arguments, tables=tables[:1], **others)
        raise DbtError("the connection is lost")

    back(site)
    with monkeypatch.context() as patch:
        patch.setattr(shadow, "operate", half)
        assert not site.build().success
    order(site, "roll_forward")
    assert "nothing is due" in site.build_all()
    assert_from_nothing(site)


def test_copies_are_dropped_after_their_days(built: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site = keeping(built)
    site.load()
    assert site.materialize("customers").success
    assert "customers" in copies(site)
    later = SimpleNamespace(time=lambda: time.time() + 4 * 86_400)
    monkeypatch.setattr(kept_tables, "time", later)
    assert site.materialize("customers").success
    assert "customers" not in copies(site)


def test_a_push_drops_the_old_copies_of_a_model_that_is_gone(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = keeping(built)
    assert "best" in copies(site)
    (site.clone.folder / "dbt/models/best.sql").unlink()
    site.clone.push("without the best day")
    assert "nothing is due" in site.build_all()
    later = SimpleNamespace(time=lambda: time.time() + 4 * 86_400)
    monkeypatch.setattr(kept_tables, "time", later)
    site.clone.edit("models/totals.sql", "sum(orders)", "sum(orders) + 0")
    site.clone.push("another one")
    assert "nothing is due" in site.build_all()
    assert "best" not in copies(site)


def test_copies_of_a_run_that_died_are_dropped_after_their_days(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = keeping(built)
    before = {name for (name,) in site.query(_COPIES)}

    def die(*arguments: Any, **others: Any) -> Any:
        done = operate(*arguments, **others)
        if "keep" in arguments:
            raise RuntimeError("killed")
        return done

    site.clone.edit("models/customers.sql", "max(amount)", "min(amount)")
    site.clone.push("smallest")
    with monkeypatch.context() as patch:
        patch.setattr(runs_copies, "operate", die)
        assert not site.build().success
    left = {name for (name,) in site.query(_COPIES)} - before
    assert left
    later = SimpleNamespace(time=lambda: time.time() + 4 * 86_400)
    monkeypatch.setattr(kept_tables, "time", later)
    site.clone.edit("models/totals.sql", "sum(orders)", "sum(orders) + 0")
    site.clone.push("another one")
    assert "nothing is due" in site.build_all()
    assert not left & {name for (name,) in site.query(_COPIES)}


def test_a_push_keeps_none_unless_it_is_told_to(built: Site) -> None:
    site = keeping(built, days=0)
    before = copies(site)
    site.clone.edit("models/customers.sql", "max(amount)", "min(amount)")
    site.clone.push("smallest")
    assert "nothing is due" in site.build_all()
    assert "customers" not in copies(site)
    assert before
    assert_from_nothing(site)
