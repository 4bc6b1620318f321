"""A model that has another name, alias or schema gets its old table's rows: nothing is computed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.operation import operate
from dbt_orchestration.runs import shadow
from tests.automation.site import Site
from tests.automation.test_from_nothing import assert_from_nothing
from tests.automation.test_history import shown
from tests.automation.test_put_back import with_marks
from tests.conftest import failure

MARK = 100_000


def begin(site: Site) -> None:
    assert site.build().success


def rename(site: Site, old: str, new: str) -> None:
    models = site.clone.folder / "dbt" / "models"
    (models / f"{old}.sql").rename(models / f"{new}.sql")


def mark(site: Site, *tables: str) -> None:
    """Make the tables tell, so that it shows where their rows go."""
    for table in tables:
        with_marks(site, f"update main.{table} set amount = amount + {MARK}")


def marked(site: Site, table: str) -> set[bool]:
    return {yes for (yes,) in site.query(f"select distinct amount >= {MARK} from {table}")}


def days(site: Site, table: str) -> dict[str, bool]:
    """The days of a history, and which of them have the old table's rows."""
    found = site.query(f"select day_at::date::text, amount >= {MARK} from {table} order by 1")
    return {str(day): bool(old) for day, old in found}


def rename_them(site: Site) -> None:
    rename(site, "customers", "clients")
    rename(site, "daily", "by_day")
    rename(site, "kept", "kept_rows")
    for reader in ("big_customers", "totals"):
        site.clone.edit(f"models/{reader}.sql", '"customers"', '"clients"')
    site.clone.edit("models/models.yml", "customers", "clients")
    site.clone.push("better names")


def move_them(site: Site) -> None:
    site.clone.edit("models/daily.sql", "{{ config(", '{{ config(alias="by_day", ')
    site.clone.edit("models/customers.sql", "select", '{{ config(schema="crm") }} select')
    site.clone.push("elsewhere")


def test_what_was_renamed_is_copied_and_its_old_table_stays_until_it_is_dropped(
    built: Site,
) -> None:
    site = built
    mark(site, "customers", "daily")
    with_marks(site, f"update main.kept set doubled = doubled + {MARK}")
    rename_them(site)
    request = site.request()
    result = site.run(request)
    assert result.success, failure(result)
    assert "nothing is due" in site.says()
    assert marked(site, "main.clients") == {True}
    assert site.query(f"select distinct doubled >= {MARK} from main.kept_rows") == [(True,)]
    # As an ordinary build would, the newest day is built.
    assert days(site, "main.by_day") == {
        "2024-01-01": True,
        "2024-01-02": True,
        "2024-01-03": False,
    }
    plan = shown(site.launch("drop_orphans"))["plan"]
    for old, new in (("customers", "clients"), ("daily", "by\\_day"), ("kept", "kept\\_rows")):
        assert f"main\\.{old} | table | model {old}," in plan
        assert f" | renamed to {new} | " in plan
    names = ["main.customers", "main.daily", "main.kept"]
    form = {"names": names, "reason": "copied", "dry_run": False}
    assert site.launch("drop_orphans", **form).success
    assert "nothing is due" in site.says()
    assert marked(site, "main.clients") == {True}


def test_what_is_copied_is_what_a_build_from_nothing_makes(built: Site) -> None:
    rename_them(built)
    assert "nothing is due" in built.build_all()
    assert_from_nothing(built)
    # It goes on from there as if it had always had this name.
    built.clone.edit("models/by_day.sql", "sum(amount)", "sum(amount) * 10")
    built.clone.push("in pence")
    assert "nothing is due" in built.build_all()
    assert_from_nothing(built)


def test_what_moved_is_copied_and_its_old_relation_is_shown(built: Site) -> None:
    site = built
    mark(site, "customers", "daily")
    move_them(site)
    assert "nothing is due" in site.build_all()
    assert marked(site, "main_crm.customers") == {True}
    assert days(site, "main.by_day") == {
        "2024-01-01": True,
        "2024-01-02": True,
        "2024-01-03": False,
    }
    plan = shown(site.launch("drop_orphans"))["plan"]
    assert "main\\.customers | table | model customers," in plan
    assert " | warehouse.main_crm.customers now | " in plan.replace("\\", "")
    assert "main\\.daily | table | model daily," in plan
    form = {"names": ["main.customers"], "reason": "moved", "dry_run": False}
    assert "main.customers" in shown(site.launch("drop_orphans", **form))["dropped"]
    # What somebody drops by hand is forgotten, too.
    with_marks(site, "drop table main.daily")
    assert "Nothing is left" in shown(site.launch("drop_orphans"))["plan"]
    assert "nothing is due" in site.says()
    assert marked(site, "main_crm.customers") == {True}


