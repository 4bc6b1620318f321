"""The push sensor: what the newest commit of the environment's branch makes due is built.

Nothing remembers which commits were seen. Each tick compares what was built, as Dagster recorded
it, with what the newest commit says, so that several pushes at once, a force-push, a revert, a
failed build and a crash are no special cases. What is due is tried once for a commit: a node that
fails is due until somebody pushes a remedy or starts it by hand.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from time import monotonic
from typing import Any

import dagster as dg

from dbt_orchestration import dagster_internals
from dbt_orchestration.assets.dbt_assets import DbtAssets, of_environment
from dbt_orchestration.automation.cursors import read_cursor, write_cursor
from dbt_orchestration.automation.outcome import Finding, Outcome
from dbt_orchestration.automation.request import request
from dbt_orchestration.changes.terms import digest_value
from dbt_orchestration.dbt.parse import PrepareError, Revision
from dbt_orchestration.ledger.as_it_was import taken_back
from dbt_orchestration.ledger.attempts import CRASH_TAGS, unfinished_runs
from dbt_orchestration.ledger.built import read_built
from dbt_orchestration.ledger.doubt import doubt_stopped
from dbt_orchestration.ledger.due import Ledger
from dbt_orchestration.ledger.inspection import built_here, ours
from dbt_orchestration.ledger.present import keep, place_in_the_log
from dbt_orchestration.ledger.pushes import (
    can_be_built,
    cannot_be_built,
    cannot_be_seen,
    nothing_due,
)
from dbt_orchestration.ledger.run_tags import RAW_TAG, REVISION_TAG, run_tags
from dbt_orchestration.ledger.waiting import observed
from dbt_orchestration.revisions.commits import find_commit, is_current
from dbt_orchestration.revisions.current import used_by
from dbt_orchestration.revisions.disk import full_disk
from dbt_orchestration.revisions.explanation import Recorded
from dbt_orchestration.revisions.follow import Follower
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.revisions.store import forget_old, open_commit, publish, published
from dbt_orchestration.revisions.warehouse import as_it_says
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.types import named

# A tick asks git only every ``push.interval_seconds``. Those between are for what is in progress: a
# commit that has just been loaded, a run that has ended.
_TICK_SECONDS = 5
# Dagster gives a tick 60 seconds (DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS). All that a tick waits for
# shares these; what has not ended by then is there for one of the next.
_BUDGET_SECONDS = 50.0
_LOOK_SECONDS, _WAIT_SECONDS = 20.0, 30.0
# Publishing a commit cannot be cut short, and is not begun with less.
_LOAD_SECONDS = 25.0
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

    @dg.sensor(
        name=named(environment, "push"),
        asset_selection=of_environment(dbt) if dbt else None,
        job=None if dbt else _nothing(environment),
        minimum_interval_seconds=min(_TICK_SECONDS, followed.push.interval_seconds),
        default_status=dg.DefaultSensorStatus.RUNNING,
        description=f"Builds what a push to {followed.branch} changed.",
    )
    def push(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        tick = _Tick(settings, environment, revision, dbt, raw, refusal, context)
        tick.look()
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


@dataclass
class _Tick:
    settings: Settings
    environment: str
    loaded: Revision | None
    dbt: DbtAssets | None
    raw: Collection[dg.AssetKey]
    refusal: Callable[[Revision], str] | None
    context: dg.SensorEvaluationContext
    found: list[Finding] = field(default_factory=list)
    events: list[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation] = field(
        default_factory=list
    )
    requests: list[dg.RunRequest] = field(default_factory=list)
    known: Mapping[str, Any] = field(init=False)
    ends: float = field(default_factory=lambda: monotonic() + _BUDGET_SECONDS)

    def __post_init__(self) -> None:
        # What an earlier tick has left for this one, and this one leaves for the next.
        self.known = read_cursor(self.context.cursor)

    @property
    def left(self) -> float:
        """Seconds that it may still wait."""
        return max(0.0, self.ends - monotonic())

    def result(self) -> dg.SensorResult:
        """What Dagster is told."""
        return dg.SensorResult(
            run_requests=self.requests,
            skip_reason=None if self.requests else " ".join(map(str, self.found)),
            asset_events=self.events,
            cursor=write_cursor(
                self.found[-1].outcome if self.found else "nothing",
                {**self.known, "found": [each.as_json() for each in self.found]},
            ),
        )

    def _find(self, outcome: Outcome, **facts: Any) -> None:
        self.found.append(Finding(outcome, facts))

    def look(self) -> None:
        """Prepare and load the newest commit, or if it is loaded build what is due."""
        if full := full_disk(self.settings):
            self._find(Outcome.DISK_FULL, why=full)
            return
        if self._is_time_to_ask():
            sha = self._newest()
            if sha and not self._is_loaded(sha) and self._load(sha):
                return
            commit = self.loaded.commit if self.loaded else None
            if commit and sha and self._is_loaded(sha) and self._is_news("good", sha):
                self.events.append(can_be_built(self.environment, commit))
            trouble = [each.as_json() for each in self.found]
            if trouble and trouble != self.known.get("trouble"):
                self.context.log.warning(" ".join(map(str, self.found)))
            self._leave(looked=time.time(), trouble=trouble)
        else:
            known = map(Finding.of, self.known.get("trouble") or ())
            self.found += [each for each in known if each]
        if self.loaded and self.loaded.commit and self.dbt:
            self._build(self.loaded, self.dbt)
        elif not self.found:
            self._find(Outcome.NO_COMMIT)

    def _is_news(self, *newest: str) -> bool:
        """Whether the check on the newest commit does not say so already."""
        news = digest_value(newest)
        if self.known.get("newest") == news:
            return False
        self._leave(newest=news)
        return True

    def _leave(self, **known: Any) -> None:
        """Leave something for the next tick."""
        self.known = {**self.known, **known}

    def _is_time_to_ask(self) -> bool:
        interval = self.settings.environment(self.environment).push.interval_seconds
        looked = float(self.known.get("looked", 0.0))
        return (
            not self.loaded
            or self.known.get("revision") != self.loaded.digest
            or not looked <= time.time() < looked + interval - 1
        )

    @property
    def _branch(self) -> str:
        return self.settings.environment(self.environment).branch

    @property
    def _follower(self) -> Follower:
        return Follower(self.settings, self.environment, checks=self.refusal is None)

    # The newest commit

    def _newest(self) -> str | None:
        try:
            remote = Remote.of(self.settings)
            sha = remote.head(self._branch, min(_LOOK_SECONDS, self.left))
        except GitError as error:
            self._find(Outcome.UNREACHABLE, branch=self._branch, why=str(error))
            if self._is_news("unreachable"):
                said = cannot_be_seen(self.environment, self._branch, str(error))
                self.events.append(said)
            return None
        if sha is None:
            facts = {"branch": self._branch, "environment": self.environment}
            self._find(Outcome.NO_BRANCH, remote=str(remote.url), **facts)
        return sha

    def _is_loaded(self, sha: str) -> bool:
        loaded = self.loaded
        return bool(
            loaded
            and loaded.commit
            and loaded.commit.sha == sha
            and is_current(self.settings, self.environment, loaded)
        )

    def _load(self, sha: str) -> bool:
        """Whether ``sha`` is on its way; if not, what is loaded stays."""
        storage = self.context.instance.defs_state_storage
        named = {"branch": self._branch, "sha": sha[:10]}
        if storage is None:
            self._find(Outcome.NO_STORAGE)
            return True
        revision, problem = self._prepared(sha, storage), ""
        if revision is None and not (problem := self._follower.problem(sha)):
            follower = replace(self._follower, place=place_in_the_log(self.context.instance))
            recorded = self._recorded()
            if not self._wait_for(follower, sha, recorded):
                self._find(Outcome.PREPARING, **named, doing=follower.doing)
                return True
            revision = self._prepared(sha, storage)
            problem = self._follower.problem(sha) or full_disk(self.settings)
        if revision:
            problem = self.refusal(revision) if self.refusal else ""
        if problem:
            self._find(Outcome.BROKEN, **named, why=" ".join(problem.split()))
            if self._is_news("broken", sha, problem):
                commit = Remote.of(self.settings).known(self._branch, sha)
                self.events.append(cannot_be_built(self.environment, commit, problem))
            return False
        if revision is None:
            self._find(Outcome.MOVED_ON, **named)
            return True
        if self.left < _LOAD_SECONDS:
            self._find(Outcome.PREPARED, commit=_title(revision))
            return True
        if published(self.environment, storage) != revision.digest:
            publish(self.environment, revision, storage)
        instance = self.context.instance
        in_use = used_by(instance, self.environment)
        in_use |= {self.loaded.digest} if self.loaded else set()
        forget_old(self.settings, self.environment, in_use, storage)
        dagster_internals.reload_code_location(self.context, self.left)
        self._find(Outcome.LOADING, commit=_title(revision))
        return True

    def _prepared(self, sha: str, storage: dagster_internals.StateStorage) -> Revision | None:
        if revision := find_commit(self.settings, self.environment, sha):
            return revision
        digest = published(self.environment, storage) or ""
        if not digest.startswith(sha):
            return None
        try:  # on another machine
            revision = open_commit(self.settings, self.environment, digest, storage)
        except PrepareError:
            return None
        return revision if is_current(self.settings, self.environment, revision) else None

    def _recorded(self) -> Collection[Recorded]:
        if self.dbt is None or self.loaded is None:
            return set()
        built = read_built(self.context.instance, ours(self.settings, self.loaded, self.dbt.keys))
        return {(unique_id, last.fingerprint) for unique_id, last in built.items()}

    def _wait_for(self, follower: Follower, sha: str, recorded: Collection[Recorded]) -> bool:
        return follower.prepare(sha, recorded, min(_WAIT_SECONDS, self.left))

    # The commit that is loaded

    def _build(self, revision: Revision, dbt: DbtAssets) -> None:
        instance, known = self.context.instance, self.known
        position = instance.event_log_storage.get_maximum_record_id()
        same = (known.get("revision"), known.get("position")) == (revision.digest, position)
        before = Finding.of(known.get("built"))
        if same and before and 0 <= time.time() - known.get("at", 0.0) < _SAME_SECONDS:
            # Nothing has happened since the last tick found this.
            self.found.append(before)
            return
        # Listed before it is read what they built: a run that ends in between is waited for once
        # more, rather than what it built last being taken for not built.
        unfinished = unfinished_runs(instance)
        doubt_stopped(instance, self.environment)
        assert revision.commit is not None
        sha = revision.commit.sha
        if known.get("seen") != revision.digest and self._look(sha, revision, dbt):
            self._leave(seen=revision.digest)
        ledger = Ledger(self.settings, self.environment, instance, revision, dbt)
        is_seen = self.known.get("seen") == revision.digest
        due = ledger.due(partial(self._wait_for, self._follower, sha)) if is_seen else None
        if due is None:
            doing = self._follower.doing
            self._find(Outcome.COMPARING, commit=_title(revision), doing=doing)
            return
        self.events += observed(due, dbt, known.get("waits") or {})
        self._leave(waits=due.asked)
        self.events += taken_back(instance, dbt, due)
        facts: dict[str, Any] = {"commit": _title(revision), "count": due.count}
        facts |= {"asks": due.asks(dbt), "waiting": due.asked}
        if due and (missing := self._not_loaded()):
            facts["what"] = self._load_raw(ledger, missing, unfinished)
            outcome = Outcome.WAITS_FOR_DATA
        elif due and (waiting := ledger.building(ledger.wanted(due), unfinished)):
            outcome, facts["run"] = Outcome.WAITS_FOR_RUN, waiting[0].run_id[:8]
        elif fresh := ledger.not_tried(due):
            outcome, facts["names"] = Outcome.BUILDS, due.names(dbt)
            self.requests.append(request(self.environment, revision, dbt, fresh))
        elif due:
            outcome, facts["names"] = Outcome.TRIED, due.names(dbt)
        elif due.waiting:
            outcome = Outcome.WAITS_FOR_APPROVAL
        else:
            outcome, facts["nodes"] = Outcome.NOTHING_DUE, str(len(dbt.nodes))
            if due.built and known.get("revision") != revision.digest:
                self.events.append(nothing_due(self.environment, revision, due.built))
        self._find(outcome, **facts)
        if self.found[-1] != before:
            # The UI shows what a tick says only to who points at it; this is under "View logs".
            self.context.log.info(str(self.found[-1]))
        built = self.found[-1].as_json()
        self._leave(revision=revision.digest, position=position, at=time.time(), built=built)

    def _look(self, sha: str, revision: Revision, dbt: DbtAssets) -> bool:
        """Remember what of the commit is in the warehouse; whether that is known.

        The process that prepared it has looked for what it knew of: not for models that another
        commit had taken out, and not at all if the commit was prepared long ago.
        """
        instance, recorded = self.context.instance, self._recorded()
        seen = self._keep_seen(sha, revision, dbt)
        wanted = as_it_says(self.settings, self.environment, revision, dict(recorded))
        if wanted <= seen:
            return True
        follower = replace(self._follower, place=place_in_the_log(instance), look=True)
        if not self._wait_for(follower, sha, recorded):
            return False
        self._keep_seen(sha, revision, dbt)
        return True

    def _keep_seen(self, sha: str, revision: Revision, dbt: DbtAssets) -> set[str]:
        instance = self.context.instance
        place, seen = self._follower.take_seen(sha)
        here = built_here(self.settings, instance, revision, dbt.keys) if seen else {}
        keep(instance, {dbt.keys[u]: each for u, each in seen.items() if u in here}, place)
        return set(seen)

    def _not_loaded(self) -> list[dg.AssetKey]:
        names = {key.to_user_string(): key for key in self.raw}
        missing = names.keys() - read_built(self.context.instance, names).keys()
        return sorted(names[name] for name in missing)

    def _load_raw(
        self, ledger: Ledger, missing: Sequence[dg.AssetKey], unfinished: Sequence[dg.DagsterRun]
    ) -> str:
        """Have raw tables loaded, once for a revision; what is waited for."""
        names = ", ".join(key.path[-1] for key in missing)
        if loading := ledger.building(missing, unfinished):
            return f"run {loading[0].run_id[:8]} to load {names}"
        tags = {RAW_TAG: self.environment, REVISION_TAG: ledger.revision.digest}
        tried = self.context.instance.get_runs(dg.RunsFilter(tags=tags), limit=1)
        if tried and tried[0].is_finished:
            return f"{names}, which run {tried[0].run_id[:8]} did not load: materialize them"
        why = f"raw data that the commit reads: {names}"
        self.requests.append(
            dg.RunRequest(
                run_key=f"{ledger.revision.digest} raw",
                asset_selection=list(missing),
                tags={**run_tags(self.environment, ledger.revision, why), **CRASH_TAGS, **tags},
            )
        )
        return f"{names} to be loaded"


def _title(revision: Revision) -> str:
    commit = revision.commit
    assert commit is not None
    return f"{commit.branch} at {commit.short} “{commit.subject}”"
