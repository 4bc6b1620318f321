"""A run's process is killed at any moment: what it did is not lost, and what is left is done.

The run is a real process, which kills itself with SIGKILL when that moment comes. Of Dagster's
daemon only what it does about such a run is played: it ends it, and then resumes it, or does not if
it cannot reach the code location, so that the push sensor asks again.
"""

from __future__ import annotations

import pickle
import signal
import sys
from pathlib import Path

import dagster as dg
import pytest

from tests.automation.site import Site, prepared_here
from tests.conftest import clean_environment
from tests.faults.moments import FORKS, Built, Call, Moment, Sql, ended
from tests.faults.shop import End, dagster_in

RESUMED, ASKED_AGAIN = "it is resumed", "the push sensor asks again"

# Each with what Dagster does about the run.
MOMENTS = {
    "before it says that it is alive": (Call("runs.liveness.hold"), RESUMED),
    "before it looks what is to do": (Call("runs.plan.Planner.selected"), ASKED_AGAIN),
    "while it looks into the warehouse": (Sql("__relations:"), RESUMED),
    "before it says what it touches": (Call("runs.execute.announce"), ASKED_AGAIN),
    "before dbt starts": (Call("runs.execute.Build._build"), RESUMED),
    "in a seed, whose table is dropped": (Sql(r"On seed\.shop\.raw_orders: COPY"), ASKED_AGAIN),
    "a seed is built and not recorded": (Built("raw_orders"), RESUMED),
    "in a view, between its two renames": (
        Sql(r"stg_orders:.*alter view .*__dbt_tmp"),
        ASKED_AGAIN,
    ),
    "in a table, between its two renames": (Sql(r"customers:.*alter table .*__dbt_tmp"), RESUMED),
    "in a table, before its commit": (Sql(r"On model\.shop\.customers: COMMIT"), ASKED_AGAIN),
    "a table is built and not recorded": (Built("customers"), RESUMED),
    "in a full refresh, between its two renames": (
        Sql(r"shop\.kept:.*alter table .*__dbt_tmp"),
        ASKED_AGAIN,
    ),
    "in the second batch beside": (Sql(r"On model\.shop\.anew:.*create temporary table"), RESUMED),
    "all is built beside and not swapped": (Call("runs.shadow.ShadowTables.swap_in"), ASKED_AGAIN),
    "in a swap, between its two renames": (
        Sql(r"swap_in:.*alter table .*__rebuild_\w+. rename"),
        RESUMED,
    ),
    "a table is swapped in and not recorded": (Call("runs.landing.Landing.swapped"), ASKED_AGAIN),
    "before older tables beside are dropped": (Call("runs.shadow.ShadowTables.tidy"), RESUMED),
    "in a snapshot": (Sql(r"On snapshot\.shop\.history:.*update "), ASKED_AGAIN),
    "a snapshot is taken and not recorded": (Built("history"), RESUMED),
    "in a test": (Sql(r"On test\.shop\.unique"), ASKED_AGAIN),
    "in the second batch of a history": (Sql(r"On model\.shop\.daily:.*delete from", 2), RESUMED),
    "a history is built and not recorded": (Built("daily"), ASKED_AGAIN),
    "before it gives back what it touched": (Call("runs.execute.give_back"), RESUMED),
    "all is recorded and it has not ended": (Call("runs.execute.built_by_push"), ASKED_AGAIN),
}


@pytest.mark.parametrize("home", ["asked"], indirect=True)
@pytest.mark.parametrize(("moment", "then"), MOMENTS.values(), ids=MOMENTS)
def test_a_killed_run_loses_nothing(
    home: Path, undisturbed: End, moment: Moment, then: str
) -> None:
    process = FORKS.Process(target=_run, args=(home, moment))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL, (home / "run.log").read_text()
    with prepared_here(), dagster_in(home) as instance:
        site = Site.of(home, instance)
        site.load()
        killed = ended(instance)
        assert killed is not None
        if then == RESUMED:
            assert killed.tags["dagster/will_retry"] == "true"
            resumed = _resume(site, killed)
            assert resumed.success
            assert not _landed(site, killed.run_id) & _landed(site, resumed.run_id)
        else:
            instance.add_run_tags(killed.run_id, {"dagster/will_retry": "false"})
        assert "nothing is due" in site.build_all()
        assert End.of(site) == undisturbed


def _run(home: Path, moment: Moment) -> None:
    clean_environment(pytest.MonkeyPatch())
    sys.stdout = sys.stderr = (home / "run.log").open("w")
    with dagster_in(home) as instance:
        site = Site.of(home, instance)
        site.load()
        moment.kill()
        site.run(pickle.loads((home / "request.pickle").read_bytes()))


def _landed(site: Site, run_id: str) -> set[tuple[dg.AssetKey | None, str | None]]:
    """The nodes, and partitions, that a run is on record to have built.

    What it had no time to put on record is in the log of the run alone.
    """
    return {
        (key, record.partition_key)
        for key in site.instance.all_asset_keys()
        for record in site.instance.fetch_materializations(key, limit=1000).records
        if record.run_id == run_id
    }


def _resume(site: Site, killed: dg.DagsterRun) -> dg.ExecuteInProcessResult:
    """What the daemon starts: the rest of the run, as Dagster says what that is."""
    assert killed.execution_plan_snapshot_id
    plan = site.instance.get_execution_plan_snapshot(killed.execution_plan_snapshot_id)
    assets, checks = site.instance.run_domain.get_keys_to_reexecute(killed.run_id, plan)
    return site.run(
        dg.RunRequest(
            asset_selection=sorted(assets),
            asset_check_keys=sorted(checks),
            run_config=killed.run_config,
            tags={
                **{k: v for k, v in killed.tags.items() if not k.startswith("dagster/")},
                "dagster/parent_run_id": killed.run_id,
                "dagster/root_run_id": killed.root_run_id or killed.run_id,
                "dagster/is_asset_resume_retry": "true",
            },
        )
    )