def test_what_moved_is_what_a_build_from_nothing_makes(built: Site) -> None:
    move_them(built)
    assert "nothing is due" in built.build_all()
    assert_from_nothing(built)
    built.clone.edit("models/daily.sql", 'alias="by_day", ', "")
    built.clone.push("back again")
    assert "nothing is due" in built.build_all()
    assert_from_nothing(built)


@pytest.mark.parametrize("edit", ["code", "config", "what it reads"])
def test_what_changed_otherwise_is_computed(built: Site, edit: str) -> None:
    site = built
    mark(site, "customers", "daily")
    rename_them(site)
    if edit == "code":
        site.clone.edit("models/clients.sql", "count(*)", "count(amount)")
        site.clone.edit("models/by_day.sql", "sum(amount)", "sum(amount) * 2")
    elif edit == "config":
        site.clone.edit("models/clients.sql", "select", "{{ config(contract=none) }} select")
        site.clone.edit("models/by_day.sql", 'begin="2024-01-01"', 'begin="2023-12-31"')
        site.clone.edit("models/clients.sql", "contract=none", "post_hook='select 1'")
    else:
        site.clone.edit("models/stg_orders.sql", " amount,", " amount + 1 as amount,")
    site.clone.push("and more")
    assert "nothing is due" in site.build_all()
    assert marked(site, "main.clients") == {False}
    if edit != "config":
        assert set(days(site, "main.by_day").values()) == {False}
        assert_from_nothing(site)


def test_what_reads_a_table_that_was_built_since_is_computed(built: Site) -> None:
    site = built
    mark(site, "big_customers")
    site.load()
    assert site.materialize("customers").success
    rename(site, "big_customers", "largest")
    site.clone.push("a better name")
    assert "nothing is due" in site.build_all()
    assert marked(site, "main.largest") == {False}


def test_what_the_daily_build_has_gone_on_without_is_computed(built: Site) -> None:
    """Its old table is as of the day on which it was taken out."""
    site = built
    mark(site, "customers", "daily")
    code = {
        name: (site.clone.folder / f"dbt/models/{name}.sql").read_text()
        for name in ("big_customers", "daily")
    }
    mark(site, "big_customers")
    for name in code:
        (site.clone.folder / f"dbt/models/{name}.sql").unlink()
    site.clone.push("without some")
    assert "nothing is due" in site.build_all()
    job = site.loaded["prod"].resolve_job_def("prod_full_build")
    assert job.execute_in_process(instance=site.instance).success
    for name, text in code.items():
        site.clone.write(f"models/again_{name}.sql", text)
    site.clone.push("there again, under other names")
    assert "nothing is due" in site.build_all()
    assert marked(site, "main.again_big_customers") == {False}
    assert set(days(site, "main.again_daily").values()) == {False}


def test_a_copy_of_the_same_code_beside_its_model_is_computed(built: Site) -> None:
    """Its model is still there: nobody has renamed it."""
    site = built
    mark(site, "customers")
    site.clone.write(
        "models/clients.sql", (site.clone.folder / "dbt/models/customers.sql").read_text()
    )
    site.clone.push("twice the same")
    assert "nothing is due" in site.build_all()
    assert marked(site, "main.clients") == {False}


def test_a_renamed_model_whose_test_fails_stays_due(built: Site) -> None:
    site = built
    with_marks(site, "insert into main.customers from main.customers")
    rename_them(site)
    assert not site.build().success
    assert "main.clients" not in {f"{s}.{t}" for s, t in tables(site)}
    with_marks(site, "drop table main.customers")
    site.clone.push("once more")
    assert "nothing is due" in site.build_all()
    assert_from_nothing(site)


def tables(site: Site) -> Sequence[tuple[Any, ...]]:
    return site.query("select table_schema, table_name from information_schema.tables")


def test_a_copy_that_never_came_into_its_place_and_whose_table_is_gone_is_computed(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = built

    def dies(*arguments: Any, **others: Any) -> Any:
        if "swap_in" in arguments:
            raise DbtError("the connection is lost")
        return operate(*arguments, **others)

    rename_them(site)
    request = site.request()
    with monkeypatch.context() as patch:
        patch.setattr(shadow, "operate", dies)
        first = site.run(request)
    assert not first.success
    for name in ("daily", "customers", "kept"):
        with_marks(site, f"drop table main.{name}")
    with_marks(site, f'drop table main."by_day__rebuild_{first.run_id[:8]}"')
    result = site.retry(request, first.run_id)
    assert result.success, failure(result)
    assert "nothing is due" in site.build_all()
    assert_from_nothing(site)
