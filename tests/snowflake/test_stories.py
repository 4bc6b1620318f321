"""What people do from the UI, on Snowflake: the real adapter and connector, against an emulator.

The tests are in the order of a story: each begins with what the one before it left.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from dbt_orchestration.settings.models import Environment
from tests.automation.conftest import _prepare_here  # noqa: F401
from tests.automation.site import ALWAYS, SHOP, Clone, Site, follow, git, names
from tests.automation.test_adopt import adopt
from tests.automation.test_held import order
from tests.conftest import EVERY_NODE, clean_environment, failure
from tests.instances import dagster_in
from tests.operations.forms import shown, started
from tests.operations.test_resume import daily
from tests.snowflake.emulator import Emulator, running_emulator
from tests.snowflake.test_snowflake import PROFILE, pytestmark, set_environment  # noqa: F401

BUILT = ["big_customers", "customers", "daily", "kept", "raw_orders", "stg_orders", "totals"]
Content = dict[str, list[tuple[Any, ...]]]


@dataclass
class Shop(Site):
    """A site whose warehouse is the emulator."""

    emulator: Emulator | None = None

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        assert self.emulator is not None
        return self.emulator.execute(sql)

    def content(self) -> Content:
        return {name: sorted(self.query(f"select * from shop.{name}")) for name in BUILT}

    def clone_database(self) -> Content:
        """What Snowflake does: a view has the text that it had. What is cloned."""
        self.query("create database if not exists cloned")
        self.query("create schema if not exists cloned.shop")
        for name in {*BUILT} - {"stg_orders"}:
            self.query(f"create table cloned.shop.{name} as select * from analytics.shop.{name}")
        self.query(
            "create view cloned.shop.stg_orders as select order_id, customer_id, amount,"
            " cast(ordered_at as timestamp) as ordered_at from analytics.shop.raw_orders"
        )
        return self.content()

    def ask(self, form: str, **fields: Any) -> dg.ExecuteInProcessResult:
        """Launch a form, and the run that it asks for."""
        asked = self.launch(form, **fields)
        assert asked.success, failure(asked)
        [request] = started(self)
        result = self.run(request)
        assert result.success, failure(result)
        return result


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("shop")
    environments = {
        "prod": Environment(branch="main", target="prod", push=ALWAYS),
        "dev": Environment(branch="dev", target="dev", push=ALWAYS, defer_to="prod"),
    }
    with (
        pytest.MonkeyPatch.context() as patch,
        running_emulator() as emulator,
        dagster_in(home) as instance,
    ):
        clean_environment(patch)
        set_environment(patch, emulator.environment)
        clone = Clone(home, SHOP)
        profile: dict[str, Any] = {"profile": PROFILE, "profiles_dir": EVERY_NODE}
        settings = follow(home, str(clone.remote), environments=environments, **profile)
        shop = Shop(clone, instance, settings, emulator=emulator)
        assert "nothing is due" in shop.build_all()
        yield shop


@pytest.fixture(autouse=True)
def _environment(site: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each test all that is set on this machine is forgotten."""
    assert site.emulator is not None
    set_environment(monkeypatch, site.emulator.environment)


def test_the_form_rebuilds_a_range_and_no_other_day(site: Shop) -> None:
    was = site.content()
    site.query("update shop.daily set amount = -1")
    site.ask(
        "rebuild", model="daily", since="2024-01-02", until="2024-01-03", reason="x", dry_run=False
    )
    first, *others = site.content()["daily"]
    assert first[1] == -1
    assert others == was["daily"][1:]
    site.ask("rebuild", model="daily", full_refresh=True, reason="x", dry_run=False)
    assert site.content() == was


def test_models_run_at_once(site: Shop) -> None:
    was = site.content()
    site.query("update shop.customers set amount = 0")
    site.query("delete from shop.kept where order_id = 1")
    site.ask("run_now", select="customers kept", full_refresh=True, reason="the CFO", dry_run=False)
    assert site.content() == was


def test_a_dbt_command_is_shown_and_what_it_builds_is_recorded(site: Shop) -> None:
    said = shown(site.launch("dbt", command="show", select="totals"))["result"]
    assert "| ORDERS |" in said
    assert "| 4" in said
    site.query("delete from shop.totals")
    result = site.ask("dbt", command="run", select="totals", reason="empty")
    assert result.get_asset_materialization_events()
    assert site.query("select orders from shop.totals") == [(4,)]


def test_the_daily_build_goes_on_with_what_failed(site: Shop) -> None:
    site.clone.edit("models/customers.sql", "sum(amount)", "sum(amount) / cast('x' as integer)")
    site.clone.push("wrong")
    site.request()
    assert not daily(site).success
    site.clone.edit("models/customers.sql", " / cast('x' as integer)", " * 2")
    site.clone.push("right")
    site.request()
    site.ask("resume_daily_build")
    assert "nothing is due" in site.says()
    assert site.query("select sum(amount) from shop.customers") == [(850,)]
    assert site.query("select sum(amount) from shop.big_customers") == [(800,)]


