"""dbt clone: tables of another environment in the place of a build, where they are the same."""

from __future__ import annotations

from typing import Any

import dagster as dg
import duckdb

from dbt_orchestration.history.request import going_on_from
from tests.automation.site import Site, git, names
from tests.automation.test_from_nothing import assert_from_nothing
from tests.automation.test_history import partitions
from tests.conftest import checks, failure
from tests.operations.forms import rows, shown, started

FORM = {"command": "clone", "copy_from": "prod", "reason": "a new dev"}
SNAPSHOT = """\
snapshots:
  - name: orders_then
    relation: ref('stg_orders')
    config: {unique_key: order_id, strategy: check, check_cols: [amount]}
"""


def write(site: Site, sql: str) -> None:
    with duckdb.connect(str(site.settings.duckdb_path)) as connection:
        connection.execute(sql)


def begin(site: Site) -> None:
    """Prod has all, and dev a commit more; nothing is built there."""
    site.clone.edit("models/models.yml", "columns", "description: who buys\n    columns")
    site.clone.edit(
        "models/customers.sql", "select", "{{ config(persist_docs={'relation': true}) }} select"
    )
    site.clone.edit("models/totals.sql", "select", "{{ config(post_hook='select 1') }} select")
    (site.clone.folder / "dbt" / "snapshots").mkdir()
    site.clone.write("snapshots/then.yml", SNAPSHOT)
    site.clone.push("with a snapshot")
    assert site.build().success
    site.clone.edit("models/big_customers.sql", "amount from", "amount + 1 as amount from")
    site.clone.push("one model", branch="dev")
    site.request("dev")


def test_what_is_the_same_is_copied_and_nothing_else_is_due(built: Site) -> None:
    begin(built)
    write(built, "update main.customers set amount = amount + 100000")
    write(built, "update main.daily set amount = amount + 100000")
    write(built, "update main.orders_then set amount = amount + 100000")
    asked = shown(built.launch("dbt", "", "dev", **FORM, select="fqn:*"))
    plan = {row[0]: row[1] for row in rows(asked["plan"])}
    assert plan["customers"].startswith("nothing: it is copied from warehouse.main.customers")
    assert plan["daily"].startswith("the partition 2024-01-03; 2 others are copied from")
    assert plan["stg_orders"] == "as a whole"
    assert plan["big\\_customers"] == "prod has none, or one of other code"
    assert plan["monthly"] == "prod has no partition of the same code but the newest"
    assert plan["totals"] == "a copy would lack what dbt makes besides its rows"
    [request] = started(built, "dev")
    assert "big_customers" not in names(request)
    result = built.run(request, "dev")
    assert result.success, failure(result)
    assert partitions(result, "daily") == ["2024-01-01", "2024-01-02", "2024-01-03"]
    assert built.query("select min(amount) > 100000 from dev.customers") == [(True,)]
    assert built.query("select min(amount) > 100000 from dev.orders_then") == [(True,)]
    assert built.query("select count(*) from dev.daily where amount > 100000") == [(2,)]
    said = "select comment from duckdb_tables() where schema_name = 'dev' and comment is not null"
    assert built.query(said) == [("who buys",)]
    assert checks(result)["unique_customers_customer_id"].passed
    assert names(built.request("dev")) == ["big_customers", "monthly", "totals"]
    assert built.query("select count(*) from main.daily where amount > 100000") == [(3,)]


def test_a_copied_environment_is_what_its_commit_built_from_nothing_is(built: Site) -> None:
    begin(built)
    built.launch("dbt", "", "dev", **FORM, select="fqn:*")
    [request] = started(built, "dev")
    result = built.run(request, "dev")
    assert result.success, failure(result)
    assert "nothing is due" in built.build_all("dev")
    write(built, "drop table dev.orders_then; drop table main.orders_then")  # when it was made
    (built.clone.folder / "dbt" / "snapshots" / "then.yml").unlink()
    git(built.clone.folder, "checkout", "--quiet", "-b", "compare")
    built.clone.push("without", branch="compare")
    assert_from_nothing(built, "compare", "dev")


def test_what_prod_has_no_more_is_left(built: Site) -> None:
    begin(built)
    built.launch("dbt", "", "dev", **FORM, select="customers kept")
    [request] = started(built, "dev")
    write(built, "drop table main.customers")
    result = built.run(request, "dev")
    assert result.success
    assert [row for (row,) in built.query("show tables from dev")] == ["kept"]
    built.launch("dbt", "", "dev", **FORM, select="customers")
    [request] = started(built, "dev")
    said = failure(built.run(request, "dev"))
    assert said == "prod has none of these tables any more"


def test_a_run_that_died_after_its_copies_makes_the_views(built: Site) -> None:
    begin(built)
    built.launch("dbt", "", "dev", **FORM, select="customers stg_orders raw_orders")
    [request] = started(built, "dev")
    died = built.run(request, "dev")
    assert died.success
    rest = request.with_replaced_attrs(
        asset_selection=[dg.AssetKey(["dev", "stg_orders"])],
        asset_check_keys=[],
        tags={**request.tags, **going_on_from(died.run_id, request.tags)},
    )
    result = built.run(rest, "dev")
    assert result.success, failure(result)


def test_what_cannot_be_is_refused_in_one_line(built: Site) -> None:
    built.clone.push("dev", branch="dev")
    built.request("dev")
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"select": "customers", "copy_from": ""}, "copy_from: name an environment, as defer_to"),
        ({"select": "customers", "copy_from": "dev"}, "copy_from: dev is this environment itself"),
        (
            {"select": "customers", "copy_from": "prd"},
            "copy_from: no commit of prd was prepared in this Dagster: did you mean prod?",
        ),
        ({"select": "custmers"}, "select: there is no model 'custmers'"),
        ({"select": "stg_orders"}, "select: nothing of 'stg_orders' can be copied: it has no rows"),
        ({"select": "customers", "reason": ""}, "reason: say in a few words why"),
        ({"select": "customers", "full_refresh": True}, "full_refresh: dbt clone takes none"),
    ]
    for form, why in wrong:
        line = failure(built.launch("dbt", "", "dev", **{**FORM, **form}))
        assert line.startswith(f"Nothing was started: {why}"), line
        assert "\n" not in line
    assert started(built, "dev") == []
