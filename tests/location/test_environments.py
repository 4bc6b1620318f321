"""Environments that Python describes, and that follow a remote: what their translators decide."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dbt_orchestration import DefaultTranslator
from dbt_orchestration.settings.models import SettingsError
from tests.automation.site import names
from tests.instances import dagster_in
from tests.location.described import Described


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Described]:
    with dagster_in(tmp_path) as instance:
        yield Described.of(tmp_path, instance)


def test_an_environment_reads_what_another_one_has_built(site: Described) -> None:
    site.describe("prod", "main", DefaultTranslator(["shop", "gold"]))
    site.describe("dev", "dev", DefaultTranslator(["trial"]), defer_to="prod")
    assert "nothing is due" in site.build_all()
    site.clone.edit("models/big_customers.sql", "amount from", "amount + 1 as amount from")
    site.clone.push("one model", branch="dev")
    request = site.request("dev")
    assert names(request) == ["big_customers"]
    assert site.run(request, "dev").success
    assert site.query(
        "select table_name from information_schema.tables where table_schema = 'dev'"
    ) == [("big_customers",)]
    assert site.query("select sum(amount) from dev.big_customers") == [(402,)]
    assert "nothing is due" in site.says("dev")


def test_an_environment_that_is_not_there_is_named_before_all_is_built(site: Described) -> None:
    site.describe("prod", "main")
    site.describe("dev", "dev", defer_to="prdo")
    site.build_all()
    site.clone.push("dev", branch="dev")
    result = site.build("dev")
    logs = site.instance.all_logs(result.run_id)
    said = "defer_to: no commit of prdo was prepared in this Dagster: did you mean prod?"
    assert said in [entry.user_message for entry in logs]


def test_an_environment_does_not_defer_to_itself(site: Described) -> None:
    site.describe("dev", "dev", defer_to="dev")
    with pytest.raises(
        SettingsError, match=r"^environment dev: defer_to: dev is this environment itself: name an"
    ):
        site.load("dev")


class ByKind(DefaultTranslator):
    """Of which two models may have one key, as no model of the project had at first."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        key = super().get_asset_key(dbt_resource_props)
        return dg.AssetKey(["shop", key.path[-1].removesuffix("_copy")])


def test_a_commit_that_the_translator_cannot_show_is_not_loaded(site: Described) -> None:
    site.describe("prod", "main", ByKind())
    site.build_all()
    loaded = site.loaded["prod"]
    site.clone.write("models/customers_copy.sql", "select * from {{ ref('customers') }}")
    sha = site.clone.push("a copy")
    said = site.says()
    assert f"main at {sha[:10]} cannot be prepared: it cannot be loaded: models/customers" in said
    assert "have the same asset key shop/customers: give one of them meta.dagster.as" in said
    assert "nothing is due" in said  # of the commit that is loaded
    assert site.loaded["prod"] is loaded
    # Whoever restarts loads the last good one.
    assert dg.AssetKey(["shop", "customers"]) in {
        spec.key for spec in site.load().resolve_all_asset_specs()
    }
    (site.clone.folder / "dbt" / "models" / "customers_copy.sql").unlink()
    site.clone.write("models/regulars.sql", "select * from {{ ref('customers') }}")
    site.clone.push("no copy")
    assert names(site.request()) == ["regulars"]


class Apart(DefaultTranslator):
    """Tells apart what the default one does not."""

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        return dg.AssetKey([dbt_resource_props["resource_type"], dbt_resource_props["name"]])


def test_a_commit_that_only_the_default_translator_cannot_show_is_loaded(site: Described) -> None:
    site.describe("prod", "main", Apart())
    site.build_all()
    site.clone.write(
        "models/customers_copy.sql",
        "{{ config(meta={'dagster': {'asset_key': ['customers']}}) }}"
        "select * from {{ ref('customers') }}",
    )
    site.clone.push("a copy")
    assert names(site.request()) == ["customers_copy"]