def test_it_is_rolled_back_and_forward(site: Shop) -> None:
    first, newest = git(site.clone.folder, "rev-list", "--max-parents=0", "HEAD"), site.content()
    order(site, "roll_back", commit=first[:7], reason="twice as much", dry_run=False)
    assert f"Held at {first[:10]}" in site.build_all()
    assert site.query("select sum(amount) from shop.customers") == [(425,)]
    assert site.query("select sum(amount) from shop.big_customers") == [(400,)]
    order(site, "roll_forward", reason="it was right")
    assert "nothing is due" in site.build_all()
    assert site.content() == newest


def test_a_branch_builds_what_differs_and_reads_the_rest(site: Shop) -> None:
    site.clone.edit("models/big_customers.sql", "amount from", "amount + 1 as amount from")
    site.clone.push("one more", branch="dev")
    request = site.request("dev")
    assert names(request) == ["big_customers"]
    assert site.run(request, "dev").success
    assert site.query("select sum(amount) from dev.big_customers") == [(802,)]
    there = "select table_name from information_schema.tables where table_schema = 'DEV'"
    assert site.query(there) == [("BIG_CUSTOMERS",)]
    assert "nothing is due" in site.says("dev")
    git(site.clone.folder, "reset", "--quiet", "--hard", "HEAD~1")


def test_a_branch_clones_what_is_the_same(site: Shop) -> None:
    assert site.emulator is not None
    was, sent = site.content(), len(site.emulator.statements)
    form = {"command": "clone", "select": "fqn:*", "exclude": "big_customers", "reason": "a dev"}
    asked = site.launch("dbt", "", "dev", **form)
    assert asked.success, failure(asked)
    [request] = started(site, "dev")
    result = site.run(request, "dev")
    assert result.success, failure(result)
    since = [s.lower() for s in site.emulator.statements[sent:]]
    tables = {"customers", "daily", "kept", "totals"}
    assert sum(" clone " in s for s in since) == len(tables)
    copied = {name: sorted(site.query(f"select * from dev.{name}")) for name in was}
    assert {**copied, "big_customers": []} == {**was, "big_customers": []}
    assert "nothing is due" in site.says("dev")


def test_another_dagster_adopts_what_is_there(site: Shop, tmp_path: Path) -> None:
    assert site.emulator is not None
    with dagster_in(tmp_path) as instance:
        other = replace(site, instance=instance, cursors={}, loaded={})
        other.settings = site.settings.model_copy(update={"state_dir": tmp_path / "state"})
        assert names(other.request()) == BUILT
        sent = len(site.emulator.statements)
        asked = other.launch("adopt", reason="a lost database", dry_run=False)
        assert asked.success, failure(asked)
        [request] = started(other)
        adopt(other, request)
        tests = other.request()
        assert not names(tests)
        assert other.run(tests).success
        assert "nothing is due" in other.says()
        since = [s.lower() for s in site.emulator.statements[sent:]]
        assert not [s for s in since if "create or replace" in s or "insert into" in s]


def test_dev_goes_on_from_a_clone_of_prod(site: Shop, tmp_path: Path) -> None:
    """The steps of docs/snowflake.md, by an installation of its own."""
    profiles = yaml.safe_load((EVERY_NODE / "profiles.yml").read_text())
    outputs = profiles[PROFILE]["outputs"]
    outputs["copy"] = {**outputs["prod"], "database": "CLONED"}
    (tmp_path / "profiles.yml").write_text(yaml.safe_dump(profiles))
    changed = {
        "state_dir": tmp_path / "state",
        "profiles_dir": tmp_path,
        "environments": {"prod": Environment(branch="dev", target="copy", push=ALWAYS)},
    }
    main = git(site.clone.folder, "rev-parse", "HEAD")
    with dagster_in(tmp_path) as instance:
        dev = replace(site, instance=instance, cursors={}, loaded={})
        dev.settings = site.settings.model_copy(update=changed)
        dev.load()
        order(dev, "pause", reason="a clone")
        assert "Paused" in dev.says()
        was = dev.clone_database()
        asked = dev.launch("adopt", commit=main[:7], reason="a clone", dry_run=False)
        assert asked.success, failure(asked)
        [request] = started(dev)
        assert names(request) == BUILT
        adopt(dev, request)
        dev.ask("run_now", select="config.materialized:view", reason="they read prod")
        order(dev, "resume")
        request = dev.request()
        assert names(request) == ["big_customers"]
        assert dev.run(request).success
        assert "nothing is due" in dev.build_all()
        assert dev.query("select sum(amount) from cloned.shop.big_customers") == [(802,)]
        dev.query("update cloned.shop.raw_orders set amount = 0")
        assert dev.query("select sum(amount) from cloned.shop.stg_orders") == [(0,)]
        assert site.content() == was
