"""What is wrong with an environment now, as Dagster's records and the push sensor's cursor say.

It is read from how things stand, and not from what happens: a daemon that was down finds it later.
Where that is not known, because a run has not ended or was cancelled, or a commit is being
prepared, it is as it was.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property

import dagster as dg

from dbt_orchestration import dagster_internals
from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.assets.translator import group_of
from dbt_orchestration.automation.jobs import daily_tags
from dbt_orchestration.automation.outcome import Finding, Outcome
from dbt_orchestration.automation.telling.incidents import Incident, Kind
from dbt_orchestration.dagster_internals import CheckStatus
from dbt_orchestration.dbt.parse import Commit
from dbt_orchestration.ledger.attempts import is_going_on
from dbt_orchestration.ledger.failures import Failed, RunFailure
from dbt_orchestration.ledger.held import Pause, held, paused
from dbt_orchestration.ledger.provenance import CODE_VERSION_TAG
from dbt_orchestration.ledger.recorded import evaluation_in, last_build
from dbt_orchestration.ledger.run_tags import PUSH_TAG, SHA_TAG
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.notify import Notify
from dbt_orchestration.settings.types import named

# A schedule that was due while Dagster was down starts within a minute of its return.
_START_SECONDS = 900.0
_PUSHES, _LONGEST = 100, 600
_OF_COMMIT = {
    *(Outcome.WAITS_FOR_DATA, Outcome.WAITS_FOR_RUN, Outcome.BUILDS, Outcome.TRIED),
    *(Outcome.WAITS_FOR_APPROVAL, Outcome.NOTHING_DUE, Outcome.PAUSED),
}
_GOOD = {*_OF_COMMIT, Outcome.COMPARING, Outcome.LOADING, Outcome.PREPARED}


@dataclass(frozen=True)
class Look:
    """One look at an environment.

    Attributes:
        dbt: its assets; None while no commit is loaded.
        found: what the push sensor found last.
        scheduled: since when the daily build's schedule is on, in seconds since 1970; None if it
            is off.
        before: the incidents that were not over, by key.
        now: in seconds since 1970.
    """

    settings: Settings
    environment: str
    instance: dg.DagsterInstance
    dbt: DbtAssets | None
    found: Sequence[Finding]
    scheduled: float | None
    before: Mapping[str, Incident]
    now: float

    def incidents(self) -> Mapping[str, Incident]:
        """What is wrong, by key."""
        rules = [self._commit(), self._waiting(), self._orders(), self._build(), self._push()]
        if self.dbt:
            rules += [self._models(self.dbt), self._tests(self.dbt), self._freshness(self.dbt)]
        else:
            rules.append(each for each in self.before.values() if each.node)
        found = {incident.key: incident for rule in rules for incident in rule}
        return {
            key: replace(each, since=self.before[key].since if key in self.before else self.now)
            for key, each in found.items()
        }

    @property
    def there(self) -> Collection[str]:
        """The unique ids of the project's nodes and tests."""
        return {*self.dbt.keys, *self.dbt.checks.values()} if self.dbt else ()

    def _as_before(self, kind: Kind, node: str = "") -> Iterator[Incident]:
        if known := self.before.get(Incident(kind, node).key):
            yield known

    # The commit

    def _commit(self) -> Iterator[Incident]:
        broken = [each for each in self.found if each.outcome is Outcome.BROKEN]
        if not broken:
            if not self.found or not {each.outcome for each in self.found} <= _GOOD:
                yield from self._as_before(Kind.COMMIT_BROKEN)
            return
        facts = {name: str(value) for name, value in broken[-1].facts.items()}
        facts |= self._commit_facts(facts["sha"])
        yield Incident(Kind.COMMIT_BROKEN, version=facts["sha"], facts=_short(facts))

    def _waiting(self) -> Iterator[Incident]:
        if not self.found or self.found[-1].outcome not in _OF_COMMIT:
            yield from self._as_before(Kind.HISTORY_WAITS)
        elif self.dbt and (waiting := self.found[-1].facts.get("waiting")):
            specs = [self._spec(u) for u in waiting if u in self.dbt.nodes]
            names = ", ".join(spec.key.path[-1] for spec in specs)
            count, job = sum(waiting.values()), named(self.environment, "rebuild_history")
            yield Incident(
                Kind.HISTORY_WAITS,
                version=names,
                facts={"what": names, "partitions": f"{count:,}", "job": job},
                groups=self._groups(specs),
                owners=tuple(sorted({owner for spec in specs for owner in spec.owners})),
            )

    def _orders(self) -> Iterator[Incident]:
        """What a person has ordered, and may forget."""
        hold = held(self.instance, self.environment)
        for kind, order, job in (
            (Kind.HELD, hold, "roll_forward"),
            (Kind.PAUSED, self._pause, "resume"),
        ):
            if order:
                facts = {"who": order.who, "time": order.began, "reason": order.reason.rstrip(".")}
                facts |= {"sha": hold.sha[:10] if hold else "", "job": named(self.environment, job)}
                yield Incident(kind, version=order.run_id, facts=_short(facts))

    @cached_property
    def _pause(self) -> Pause | None:
        return paused(self.instance, self.environment)

    # Runs

    def _build(self) -> Iterator[Incident]:
        last = self._newest(daily_tags(self.environment))
        yield from self._ended(Kind.BUILD_FAILED, last)
        # Of a paused one everybody can read why it does not start.
        if self.scheduled is not None and not self._pause:
            yield from self._late(last, self.scheduled)

    def _push(self) -> Iterator[Incident]:
        """A push's run that failed without saying that a model or test did."""
        for incident in self._ended(Kind.PUSH_FAILED, self._newest({PUSH_TAG: self.environment})):
            if not self._failure(incident.version).nodes:
                yield incident

    def _ended(self, kind: Kind, last: dg.RunRecord | None) -> Iterator[Incident]:
        run = last.dagster_run if last else None
        if run and self._is_open(run):
            yield from self._as_before(kind)
        elif run and run.status is dg.DagsterRunStatus.FAILURE:
            failure = self._failure(run.run_id)
            why = "" if failure.nodes else failure.said
            yield Incident(kind, version=run.run_id, facts=_short({"run": run.run_id, "why": why}))

    def _late(self, last: dg.RunRecord | None, scheduled: float) -> Iterator[Incident]:
        build = self.settings.environment(self.environment).full_build
        # Somebody may want to know who is not told.
        notify = self.settings.notify_of(self.environment) or Notify()
        now = datetime.fromtimestamp(self.now, UTC)
        due = dagster_internals.last_cron_tick(build.cron, build.timezone, now)
        late, time = (now - due).total_seconds(), due.strftime("%Y-%m-%d %H:%M")
        if due.timestamp() < scheduled:
            return
        if last is None or last.create_timestamp < due:
            if late > _START_SECONDS:
                yield Incident(Kind.BUILD_NOT_STARTED, version=time, facts={"time": time})
        elif self._is_open(last.dagster_run) and late > notify.late_after_minutes * 60:
            facts = {"time": time, "run": last.dagster_run.run_id}
            yield Incident(Kind.BUILD_LATE, version=time, facts=facts)

    def _newest(self, tags: Mapping[str, str]) -> dg.RunRecord | None:
        records = self.instance.get_run_records(dg.RunsFilter(tags=tags), limit=1)
        return records[0] if records else None

    # Models and tests

    def _models(self, dbt: DbtAssets) -> Iterator[Incident]:
        names = {key: unique_id for unique_id, key in dbt.nodes.items()}
        records = self.instance.get_asset_records(list(names))
        entries = [each.asset_entry for each in records]
        tried = {names[each.asset_key]: each for each in entries if each.last_run_id}
        built = {names[r.asset_entry.asset_key]: last_build(self.instance, r) for r in records}
        doubtful = {
            u: str(each.last_run_id)
            for u, each in tried.items()
            # Of what has partitions some may have failed in the run that has built others.
            if not ((last := built[u]) and last.run_id == each.last_run_id) or last.partition_key
        }
        runs = self._runs(set(doubtful.values()))
        for unique_id, run_id in doubtful.items():
            run, last, kind = runs.get(run_id), built[unique_id], Kind.MODEL_FAILED
            if run is None or self._is_open(run):
                yield from self._as_before(kind, unique_id)
            elif run.status is dg.DagsterRunStatus.FAILURE:
                failure, found = self._failure(run_id), self._as_before(kind, unique_id)
                if failed := failure.nodes.get(unique_id):
                    said = {"run": run_id, "fingerprint": failed.fingerprint}
                    found = iter([self._of_node(kind, unique_id, unique_id, failed, **said)])
                elif last and last.run_id == run_id:
                    continue
                # Else it was skipped, or the run did not come to it.
                yield from (each for each in found if not self._was_taken_back(each, last))

    def _was_taken_back(self, incident: Incident, last: dg.EventLogRecord | None) -> bool:
        """Whether a model stands as the commit says, of which other code had failed."""
        assert self.dbt is not None
        event = last.asset_materialization if last else None
        code = self.dbt.env.revision.fingerprints.get(incident.node)
        stands = event is not None and (event.tags or {}).get(CODE_VERSION_TAG) == code
        return stands and incident.facts.get("fingerprint") != code

    def _tests(self, dbt: DbtAssets) -> Iterator[Incident]:
        nodes = {key: unique_id for unique_id, key in dbt.keys.items()}
        storage = self.instance.event_log_storage
        latest = storage.get_latest_asset_check_execution_by_key(list(dbt.checks))
        runs = self._runs({r.run_id for r in latest.values() if r.status is CheckStatus.FAILED})
        for key, record in latest.items():
            test, found, run = dbt.checks[key], evaluation_in(record), runs.get(record.run_id)
            if record.status is CheckStatus.SUCCEEDED:
                continue
            if found is None or run is None or self._is_open(run):
                yield from self._as_before(Kind.TEST_FAILED, test)
            elif found.severity is dg.AssetCheckSeverity.ERROR:
                rows = found.metadata.get("failed_rows")
                said = {"rows": str(rows.value) if rows else "?", "run": run.run_id}
                failed, asset = self._failure(run.run_id).nodes.get(test), nodes[key.asset_key]
                yield self._of_node(Kind.TEST_FAILED, test, asset, failed, **said)

    def _freshness(self, dbt: DbtAssets) -> Iterator[Incident]:
        specs = dbt.definition.specs_by_key
        nodes = {u: key for u, key in dbt.nodes.items() if specs[key].freshness_policy}
        known = dagster_internals.not_fresh(self.instance, nodes.values())
        for unique_id, key in nodes.items():
            if key not in known:
                yield from self._as_before(Kind.NOT_FRESH, unique_id)
            elif known[key]:
                yield self._of_node(Kind.NOT_FRESH, unique_id, unique_id)

    def _of_node(
        self, kind: Kind, node: str, asset: str, failed: Failed | None = None, **said: str
    ) -> Incident:
        """An incident of a model, or of a test on it.

        Args:
            asset: the unique id of the model.
            failed: what its run recorded.
        """
        assert self.dbt is not None
        manifest, spec = self.dbt.manifest, self._spec(asset)
        about = manifest["nodes"].get(node) or manifest["unit_tests"][node]
        facts = {
            "what": about["name"],
            "type": about["resource_type"],
            "asset": "/".join(spec.key.path),
            "model": spec.key.path[-1],
            **self._changed(spec.key, failed),
            **({"why": failed.why} if failed else {}),
            **said,
        }
        version, groups = said.get("run", "1"), self._groups([spec])
        return Incident(kind, node, version, _short(facts), groups, tuple(spec.owners))

    def _groups(self, specs: Iterable[dg.AssetSpec]) -> tuple[str, ...]:
        """As Dagster shows them, and as dbt calls them."""
        prefix = group_of(self.environment, "")
        shown = {spec.group_name or "" for spec in specs}
        return tuple(sorted({*shown, *(group.removeprefix(prefix) for group in shown)}))

    def _changed(self, key: dg.AssetKey, failed: Failed | None) -> Mapping[str, str]:
        """Who changed it last, or else pushed what made Dagster build it, if one is known."""
        if failed and failed.changed:
            return _about(failed.changed)
        run = next((run for run in self._pushes if key in (run.asset_selection or ())), None)
        sha = run.tags.get(SHA_TAG) if run else None
        return self._commit_facts(sha) if sha else {}

    def _commit_facts(self, sha: str) -> Mapping[str, str]:
        """Who wrote a commit of the branch; nothing if git does not say."""
        if sha not in self._commits:
            self._commits[sha] = {}
            branch = self.settings.environment(self.environment).branch
            with suppress(GitError):
                self._commits[sha] = _about(Remote.of(self.settings).known(branch, sha))
        return self._commits[sha]

    @cached_property
    def _commits(self) -> dict[str, Mapping[str, str]]:
        return {}

    def _spec(self, unique_id: str) -> dg.AssetSpec:
        assert self.dbt is not None
        source = self.dbt.sources.get(unique_id)
        return source or self.dbt.definition.specs_by_key[self.dbt.keys[unique_id]]

    @cached_property
    def _pushes(self) -> Sequence[dg.DagsterRun]:
        pushed = dg.RunsFilter(tags={PUSH_TAG: self.environment})
        return self.instance.get_runs(pushed, limit=_PUSHES)

    # What the rules share

    def _runs(self, run_ids: set[str]) -> Mapping[str, dg.DagsterRun]:
        if not run_ids:
            return {}
        runs = self.instance.get_runs(dg.RunsFilter(run_ids=sorted(run_ids)))
        return {run.run_id: run for run in runs}

    def _is_open(self, run: dg.DagsterRun) -> bool:
        """Whether it is not known yet how a run ends, or what is started in its place."""
        is_canceled = run.status is dg.DagsterRunStatus.CANCELED
        return is_canceled or is_going_on(self.instance, run, self.now)

    def _failure(self, run_id: str) -> RunFailure:
        if run_id not in self._failures:
            self._failures[run_id] = RunFailure.of(self.instance, run_id)
        return self._failures[run_id]

    @cached_property
    def _failures(self) -> dict[str, RunFailure]:
        return {}


def _about(commit: Commit) -> Mapping[str, str]:
    # Of a commit that is not here only the SHA is known.
    said = {"author": commit.author, "subject": commit.title} if commit.committed_at else {}
    return {"commit_url": commit.url, **said}


def _short(facts: Mapping[str, str]) -> Mapping[str, str]:
    return {name: value[:_LONGEST] for name, value in facts.items()}
