"""Relations of models that are gone: who sees them, and what drops them."""

from __future__ import annotations

import re
from typing import Any

import dagster as dg
import duckdb
import pytest

from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.operation import operate
from dbt_orchestration.operations import orphans_found
from dbt_orchestration.settings.models import Environment
from tests.automation.site import ALWAYS, Site, git
from tests.automation.test_dropped import WHY, reasons
from tests.automation.test_held import order
from tests.automation.test_history import shown
from tests.conftest import failure

TOTALS = dg.AssetKey(["prod", "totals"])


# In a second database, where what goes has a namesake in the first.
FAR_OFF = "{{ config(database='second', alias='Off') }} select 3 as three"
FAR = """{{ config(database='second') }} select * from second."main".off"""


def attach_second(site: Site) -> Site:
    path = "{{ env_var('DBT_DUCKDB_PATH') }}.second"
    profiles = site.clone.home / "profile" / "profiles.yml"
    attach = f'attach: [{{path: "{path}", alias: second}}]'
    profiles.write_text(
        profiles.read_text().replace("schema: main", f"schema: main\n      {attach}")
    )
    return site


@pytest.fixture
def built(built: Site) -> Site:
    """The site with its second database: it begins with the profile of the project."""
    return attach_second(built)


# Who looks at what reads a table that goes, and who names such a table himself.
EXPOSURES = """
exposures:
  - {name: board, type: dashboard, owner: {name: Ann}, depends_on: [ref('after')]}
  - name: kpi
    type: dashboard
    owner: {name: Ann}
    depends_on: [metric('twos')]
  - name: mail
    type: notebook
    owner: {name: Ann}
    config: {meta: {queries: [{sql: 'select * from "MAIN"."Seen"'}]}}
  - name: other
    type: dashboard
    description: all totals
    url: https://acme.com/main.totals_of_2020
    owner: {name: Ann}
    depends_on: [ref('customers')]
semantic_models:
  - name: twos
    model: ref('by_macro')
    entities: [{name: one, type: primary, expr: orders}]
    measures: [{name: twos, agg: sum, expr: orders, agg_time_dimension: at}]
    dimensions: [{name: at, type: time, type_params: {time_granularity: day}}]
models:
  - name: days
    time_spine: {standard_granularity_column: day}
    columns: [{name: day, granularity: day}]
metrics:
  - {name: twos, label: Twos, type: simple, type_params: {measure: twos}}
"""


def begin(site: Site) -> None:
    """A project without some of its models, of each of which something else is true."""
    attach_second(site)
    assert site.build().success
    (site.clone.folder / "dbt" / "macros").mkdir()
    site.clone.write("macros/old.sql", "{% macro old() %}{{ target.schema }}.totals{% endmacro %}")
    site.clone.write("models/again.sql", "select * from main.totals")
    site.clone.write("models/by_macro.sql", "select * from {{ old() }}")
    site.clone.write("models/after.sql", "select * from {{ ref('again') }}")
    site.clone.write("models/days.sql", "select date '2024-01-01' as day")
    site.clone.write("models/exposures.yml", EXPOSURES)
    site.clone.write("models/seen.sql", "select 1 as one")
    site.clone.write("models/off.sql", "select 2 as two")
    site.clone.write("models/far_off.sql", FAR_OFF)
    site.clone.write("models/far.sql", f"-- depends_on: {{{{ ref('far_off') }}}}\n{FAR}")
    site.clone.push("some that name a table")
    assert site.build().success
    site.query("create view main.by_hand as select * from main.totals")
    models = site.clone.folder / "dbt" / "models"
    (models / "totals.sql").unlink()
    (models / "seen.sql").rename(models / "sight.sql")
    site.clone.write("models/off.sql", "{{ config(enabled=false) }} select 2 as two")
    (models / "far_off.sql").unlink()
    site.clone.write("models/far.sql", FAR)
    site.clone.push("without some")
    assert "nothing is due" in site.build_all()


def tables(site: Site, of: str = "") -> set[str]:
    path = f"{site.settings.duckdb_path}{of and '.'}{of}"
    with duckdb.connect(path) as connection:
        found = connection.execute("select table_name from information_schema.tables").fetchall()
    return {str(name) for (name,) in found}


def test_what_is_left_is_shown_and_dropped_by_name(built: Site) -> None:
    plan = shown(built.launch("drop_orphans"))
    lines = [line for line in plan["plan"].splitlines() if "can be dropped" in line]
    [far, off, seen, totals] = lines
    built_at = r"built 20\d\d\\-\d\d\\-\d\d \d\d\\:\d\d UTC"
    assert "second\\.main\\.Off | table | model far\\_off, built 20" in far
    assert re.search(rf" \| deleted \| 1 rows \| {built_at} \| far \| ", far)
    assert "warehouse\\.main\\.off | " in off
    assert re.search(rf" \| disabled \| 1 rows \| {built_at} \|  \| ", off)
    assert "main\\.seen | " in seen
    assert " | renamed to sight | " in seen
    assert " | exposure mail | " in seen
    assert "main\\.totals | table | model totals, built 20" in totals
    read_by = "exposure board, exposure kpi, again, by\\_macro, view main\\.by\\_hand"
    assert f" UTC | {read_by} | " in totals
    assert "write some of them as names" in plan["next"]
    dry = shown(built.launch("drop_orphans", names=["main.totals"]))
    assert "seen" not in dry["plan"]
    assert "totals" in tables(built)
    said = shown(
        built.launch(
            "drop_orphans", names=['"Main"."Totals"'], reason="nobody reads it", dry_run=False
        )
    )
    assert "main.totals" in said["dropped"]
    assert not {"totals"} & tables(built)
    assert {"seen", "by_hand"} <= tables(built)
    [observed] = built.instance.fetch_observations(TOTALS, limit=1).records
    event = observed.asset_observation
    assert event
    assert str(event.description).endswith("main.totals: nobody reads it")
    of_second = built.launch("drop_orphans", names=["second.main.off"], reason="no", dry_run=False)
    assert shown(of_second)["dropped"] == "second.main.Off"
    assert "off" in tables(built)
    assert tables(built, "second") == {"far"}
    left = shown(built.launch("drop_orphans"))["plan"]
    assert "totals" not in left
    assert "second" not in left

    built.clone.write("models/totals.sql", "select count(*) as orders from {{ ref('customers') }}")
    built.clone.push("totals again")
    request = built.request()
    assert reasons(request)["totals"] == WHY
    assert built.run(request).success
    assert "totals" in tables(built)


