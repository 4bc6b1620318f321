"""A warehouse that does not answer is no reason to compute a history again."""

from __future__ import annotations

from types import ModuleType
from typing import Any

import pytest

from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.operation import operate
from dbt_orchestration.runs import in_place, shadow
from tests.automation.site import Site
from tests.automation.test_from_nothing import assert_from_nothing
from tests.automation.test_history import DAYS, partitions
from tests.automation.test_put_back import with_marks
from tests.conftest import failure

AMOUNTS = "select day_at, amount from main.daily order by day_at"


def begin(site: Site) -> None:
    site.clone.edit("models/daily.sql", '"end"', '"mergeable": False, "end"')
    site.clone.push("one day at a time")
    assert site.build().success


def fails_at(patch: pytest.MonkeyPatch, module: ModuleType, macro: str) -> None:
    def operates(*arguments: Any, **others: Any) -> Any:
        if macro in arguments:
            raise DbtError("the connection is lost")
        return operate(*arguments, **others)

    patch.setattr(module, "operate", operates)


def test_a_table_that_cannot_be_compared_stays_and_is_due(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, before = built, built.query(AMOUNTS)
    site.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    site.clone.push("in pence")
    with monkeypatch.context() as patch:
        fails_at(patch, in_place, "misfits")
        result = site.build()
    assert not result.success
    assert failure(result).count("could not be compared with their code: the connection is") == 1
    assert site.query(AMOUNTS) == before
    assert "still due, and tried already" in site.says()
    site.materialize("daily")  # the newest day, by hand; the others are the push's
    again = site.build()
    assert again.success, failure(again)
    assert partitions(again, "daily") == ["2024-01-02", "2024-01-01"]
    assert "nothing is due" in site.says()
    assert_from_nothing(site)


def test_a_model_that_does_not_compile_fails_alone(built: Site) -> None:
    site = built
    site.clone.write(
        "models/hourly.sql",
        (site.clone.folder / "dbt/models/daily.sql").read_text(),
    )
    site.clone.push("another history")
    assert site.build().success
    site.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    refused = "{% if execute %}{% do run_query('select 1 from nowhere') %}{% endif %}"
    site.clone.edit("models/hourly.sql", "select date", f"{refused} select 1.5 * date")
    site.clone.push("one is right")
    result = site.build()
    assert not result.success
    assert "nowhere" in failure(result)
    assert sorted(map(str, partitions(result, "daily"))) == DAYS
    assert partitions(result, "hourly") == []


def test_what_was_built_beside_is_gone_on_with_once_the_warehouse_answers(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = built
    with_marks(site, "create table main.locked as select date '2024-01-03' as day")
    last_day = "date_trunc('day', min(ordered_at)) in (from main.locked)"
    locked = f"case when {last_day} then error('locked') else sum(amount) end as total"
    site.clone.edit("models/daily.sql", "sum(amount) as amount", locked)
    site.clone.push("another name")
    request = site.request()
    first = site.run(request)
    assert "locked" in failure(first)
    with_marks(site, "delete from main.locked")
    with_marks(site, f'update main."daily__rebuild_{first.run_id[:8]}" set total = -1')
    with monkeypatch.context() as patch:
        fails_at(patch, shadow, "are_there")
        second = site.retry(request, first.run_id)
    assert "the connection is lost" in failure(second)
    third = site.retry(request, second.run_id)
    assert third.success, failure(third)
    assert site.query("select total from main.daily order by day_at") == [(-1,), (-1,), (25,)]
    assert "nothing is due" in site.says()
