"""What people have ordered of an environment: that it stays at a commit, or that nothing starts.

An order is the run of a form that has succeeded, and its tags say what is wanted. The newest one
counts. So a form that is killed has ordered nothing, and who ordered what, when and why is where
every run is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from dbt_orchestration.ledger.run_tags import (
    HELD_HEAD_TAG,
    HELD_OVER_TAG,
    HELD_SHA_TAG,
    HOLD_TAG,
    PAUSE_TAG,
    PAUSED_TAG,
    REASON_TAG,
    USER_TAG,
    shortened,
)
from dbt_orchestration.settings.types import named

SOMEBODY = "somebody"
_RECENT = 5
_YES, _NO = "yes", "no"


@dataclass(frozen=True)
class _Order:
    """What every order says.

    Attributes:
        environment: its name.
        who: the user, where a proxy or the command line says so.
        since: in seconds since 1970.
        reason: in the words of the person.
        run_id: of the form.
    """

    environment: str
    who: str
    since: float
    reason: str
    run_id: str

    @property
    def began(self) -> str:
        """Since when, as people read it."""
        return datetime.fromtimestamp(self.since, UTC).strftime("%Y-%m-%d %H:%M UTC")

    @property
    def origin(self) -> str:
        """Who ordered it, since when and why, in words."""
        return f"by {self.who} since {self.began}: {self.reason.rstrip('.')}"


@dataclass(frozen=True)
class Hold(_Order):
    """An environment stays at a commit.

    Attributes:
        sha: the commit.
        head: the branch's newest commit when it was held, if the next push is to release it; else
            "".
    """

    sha: str
    head: str

    @property
    def until_next_push(self) -> bool:
        """Whether the next push ends it."""
        return bool(self.head)

    def __str__(self) -> str:
        release = named(self.environment, "roll_forward")
        push = "the next push or " if self.until_next_push else ""
        return f"Held at {self.sha[:10]} {self.origin}. Released by {push}the job {release}."


@dataclass(frozen=True)
class Pause(_Order):
    """No push and no schedule of an environment starts anything."""

    def __str__(self) -> str:
        resume = named(self.environment, "resume")
        return f"Paused {self.origin}. The job {resume} lets it go on."


def held(instance: dg.DagsterInstance, environment: str) -> Hold | None:
    """The commit that an environment is held at; None if it follows its branch."""
    record = _newest(instance, HOLD_TAG, environment)
    tags = record.dagster_run.tags if record else {}
    if record is None or not tags.get(HELD_SHA_TAG) or tags.get(HELD_OVER_TAG):
        return None
    sha, head = tags[HELD_SHA_TAG], tags.get(HELD_HEAD_TAG, "")
    return Hold(environment, *_said(record), sha, head)


def paused(instance: dg.DagsterInstance, environment: str) -> Pause | None:
    """Why an environment is paused; None if it is not."""
    record = _newest(instance, PAUSE_TAG, environment)
    if record is None or record.dagster_run.tags.get(PAUSED_TAG) != _YES:
        return None
    return Pause(environment, *_said(record))


def end(instance: dg.DagsterInstance, hold: Hold, head: str) -> None:
    """A push has released a hold.

    That is kept with the order: the branch may go back to where it was.
    """
    instance.add_run_tags(hold.run_id, {HELD_OVER_TAG: head})


def hold_tags(environment: str, sha: str, head: str, reason: str) -> Mapping[str, str]:
    """The tags of a form that holds an environment.

    Args:
        head: as ``Hold.head``.
    """
    return {
        HOLD_TAG: environment,
        HELD_SHA_TAG: sha,
        HELD_HEAD_TAG: head,
        # A form that is launched again has the tags that it was left with.
        HELD_OVER_TAG: "",
        REASON_TAG: shortened(reason),
    }


def release_tags(environment: str, reason: str) -> Mapping[str, str]:
    """The tags of a form that lets an environment follow its branch."""
    return hold_tags(environment, "", "", reason)


def no_hold_tags() -> Mapping[str, str]:
    """The tags of a form that orders nothing, also if it is launched again with other values."""
    return {HOLD_TAG: ""}


def pause_tags(environment: str, reason: str, *, goes_on: bool = False) -> Mapping[str, str]:
    """The tags of a form that pauses an environment, or lets it go on."""
    said = _NO if goes_on else _YES
    return {PAUSE_TAG: environment, PAUSED_TAG: said, REASON_TAG: shortened(reason)}


def _newest(instance: dg.DagsterInstance, tag: str, environment: str) -> dg.RunRecord | None:
    wanted = dg.RunsFilter(tags={tag: environment}, statuses=[dg.DagsterRunStatus.SUCCESS])
    records = instance.get_run_records(wanted, limit=_RECENT)
    # Dagster lists first what was launched last, and that may have ended before another one did.
    return max(records, key=lambda record: record.end_time or 0.0, default=None)


def _said(record: dg.RunRecord) -> tuple[str, float, str, str]:
    tags = record.dagster_run.tags
    since = record.end_time or record.create_timestamp.timestamp()
    return (
        tags.get(USER_TAG) or SOMEBODY,
        since,
        tags.get(REASON_TAG) or "no reason was given",
        record.dagster_run.run_id,
    )