def test_what_was_dropped_before_it_died_is_on_record(
    built: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    drops = list[str]()

    def dies(target: Any, manifest: Any, macro: str, scratch: str, **arguments: Any) -> Any:
        if macro == "drop":
            drops.append(macro)
            if len(drops) == 2:
                raise DbtError("the connection is gone")
        return operate(target, manifest, macro, scratch, **arguments)

    form = {"names": ["main.seen", "main.totals"], "reason": "nobody reads them", "dry_run": False}
    with monkeypatch.context() as patch:
        patch.setattr(orphans_found, "operate", dies)
        said = failure(built.launch("drop_orphans", **form))
    assert "totals could not be dropped: the connection is gone. Launch prod_drop_orphans" in said
    assert {"seen", "totals"} & tables(built) == {"totals"}
    assert built.instance.fetch_observations(dg.AssetKey(["prod", "seen"]), limit=1).records
    again = shown(built.launch("drop_orphans", **form))
    assert again["dropped"].endswith(".main.totals")
    assert "seen" not in again["dropped"]
    assert not {"seen", "totals"} & tables(built)
    none = shown(built.launch("drop_orphans", **form))["next"]
    assert none == "Nothing was dropped: none of them is there any more."
    built.clone.write("models/seen.sql", "select 1 as one")
    built.clone.push("seen again")
    assert reasons(built.request())["seen"] == WHY


def test_one_that_is_named_twice_is_dropped_once(built: Site) -> None:
    twice = ["main.totals", '"Main"."TOTALS"', "warehouse.main.totals", "main.seen"]
    said = shown(built.launch("drop_orphans", names=twice, reason="no", dry_run=False))
    assert said["dropped"] == "warehouse.main.totals, warehouse.main.seen"
    assert len(built.instance.fetch_observations(TOTALS, limit=9).records) == 1


def test_an_unknown_name_where_nothing_is_left(built: Site) -> None:
    every = ["main.totals", "main.seen", "warehouse.main.off", "second.main.off"]
    assert built.launch("drop_orphans", names=every, reason="no", dry_run=False).success
    said = failure(built.launch("drop_orphans", names=["main.total"], reason="no", dry_run=False))
    assert said == (
        "Nothing was started: names: 'main.total' is not there to be dropped: nothing is left of"
        " models that are gone."
    )


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["main.tot%"], "'main.tot%' is no whole name, such as main.old_orders"),
        (["totals"], "'totals' is no whole name"),
        (["main.customers"], "'main.customers' is nothing that Dagster built here and no model"),
        (["main.total"], "did you mean main.totals?"),
        (["main.off"], "'main.off' may be second.main.Off or warehouse.main.off: write which"),
        (["main.by_hand"], "'main.by_hand' is nothing that Dagster built here"),
        (["main.totals", "main.nothing"], "'main.nothing' is nothing that Dagster built here"),
    ],
)
def test_only_what_is_left_is_dropped(built: Site, names: list[str], why: str) -> None:
    before = tables(built)
    said = failure(built.launch("drop_orphans", names=names, reason="why not", dry_run=False))
    assert said.startswith("Nothing was started: names: ")
    assert why in said
    assert "\n" not in said
    assert tables(built) == before


def test_what_somebody_may_still_want_stays(built: Site) -> None:
    assert "reason: say why" in failure(
        built.launch("drop_orphans", names=["main.seen"], dry_run=False)
    )
    # Another environment of the same target has loaded a commit with all of them.
    dev = Environment(branch="dev", target="prod", push=ALWAYS)
    environments = {**built.settings.environments, "dev": dev}
    built.settings = built.settings.model_copy(update={"environments": environments})
    git(built.clone.folder, "push", "--quiet", "origin", "HEAD~1:refs/heads/dev")
    assert built.request("dev")
    said = failure(
        built.launch("drop_orphans", names=["main.totals"], reason="why not", dry_run=False)
    )
    assert said.endswith("main.totals is not dropped here: the environment dev has it.")
    (built.clone.folder / "dbt" / "snapshots").mkdir()
    built.clone.write(
        "snapshots/people.yml",
        "snapshots: [{name: people, relation: \"ref('customers')\","
        " config: {unique_key: customer_id, strategy: check, check_cols: all, schema: main}}]",
    )
    built.clone.push("a snapshot")
    assert "nothing is due" in built.build_all()
    (built.clone.folder / "dbt" / "snapshots" / "people.yml").unlink()
    built.clone.push("no snapshot")
    built.build_all()
    assert (
        "a snapshot's history cannot be built again" in shown(built.launch("drop_orphans"))["plan"]
    )
    order(
        built,
        "roll_back",
        commit=git(built.clone.folder, "rev-parse", "HEAD~1"),
        reason="wrong",
        dry_run=False,
    )
    said = failure(
        built.launch("drop_orphans", names=["main.seen"], reason="why not", dry_run=False)
    )
    assert said.startswith("Nothing was started: Held at ")
    assert "launch this afterwards" in said
    assert "seen" in tables(built)
