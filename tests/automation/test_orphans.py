"""Relations of models that are gone: who sees them, and what drops them."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.operation import operate
from dbt_orchestration.operations import orphans_form
from tests.automation.site import Site, git
from tests.automation.test_dropped import WHY, reasons
from tests.automation.test_held import order
from tests.automation.test_history import shown
from tests.conftest import failure

TOTALS = dg.AssetKey(["prod", "totals"])


def begin(site: Site) -> None:
    assert site.build().success
    site.clone.write("models/again.sql", "select * from main.totals")
    site.clone.write("models/seen.sql", "select 1 as one")
    site.clone.push("one that names a table")
    assert site.build().success
    site.query("create view main.by_hand as select * from main.totals")
    for name in ("totals", "seen"):
        (site.clone.folder / "dbt" / "models" / f"{name}.sql").unlink()
    site.clone.push("without totals and seen")
    assert "nothing is due" in site.build_all()


def tables(site: Site) -> set[str]:
    found = site.query("select table_name from information_schema.tables")
    return {str(name) for (name,) in found}


def test_what_is_left_is_shown_and_dropped_by_name(built: Site) -> None:
    plan = shown(built.launch("drop_orphans"))
    [seen, totals] = [line for line in plan["plan"].splitlines() if "can be dropped" in line]
    assert "main\\.seen | " in seen
    assert "main\\.totals | table | model totals, built 20" in totals
    assert " | 1 rows | " in totals
    assert " | again, view main\\.by\\_hand | " in totals
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
    assert "totals" not in shown(built.launch("drop_orphans"))["plan"].replace("by\\_hand", "")

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
        patch.setattr(orphans_form, "operate", dies)
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


@pytest.mark.parametrize(
    ("names", "why"),
    [
        (["main.tot%"], "'main.tot%' is no whole name, such as main.old_orders"),
        (["totals"], "'totals' is no whole name"),
        (["main.customers"], "'main.customers' is nothing that Dagster built here and no model"),
        (["main.total"], "did you mean main.totals?"),
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
