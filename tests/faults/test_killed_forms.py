"""A form is killed at any moment, or what it has ordered is: whoever goes on ends as if it had not.

The process is a real one, which launches the form, lets the sensor tick and builds what is asked
for, and kills itself with SIGKILL when the moment comes. If the form's run has failed of it, the
person launches the form again; and then the sensor goes on.
"""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dbt_orchestration.dbt.internals import adapters
from dbt_orchestration.ledger.held import held
from dbt_orchestration.ledger.run_tags import HELD_OVER_TAG, HOLD_TAG, WHY_TAG
from tests.automation.site import Site, prepared_here
from tests.automation.test_history import shown
from tests.automation.test_put_back import keeping
from tests.conftest import clean_environment, failure
from tests.faults.moments import FORKS, Built, Call, Moment, Said, Sql, Tagged, ended
from tests.faults.shop import End, dagster_in

ORPHANS = ["big_customers", "totals"]


@dataclass(frozen=True)
class Act:
    """What a person does.

    Attributes:
        before, after: the shop, as it is and as it ends.
        form: what is launched; "" for a push.
        fields: of the form.
        keeps: whether pushes keep copies of what they replace.
    """

    before: str
    after: str
    form: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    keeps: bool = False

    def site(self, home: Path, instance: dg.DagsterInstance) -> Site:
        site = Site.of(home, instance)
        return keeping(site) if self.keeps else site

    def launch(self, site: Site) -> None:
        if self.form:
            result = site.launch(self.form, reason="no", dry_run=False, **self.fields)
            assert result.success, failure(result)

    def is_killed(self, run: dg.DagsterRun | None) -> bool:
        """Whether it is the form's run, so that nothing is ordered."""
        return run is not None and run.job_name == f"prod_{self.form}"


ROLL_BACK = Act("pushed", "held", "roll_back", {"commit": "DATA-1", "until": "next_push"})
ROLL_FORWARD = Act("held", "pushed", "roll_forward")
PUSH = Act("held", "pushed", "")
DROP = Act("pushed", "dropped", "drop_orphans", {"names": [f"main.{name}" for name in ORPHANS]})
KEEP = Act("edited", "kept", "", keeps=True)
PUT_BACK = Act("kept", "put back", "roll_back", {"commit": "DATA-2"}, keeps=True)

CASES: Mapping[str, tuple[Act, Moment]] = {
    "roll back: before it reads the branch": (
        ROLL_BACK,
        Call("operations.hold_form.Remote.fetch"),
    ),
    "roll back: before the commit is prepared": (
        ROLL_BACK,
        Call("operations.hold_form.prepare_commit"),
    ),
    "roll back: before it is compared": (ROLL_BACK, Call("operations.hold_form.explain")),
    "roll back: before it is ordered": (ROLL_BACK, Tagged(HOLD_TAG)),
    "roll back: ordered and not shown": (ROLL_BACK, Said(dg.DagsterEventType.STEP_OUTPUT)),
    "roll back: shown and not ended": (ROLL_BACK, Said(dg.DagsterEventType.RUN_SUCCESS)),
    "roll back: before the commit is published": (ROLL_BACK, Call("automation.wanted.publish")),
    "roll back: published and not loaded": (ROLL_BACK, Call("automation.wanted.forget_old")),
    "roll back: before a run is asked for": (ROLL_BACK, Call("automation.push.request")),
    "roll back: in the second batch of a history": (
        ROLL_BACK,
        Sql(r"On model\.shop\.daily:.*delete from", 2),
    ),
    "roll back: a history is built and not recorded": (ROLL_BACK, Built("daily")),
    "roll forward: before it is ordered": (ROLL_FORWARD, Tagged(HOLD_TAG)),
    "roll forward: ordered and not ended": (
        ROLL_FORWARD,
        Said(dg.DagsterEventType.RUN_SUCCESS),
    ),
    "roll forward: published and not loaded": (
        ROLL_FORWARD,
        Call("automation.wanted.forget_old"),
    ),
    "next push: before the hold is ended": (PUSH, Tagged(HELD_OVER_TAG)),
    "next push: the hold is ended and nothing prepared": (
        PUSH,
        Call("automation.tick.Tick.wait_for"),
    ),
    "orphans: before they are looked for": (DROP, Call("operations.orphans_found.orphans")),
    "orphans: before they are shown": (DROP, Tagged(WHY_TAG)),
    "orphans: shown and none is dropped": (DROP, Call("operations.orphans_form._drop")),
    "orphans: while the first is dropped": (DROP, Sql("drop table if exists")),
    "orphans: before that is committed": (DROP, Sql("__drop: COMMIT")),
    "orphans: dropped and not on record": (DROP, Said(dg.DagsterEventType.ASSET_OBSERVATION)),
    "orphans: on record and not noted": (DROP, Call("operations.orphans_form.keep")),
    "orphans: while the second is dropped": (DROP, Sql("drop table if exists", 2)),
    "orphans: all are dropped and it has not ended": (
        DROP,
        Said(dg.DagsterEventType.RUN_SUCCESS),
    ),
    "copies: before the first is made": (KEEP, Sql("create .*table .*__kept_")),
    "copies: one is made": (KEEP, Sql("create .*table .*__kept_", 2)),
    "copies: made and not on record": (KEEP, Call("runs.copies.write_kept")),
    "copies: on record and nothing replaced": (KEEP, Call("runs.landing.Landing.results")),
    "copies: before old ones are looked for": (KEEP, Call("runs.copies.TableCopies.forget")),
    "put back: before the first is": (PUT_BACK, Sql("create .*table .*__rebuild_.*__kept_")),
    "put back: one is, beside its table": (
        PUT_BACK,
        Sql("create .*table .*__rebuild_.*__kept_", 2),
    ),
    "put back: all are, and none is in its place": (PUT_BACK, Sql("alter table")),
    "put back: before the copies are dropped": (PUT_BACK, Sql("drop table .*__kept_")),
    "put back: one copy is dropped": (PUT_BACK, Sql("drop table .*__kept_", 2)),
    "put back: the copies are dropped and on record": (PUT_BACK, Call("runs.copies.write_kept")),
}


