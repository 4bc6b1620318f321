"""A push on Snowflake: the real adapter and connector, against an emulator."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbt_orchestration.history.order import Order
from tests.automation.conftest import _prepare_here  # noqa: F401
from tests.automation.site import SHOP, Clone, Site, follow
from tests.conftest import EVERY_NODE, failure
from tests.instances import dagster_in
from tests.snowflake.emulator import running_emulator
from tests.snowflake.test_snowflake import PROFILE, pytestmark, set_environment  # noqa: F401

DYNAMIC = """\
{{ config(materialized="dynamic_table", target_lag="1 hour", snowflake_warehouse="WH") }}
select order_id, amount from {{ ref("raw_orders") }}
"""


def test_a_dynamic_table_gets_its_new_query(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_emulator() as emulator, dagster_in(tmp_path) as instance:
        set_environment(monkeypatch, emulator.environment)
        clone = Clone(tmp_path, SHOP)
        clone.write("models/lively.sql", DYNAMIC)
        clone.push("a dynamic table")
        settings = follow(tmp_path, str(clone.remote), profile=PROFILE, profiles_dir=EVERY_NODE)
        site = Site(clone, instance, settings)
        result = site.build()
        assert result.success, failure(result)
        before = emulator.execute("select sum(amount) from shop.lively")
        clone.edit("models/lively.sql", "amount from", "amount * 100 as amount from")
        clone.push("in pence")
        request = site.request()
        assert Order.of_tags(request.tags).rebuild == ["model.shop.lively"]
        assert site.run(request).success
        [(amount,)] = emulator.execute("select sum(amount) from shop.lively")
        assert amount == before[0][0] * 100
        assert "nothing is due" in site.says()
