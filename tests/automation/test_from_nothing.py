"""After a push every relation is what the same commit built from nothing would be."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import duckdb
import pytest

from dbt_orchestration.history.order import Order
from dbt_orchestration.settings.models import Environment
from tests.automation.site import ALWAYS, Site, follow, names
from tests.automation.test_history import partitions
from tests.conftest import failure
from tests.instances import dagster_in

KEEPER = """\
{% materialization keeper, default %}
  {% set old = load_relation(this) %}
  {% set made = this.incorporate(type='table') %}
  {% if old is none or should_full_refresh() %}
    {% do adapter.drop_relation(old) if old is not none %}
    {% call statement('main') %}{{ create_table_as(False, made, sql) }}{% endcall %}
  {% else %}
    {% call statement('main') %}select 1{% endcall %}
  {% endif %}
  {% do adapter.commit() %}
  {{ return({'relations': [made]}) }}
{% endmaterialization %}
"""
LOGIC = """\
{{ config(
    materialized="incremental", incremental_strategy="delete+insert", unique_key="day_at",
    meta={"dagster": {"partitions":
        {"batch_size": "day", "begin": "2024-01-01", "end": "2024-01-04"}}}
) }}
select date_trunc('day', ordered_at) as day_at, sum(amount) as amount
from {{ ref("stg_orders") }}
where true
{% if var("partition_start", none) %}
  and ordered_at >= '{{ var("partition_start") }}' and ordered_at < '{{ var("partition_end") }}'
{% endif %}
group by 1
"""
BY_POSITION = """\
select * from {{ ref("daily") }} union all select * from {{ ref("earlier") }}
"""


def begin(site: Site) -> None:
    (site.clone.folder / "dbt" / "macros").mkdir()
    site.clone.write("macros/keeper.sql", KEEPER)
    site.clone.write(
        "models/kept_query.sql",
        "{{ config(materialized='keeper') }} select amount from {{ ref('customers') }}",
    )
    site.clone.write("models/by_vars.sql", LOGIC)
    site.clone.edit(
        "models/daily.sql", "lookback=0,", "lookback=0, on_schema_change='append_new_columns',"
    )
    site.clone.edit("models/daily.sql", '"end"', '"chunk": 2, "end"')
    site.clone.write(
        "models/earlier.sql",
        "select date '2023-01-01'::timestamp as day_at, 5::hugeint as amount",
    )
    site.clone.write("models/both.sql", BY_POSITION)
    site.clone.push("with readers")
    assert site.build().success


def relations(database: Path) -> dict[str, Any]:
    """Columns in their order with their types, and rows, of each relation."""
    with duckdb.connect(str(database)) as connection:
        found = connection.execute(
            "select table_schema || '.' || table_name from information_schema.tables"
            " where not contains(table_name, '__before_')"
        ).fetchall()
        return {
            name: (
                [row[:2] for row in connection.execute(f"describe {name}").fetchall()],
                sorted(map(repr, connection.execute(f"from {name}").fetchall())),
            )
            for (name,) in found
        }


def settle(site: Site) -> None:
    """Build what is due, to the end."""
    result = site.build()
    assert result.success, failure(result)
    assert "nothing is due" in site.says()
    assert_from_nothing(site)


def assert_from_nothing(site: Site, branch: str = "main", schema: str = "main") -> None:
    home = site.clone.home / "scratch"
    home.mkdir()
    only = {"prod": Environment(branch=branch, target="prod", push=ALWAYS)}
    settings = follow(home, str(site.clone.remote), environments=only)
    with dagster_in(home) as instance:
        scratch = Site(site.clone, instance, settings)
        result = scratch.build()
        assert result.success, failure(result)
    there, wanted = (relations(s.settings.duckdb_path) for s in (site, scratch))
    for name, relation in wanted.items():
        assert there.get(name.replace("main.", f"{schema}.", 1)) == relation, name
    shutil.rmtree(home)


def test_a_materialization_that_keeps_its_relation_is_made_anew(built: Site) -> None:
    built.clone.edit("models/kept_query.sql", "select amount", "select amount * 100 as amount")
    built.clone.push("in pence")
    request = built.request()
    assert Order.of_tags(request.tags).rebuild == ["model.shop.kept_query"]
    assert built.run(request).success
    assert_from_nothing(built)


@pytest.mark.parametrize(
    "seed",
    [
        "order_id,customer_id,amount,ordered_at,more\n1,1,10,2024-01-01,x\n",
        "order_id,amount,customer_id,ordered_at\n1,10,1,2024-01-01\n",
        "order_id,customer_id,amount,ordered_at\nA1,1,10.5,2024-01-01\n",
    ],
    ids=["a new column", "another order", "other types"],
)
def test_a_seed_is_loaded_as_from_nothing(built: Site, seed: str) -> None:
    built.clone.write("seeds/raw_orders.csv", seed)
    built.clone.push("other data")
    settle(built)


def test_a_seed_gets_the_type_that_is_stated_now(built: Site) -> None:
    built.clone.write(
        "seeds/types.yml",
        "seeds:\n  - name: raw_orders\n    config:\n      column_types: {amount: double}\n",
    )
    built.clone.push("a double")
    settle(built)


def test_a_seed_takes_the_place_of_a_view(built: Site) -> None:
    built.clone.write("models/rates.sql", "{{ config(materialized='view') }} select 1 as rate")
    built.clone.push("a view")
    settle(built)
    (built.clone.folder / "dbt/models/rates.sql").unlink()
    built.clone.write("seeds/rates.csv", "rate\n2\n")
    built.clone.push("a seed")
    settle(built)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"end": "2024-01-04"', '"end": "2024-01-03"'),
        ('"end": "2024-01-04"', '"end": "2024-01-06"'),
        ('begin="2024-01-01"', 'begin="2024-01-02"'),
        ('begin="2024-01-01"', 'begin="2023-12-30"'),
        ('batch_size="day"', 'batch_size="month"'),
    ],
)
def test_another_set_of_partitions(built: Site, old: str, new: str) -> None:
    built.clone.edit("models/daily.sql", old, new)
    built.clone.push(new)
    settle(built)
    built.clone.edit("models/totals.sql", "select", "select 1 as one,")
    built.clone.push("another model")
    assert names(built.request()) == ["totals"]


@pytest.mark.parametrize(
    ("old", "new"),
    [('"end": "2024-01-04"', '"end": "2024-01-03"'), ('"2024-01-01"', '"2024-01-02"')],
)
def test_another_set_of_partitions_of_a_model_that_reads_vars(
    built: Site, old: str, new: str
) -> None:
    built.clone.edit("models/by_vars.sql", old, new)
    built.clone.push(new)
    settle(built)


def test_what_a_build_of_the_day_left_of_earlier_partitions_stays_due(built: Site) -> None:
    built.clone.edit("seeds/raw_orders.csv", "2024-01-01", "2023-12-31")
    built.clone.push("earlier data")
    settle(built)
    built.clone.edit("models/daily.sql", 'begin="2024-01-01"', 'begin="2023-12-30"')
    built.clone.push("earlier")
    assert "daily" in names(built.request())
    assert built.materialize("daily", "both").success
    settle(built)


def test_a_new_column_in_the_middle_stands_in_the_middle(built: Site) -> None:
    built.clone.edit("models/daily.sql", "sum(amount) as amount", "7 as k, sum(amount) as amount")
    built.clone.edit("models/earlier.sql", "5::hugeint", "8 as k, 5::hugeint")
    built.clone.push("k")
    request = built.request()
    assert Order.of_tags(request.tags).rebuild == ["model.shop.daily"]
    assert built.run(request).success
    assert_from_nothing(built)


def test_another_type_of_a_column_is_the_type_of_the_table(built: Site) -> None:
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) / 4.0")
    built.clone.edit("models/earlier.sql", "5::hugeint", "5::double")
    built.clone.push("quarters")
    settle(built)


def test_another_type_of_a_seed_is_that_of_the_tables_that_keep_it(built: Site) -> None:
    text = (built.clone.folder / "dbt/seeds/raw_orders.csv").read_text()
    header, first, *rest = text.splitlines()
    amount = header.split(",").index("amount")
    cells = first.split(",")
    cells[amount] = f"{cells[amount]}.25"
    built.clone.write("seeds/raw_orders.csv", "\n".join([header, ",".join(cells), *rest, ""]))
    built.clone.push("pence")
    settle(built)


def test_the_same_type_keeps_the_table_and_goes_by_partition(built: Site) -> None:
    built.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 3")
    built.clone.push("three times")
    request = built.request()
    assert not Order.of_tags(request.tags).rebuild
    result = built.run(request)
    assert result.success
    assert partitions(result, "daily") == ["2024-01-02", "2024-01-03", "2024-01-01"]
    assert_from_nothing(built)


def test_rows_that_lie_outside_of_their_batch_do_not_stay(built: Site) -> None:
    odd = "case when sum(amount) > 0 then null else date_trunc('day', ordered_at) end as day_at"
    built.clone.edit("models/daily.sql", "date_trunc('day', ordered_at) as day_at", odd)
    built.clone.edit("models/daily.sql", "group by 1", "group by date_trunc('day', ordered_at)")
    built.clone.push("no days")
    settle(built)
    built.clone.edit("models/daily.sql", "sum(amount) as amount", "sum(amount) * 2 as amount")
    built.clone.push("twice")
    settle(built)


def test_a_new_model_does_not_add_to_a_table_that_nobody_knows(built: Site) -> None:
    built.query("create table main.fresh as select -1 as order_id, -2 as doubled")
    text = (built.clone.folder / "dbt/models/kept.sql").read_text()
    built.clone.write("models/fresh.sql", text)
    built.clone.push("fresh")
    settle(built)
    [(kept,)] = built.query(
        "select table_name from duckdb_tables() where starts_with(table_name, 'fresh__before_')"
    )
    assert built.query(f"from main.{kept}") == [(-1, -2)]


def test_partitions_without_a_size_are_refused_by_file_and_key(built: Site) -> None:
    built.clone.edit("models/by_vars.sql", '"batch_size": "day", ', "")
    built.clone.push("no size")
    said = built.says()
    assert "models/by_vars.sql" in said
    assert "batch_size" in said


def test_a_moved_model_does_not_add_to_a_table_that_is_not_its_own(built: Site) -> None:
    built.query("create table main.moved as select -1 as order_id, -2 as doubled")
    built.clone.edit("models/kept.sql", "unique_key", "alias='moved', unique_key")
    built.clone.push("moved")
    settle(built)


def test_partitions_that_a_view_had_once_do_not_count(built: Site) -> None:
    text = (built.clone.folder / "dbt/models/daily.sql").read_text()
    query = text[text.index("select") :]
    built.clone.write("models/daily.sql", "{{ config(materialized='view') }}\n" + query)
    built.clone.push("a view")
    settle(built)
    built.clone.write("models/daily.sql", text)
    built.clone.push("batches again")
    settle(built)


def test_days_that_a_model_which_reads_vars_does_not_have_any_more_go(built: Site) -> None:
    built.clone.edit(
        "models/by_vars.sql", "where true", "where ordered_at > timestamp '2024-01-01'"
    )
    built.clone.push("later days")
    settle(built)


def test_an_alias_and_back(built: Site) -> None:
    built.clone.edit("models/kept.sql", "unique_key", "alias='moved', unique_key")
    built.clone.edit("models/kept.sql", "amount * 2", "amount * 3")
    built.clone.push("moved")
    settle(built)
    built.clone.edit("models/kept.sql", "alias='moved', ", "")
    built.clone.edit("models/kept.sql", "amount * 3", "amount * 4")
    built.clone.push("and back")
    settle(built)