@dataclass(frozen=True)
class Outcome:
    """What has to be as it is without a kill.

    Attributes:
        hold: the commit that it is held at; "" if it is not.
        dropped: what is on record of each orphan.
        copies: the rows of those that were kept, by their table.
    """

    end: End
    hold: str
    dropped: Mapping[str, Collection[str]]
    copies: Mapping[str, Collection[str]]

    @classmethod
    def of(cls, site: Site) -> Outcome:
        hold = held(site.instance, "prod")
        dropped = {
            name: {
                str(record.asset_observation and record.asset_observation.description)
                for record in site.instance.fetch_observations(
                    dg.AssetKey(["prod", name]), limit=10
                ).records
            }
            for name in ORPHANS
        }
        end, copies = End.of(site), dict[str, set[str]]()
        for name in [name for name in end.rows if "__kept_" in name]:
            # A run that is started anew keeps a copy of its own.
            copies.setdefault(name.partition("__")[0], set()).add(repr(end.rows[name]))
        rows = {name: rows for name, rows in end.rows.items() if "__kept_" not in name}
        helpers = [name for name in end.helpers if "__kept_" not in name]
        end = replace(end, rows=rows, helpers=helpers)
        return cls(end, hold.sha if hold else "", dropped, copies)


@dataclass(frozen=True)
class States:
    """The shop in each state, and the place where all of them were: dbt parses only once there."""

    kept: Path
    place: Path
    outcomes: dict[str, Outcome] = field(default_factory=dict)

    def keep(self, name: str, site: Site) -> None:
        self.outcomes[name] = Outcome.of(site)
        adapters.close_duckdb()
        shutil.copytree(self.place, self.kept / name, symlinks=True)

    def back_to(self, name: str) -> None:
        adapters.close_duckdb()
        shutil.rmtree(self.place)
        shutil.copytree(self.kept / name, self.place, symlinks=True)


@pytest.fixture(scope="module")
def states(shop: Path, tmp_path_factory: pytest.TempPathFactory) -> States:
    kept, place = (tmp_path_factory.mktemp(name) for name in ("kept", "place"))
    found = States(kept, place)
    shutil.copytree(shop / "ended", place, dirs_exist_ok=True, symlinks=True)
    with pytest.MonkeyPatch.context() as patch, prepared_here():
        clean_environment(patch)
        with dagster_in(place) as instance:
            site = Site.of(place, instance)
            site.clone.push("DATA-1 as it was")
            site.clone.edit("models/daily.sql", "sum(amount) * 10", "sum(amount) * 100")
            for name in ORPHANS:
                (site.clone.folder / "dbt" / "models" / f"{name}.sql").unlink()
            site.clone.push("DATA-2 a hundredfold, and fewer")
            assert "nothing is due" in site.build_all()
            found.keep("pushed", site)
            site.clone.edit("models/daily.sql", "sum(amount) * 100", "sum(amount) * 1000")
            site.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
            site.clone.push("DATA-3 a thousandfold, and the largest")
            found.keep("edited", site)
        for act in (ROLL_BACK, DROP, KEEP, PUT_BACK):
            found.back_to(act.before)
            with dagster_in(place) as instance:
                site = act.site(place, instance)
                act.launch(site)
                assert "nothing is due" in site.build_all()
                found.keep(act.after, site)
    return found


@pytest.mark.parametrize(("act", "moment"), CASES.values(), ids=CASES)
def test_it_ends_as_if_nothing_had_been_killed(states: States, act: Act, moment: Moment) -> None:
    states.back_to(act.before)
    process = FORKS.Process(target=_do, args=(states.place, act, moment))
    process.start()
    process.join()
    log = states.place / "form.log"
    assert process.exitcode == -signal.SIGKILL, log.read_text()
    with prepared_here(), dagster_in(states.place) as instance:
        site = act.site(states.place, instance)
        site.load()
        killed = ended(instance)
        if act.is_killed(killed):
            act.launch(site)
        elif killed is not None:  # Dagster cannot resume it
            instance.add_run_tags(killed.run_id, {"dagster/will_retry": "false"})
        assert "nothing is due" in site.build_all()
        assert Outcome.of(site) == states.outcomes[act.after]
        if act is DROP:
            assert "main" not in shown(site.launch("drop_orphans"))["plan"]


def _do(home: Path, act: Act, moment: Moment) -> None:
    clean_environment(pytest.MonkeyPatch())
    sys.stdout = sys.stderr = (home / "form.log").open("w")
    with prepared_here(), dagster_in(home) as instance:
        site = act.site(home, instance)
        site.load()
        if not act.form:
            site.clone.push("nothing more")
        moment.kill()
        act.launch(site)
        print(site.build_all())
