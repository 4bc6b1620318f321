"""One tick of the push sensor: what it knows, what it has found, and how long it may still wait."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from time import monotonic
from typing import Any

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.automation.cursors import read_cursor, write_cursor
from dbt_orchestration.automation.outcome import Finding, Outcome
from dbt_orchestration.changes.terms import digest_value
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.built import read_built
from dbt_orchestration.ledger.held import Hold, Pause, held, paused
from dbt_orchestration.ledger.inspection import ours
from dbt_orchestration.ledger.pushes import pushes_key
from dbt_orchestration.revisions.explanation import Recorded
from dbt_orchestration.revisions.follow import Follower
from dbt_orchestration.settings.models import Settings

# Dagster gives a tick 60 seconds (DAGSTER_SENSOR_GRPC_TIMEOUT_SECONDS). All that a tick waits for
# shares these; what has not ended by then is there for one of the next.
_BUDGET_SECONDS = 50.0
_WAIT_SECONDS = 30.0


@dataclass
class Tick:
    """What the parts of a tick share.

    Attributes:
        loaded: the revision that the code location has loaded, if any.
        dbt: its assets.
        checks: the process that prepares a commit finds out whether it can be loaded.
        hold: the commit that the environment is held at.
        pause: why nothing may be started.
        found, events, requests: what Dagster is told.
        known: what an earlier tick has left for this one, and this one leaves for the next.
        ends: on the clock ``monotonic``.
    """

    settings: Settings
    environment: str
    loaded: Revision | None
    dbt: DbtAssets | None
    context: dg.SensorEvaluationContext
    checks: bool
    hold: Hold | None = field(init=False)
    pause: Pause | None = field(init=False)
    found: list[Finding] = field(default_factory=list)
    events: list[dg.AssetMaterialization | dg.AssetObservation | dg.AssetCheckEvaluation] = field(
        default_factory=list
    )
    requests: list[dg.RunRequest] = field(default_factory=list)
    known: Mapping[str, Any] = field(init=False)
    ends: float = field(default_factory=lambda: monotonic() + _BUDGET_SECONDS)

    def __post_init__(self) -> None:
        self.known = read_cursor(self.context.cursor)
        self.hold = held(self.context.instance, self.environment)
        self.pause = paused(self.context.instance, self.environment)

    @property
    def left(self) -> float:
        """Seconds that it may still wait."""
        return max(0.0, self.ends - monotonic())

    @property
    def branch(self) -> str:
        """The branch that the environment follows."""
        return self.settings.environment(self.environment).branch

    @property
    def orders(self) -> list[str]:
        """What people have ordered, each with an id: another one is news."""
        return [each.run_id if each else "" for each in (self.hold, self.pause)]

    def result(self) -> dg.SensorResult:
        """What Dagster is told."""
        said = [*self.found, *filter(None, (self.hold, self.pause))]
        return dg.SensorResult(
            run_requests=self.requests,
            skip_reason=None if self.requests else " ".join(map(str, said)),
            asset_events=self.events,
            cursor=write_cursor(
                self.found[-1].outcome if self.found else "nothing",
                {**self.known, "found": [each.as_json() for each in self.found]},
            ),
        )

    def find(self, outcome: Outcome, **facts: Any) -> None:
        """Say what it came to."""
        self.found.append(Finding(outcome, facts))

    def leave(self, **known: Any) -> None:
        """Leave something for the next tick."""
        self.known = {**self.known, **known}

    def is_news(self, *newest: str) -> bool:
        """Whether the check on the newest commit does not say so already."""
        news = digest_value([*newest, self.last_push])
        if self.known.get("newest") == news:
            return False
        self.leave(newest=news)
        return True

    @cached_property
    def last_push(self) -> float:
        """When a run, or a tick, said last what a push built, in seconds since 1970; 0 for never.

        Dagster shows no check of the asset ``pushes`` that is older.
        """
        key = pushes_key(self.environment)
        last = self.context.instance.get_latest_materialization_event(key)
        return last.timestamp if last else 0.0

    @property
    def follower(self) -> Follower:
        """What prepares commits."""
        held = self.hold is not None
        return Follower(self.settings, self.environment, checks=self.checks, held=held)

    def wait_for(self, follower: Follower, sha: str, recorded: Collection[Recorded]) -> bool:
        """Whether the commit was prepared and explained while the tick could wait."""
        return follower.prepare(sha, recorded, min(_WAIT_SECONDS, self.left))

    def recorded(self) -> Collection[Recorded]:
        """What the nodes of the loaded revision were built with."""
        if self.dbt is None or self.loaded is None:
            return set()
        built = read_built(self.context.instance, ours(self.settings, self.loaded, self.dbt.keys))
        return {(unique_id, last.fingerprint) for unique_id, last in built.items()}


def title(revision: Revision) -> str:
    """A commit, in words."""
    commit = revision.commit
    assert commit is not None
    return f"{commit.branch} at {commit.short} “{commit.subject}”"
