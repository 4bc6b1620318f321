"""The push sensor: what the newest commit of the environment's branch makes due is built.

Where people hold the environment at an older commit, it is that one.

Nothing remembers which commits were seen. Each tick compares what was built, as Dagster recorded
it, with what that commit says, so that several pushes at once, a force-push, a revert, a failed
build and a crash are no special cases. What is due is tried once for a commit: a node that fails
is due until somebody pushes a remedy or starts it by hand.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dagster as dg

from dbt_orchestration import dagster_internals
from dbt_orchestration.assets.dbt_assets import DbtAssets, of_environment
from dbt_orchestration.automation.orders import follows
from dbt_orchestration.automation.outcome import Finding, Outcome
from dbt_orchestration.automation.request import request
from dbt_orchestration.automation.tick import Tick, title
from dbt_orchestration.automation.wanted import Wanted
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.as_it_was import taken_back
from dbt_orchestration.ledger.attempts import CRASH_TAGS, unfinished_runs
from dbt_orchestration.ledger.built import read_built
from dbt_orchestration.ledger.doubt import doubt_stopped
from dbt_orchestration.ledger.due import Ledger
from dbt_orchestration.ledger.inspection import built_here
from dbt_orchestration.ledger.present import keep, place_in_the_log
from dbt_orchestration.ledger.pushes import nothing_due
from dbt_orchestration.ledger.run_tags import FORM_TAG, RAW_TAG, REVISION_TAG, run_tags
from dbt_orchestration.ledger.waiting import observed
from dbt_orchestration.revisions.disk import full_disk
from dbt_orchestration.revisions.warehouse import as_it_says
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.types import named

# A tick asks git only every ``push.interval_seconds``. Those between are for what is in progress: a
# commit that has just been loaded, a run that has ended.
_TICK_SECONDS = 5
# A person who wipes what Dagster knows of an asset leaves no event.
_SAME_SECONDS = 60.0


def push_sensor(
    settings: Settings,
    environment: str,
    revision: Revision | None,
    dbt: DbtAssets | None,
    raw: Collection[dg.AssetKey] = (),
    *,
    refusal: Callable[[Revision], str] | None = None,
) -> dg.SensorDefinition:
    """The sensor of an environment whose code location has loaded ``revision``, if any.

    Args:
        raw: tables that Dagster loads itself; nothing is built before they are there.
        refusal: says why a prepared commit cannot be loaded; "" if it can be. None if the process
            that prepares it finds that out.
    """
    followed = settings.environment(environment)
    storage = dagster_internals.state_storage()
    loaded_in = dagster_internals.instance_of(storage) if storage else None

    @dg.sensor(
        name=named(environment, "push"),
        asset_selection=of_environment(dbt) if dbt else None,
        job=None if dbt else _nothing(environment),
        minimum_interval_seconds=min(_TICK_SECONDS, followed.push.interval_seconds),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Builds what a push to {followed.branch} changed.",
    )
    def push(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        tick = Tick(settings, environment, revision, dbt, context, checks=refusal is None)
        if dagster_internals.is_one_database(loaded_in, context.instance):
            _Push(tick, raw, refusal).look()
        else:
            # As without the dagster.yaml: the code server looks well, and loads nothing new.
            home = os.environ.get("DAGSTER_HOME", "not set")
            tick.find(Outcome.ANOTHER_DAGSTER, environment=environment, home=home)
        said = [*tick.orders, tick.last_push]
        if tick.known.get("said") != said:
            tick.events.append(follows(environment, tick.hold, tick.pause))
            tick.leave(said=said)
        return tick.result()

    return push


def _nothing(environment: str) -> dg.JobDefinition:
    """A sensor has to have something that it could start."""

    @dg.op(name=named(environment, "wait_for_the_first_commit"))
    def wait() -> None:
        pass

    @dg.job(name=named(environment, "nothing"), executor_def=dg.in_process_executor)
    def nothing() -> None:
        wait()

    return nothing


@dataclass(frozen=True)
class _Push:
    """What the sensor does in one tick.

    Attributes:
        raw, refusal: as of ``push_sensor``.
    """

    tick: Tick
    raw: Collection[dg.AssetKey]
    refusal: Callable[[Revision], str] | None

    def look(self) -> None:
        """Prepare and load the commit that is wanted, or if it is loaded build what is due."""
        tick = self.tick
        if full := full_disk(tick.settings):
            tick.find(Outcome.DISK_FULL, why=full)
            return
        if self._is_time_to_ask():
            if Wanted(tick, self.refusal).look():
                return
            trouble = [each.as_json() for each in tick.found]
            if trouble and trouble != tick.known.get("trouble"):
                tick.context.log.warning(" ".join(map(str, tick.found)))
            tick.leave(looked=time.time(), trouble=trouble, asked=tick.orders)
        else:
            known = map(Finding.of, tick.known.get("trouble") or ())
            tick.found += [each for each in known if each]
        loaded = tick.loaded
        commit = loaded.commit if loaded else None
        if tick.hold and not (commit and commit.sha == tick.hold.sha):
            return  # whoever has ordered it does not want what is loaded to be built
        if loaded and commit and tick.dbt:
            self._build(loaded, tick.dbt)
        elif not tick.found:
            tick.find(Outcome.NO_COMMIT)

    def _is_time_to_ask(self) -> bool:
        tick = self.tick
        interval = tick.settings.environment(tick.environment).push.interval_seconds
        looked = float(tick.known.get("looked", 0.0))
        return (
            not tick.loaded
            or tick.known.get("revision") != tick.loaded.digest
            or tick.known.get("asked") != tick.orders
            or not looked <= time.time() < looked + interval - 1
        )

    def _build(self, revision: Revision, dbt: DbtAssets) -> None:
        tick, known = self.tick, self.tick.known
        instance = tick.context.instance
        # SQLite keeps a form's events apart: its run is all that tells of it.
        forms = dg.RunsFilter(
            tags={FORM_TAG: tick.environment}, statuses=[dg.DagsterRunStatus.SUCCESS]
        )
        newest = instance.event_log_storage.get_maximum_record_id()
        now = [revision.digest, [newest, instance.get_runs_count(forms)], tick.orders]
        same = [known.get(each) for each in ("revision", "position", "orders")] == now
        before = Finding.of(known.get("built"))
        if same and before and 0 <= time.time() - known.get("at", 0.0) < _SAME_SECONDS:
            # Nothing has happened since the last tick found this.
            tick.found.append(before)
            return
        # Listed before it is read what they built: a run that ends in between is waited for once
        # more, rather than what it built last being taken for not built.
        unfinished = unfinished_runs(instance)
        doubt_stopped(instance, tick.environment)
        assert revision.commit is not None
        sha = revision.commit.sha
        if known.get("seen") != revision.digest and self._look(sha, revision, dbt):
            tick.leave(seen=revision.digest)
        ledger = Ledger(tick.settings, tick.environment, instance, revision, dbt)
        is_seen = tick.known.get("seen") == revision.digest
        due = ledger.due(partial(tick.wait_for, tick.follower, sha)) if is_seen else None
        if due is None:
            doing = tick.follower.doing
            tick.find(Outcome.COMPARING, commit=title(revision), doing=doing)
            return
        tick.events += observed(due, dbt, known.get("waits") or {})
        tick.leave(waits=due.asked)
        tick.events += taken_back(instance, dbt, due)
        facts: dict[str, Any] = {"commit": title(revision), "count": due.count}
        facts |= {"asks": due.asks(dbt), "waiting": due.asked}
        if due and tick.pause:
            outcome, facts["names"] = Outcome.PAUSED, due.names(dbt)
        elif due and (missing := self._not_loaded()):
            facts["what"] = self._load_raw(ledger, missing, unfinished)
            outcome = Outcome.WAITS_FOR_DATA
        elif due and (waiting := ledger.building(ledger.wanted(due), unfinished)):
            outcome, facts["run"] = Outcome.WAITS_FOR_RUN, waiting[0].run_id[:8]
        elif fresh := ledger.not_tried(due):
            outcome, facts["names"] = Outcome.BUILDS, due.names(dbt)
            held = f"held {tick.hold.origin}" if tick.hold else ""
            tick.requests.append(request(ledger, fresh, [held, ledger.let_by()]))
        elif due:
            outcome, facts["names"] = Outcome.TRIED, due.names(dbt)
        elif due.waiting:
            outcome = Outcome.WAITS_FOR_APPROVAL
        else:
            outcome, facts["nodes"] = Outcome.NOTHING_DUE, str(len(dbt.nodes))
            if due.built and known.get("revision") != revision.digest:
                tick.events.append(nothing_due(tick.environment, revision, due.built))
        tick.find(outcome, **facts)
        if tick.found[-1] != before:
            # The UI shows what a tick says only to who points at it; this is under "View logs".
            tick.context.log.info(str(tick.found[-1]))
        built, at = tick.found[-1].as_json(), time.time()
        tick.leave(built=built, at=at, revision=now[0], position=now[1], orders=now[2])

    def _look(self, sha: str, revision: Revision, dbt: DbtAssets) -> bool:
        """Remember what of the commit is in the warehouse; whether that is known.

        The process that prepared it has looked for what it knew of: not for models that another
        commit had taken out, and not at all if the commit was prepared long ago.
        """
        tick = self.tick
        instance, recorded = tick.context.instance, tick.recorded()
        seen = self._keep_seen(sha, revision, dbt)
        wanted = as_it_says(tick.settings, tick.environment, revision, dict(recorded))
        if wanted <= seen:
            return True
        follower = replace(tick.follower, place=place_in_the_log(instance), look=True)
        if not tick.wait_for(follower, sha, recorded):
            return False
        self._keep_seen(sha, revision, dbt)
        return True

    def _keep_seen(self, sha: str, revision: Revision, dbt: DbtAssets) -> set[str]:
        tick, instance = self.tick, self.tick.context.instance
        place, seen = tick.follower.take_seen(sha)
        here = built_here(tick.settings, instance, revision, dbt.keys) if seen else {}
        keep(instance, {dbt.keys[u]: each for u, each in seen.items() if u in here}, place)
        return set(seen)

    def _not_loaded(self) -> list[dg.AssetKey]:
        names = {key.to_user_string(): key for key in self.raw}
        missing = names.keys() - read_built(self.tick.context.instance, names).keys()
        return sorted(names[name] for name in missing)

    def _load_raw(
        self, ledger: Ledger, missing: Sequence[dg.AssetKey], unfinished: Sequence[dg.DagsterRun]
    ) -> str:
        """Have raw tables loaded, once for a revision; what is waited for."""
        tick, names = self.tick, ", ".join(key.path[-1] for key in missing)
        if loading := ledger.building(missing, unfinished):
            return f"run {loading[0].run_id[:8]} to load {names}"
        tags = {RAW_TAG: tick.environment, REVISION_TAG: ledger.revision.digest}
        tried = tick.context.instance.get_runs(dg.RunsFilter(tags=tags), limit=1)
        if tried and tried[0].is_finished:
            return f"{names}, which run {tried[0].run_id[:8]} did not load: materialize them"
        why = f"raw data that the commit reads: {names}"
        tick.requests.append(
            dg.RunRequest(
                run_key=f"{ledger.revision.digest} raw",
                asset_selection=list(missing),
                tags={**run_tags(tick.environment, ledger.revision, why), **CRASH_TAGS, **tags},
            )
        )
        return f"{names} to be loaded"
