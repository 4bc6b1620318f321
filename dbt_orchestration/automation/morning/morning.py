"""What the morning page says, as a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from dbt_orchestration.automation.telling.incidents import Incident
from dbt_orchestration.dbt.parse import Commit
from dbt_orchestration.ledger.orphans import Orphan


class How(StrEnum):
    """How a run has ended, or that it has not."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"
    RUNNING = "running"


class Cause(StrEnum):
    """What made Dagster start a run."""

    PUSH = "push"
    DAILY = "daily"
    SCHEDULE = "schedule"
    HAND = "hand"


@dataclass(frozen=True)
class Build:
    """A run of the environment.

    Attributes:
        started: when, in seconds since 1970.
        seconds: how long it took, or has taken so far.
    """

    run_id: str
    how: How
    started: float
    seconds: float


@dataclass(frozen=True)
class Pushed:
    """A commit that was pushed, and what it made Dagster build.

    Attributes:
        run_id: of the run that built; "" if nothing was due.
        names: of what was built.
        left_alone: how many nodes were as the commit says.
        saved: the seconds that those took when they were built.
    """

    commit: str
    author: str
    url: str
    run_id: str
    names: Sequence[str]
    left_alone: int
    seconds: float
    saved: float


@dataclass(frozen=True)
class Model:
    """What building a node took in the newest build, and in an earlier one.

    Attributes:
        rows: of a table, how many it had then; None if nobody said.
        seconds_before: None if the earlier build did not build it.
    """

    asset: str
    seconds: float
    rows: int | None = None
    seconds_before: float | None = None
    rows_before: int | None = None

    @property
    def growth(self) -> int:
        """By how many rows the table has grown."""
        if self.rows is None or self.rows_before is None:
            return 0
        return self.rows - self.rows_before


@dataclass(frozen=True)
class Unsteady:
    """A test that cannot be relied upon.

    Attributes:
        bad: how often it did not pass, the last ``times`` times.
    """

    name: str
    asset: str
    bad: int
    times: int


@dataclass(frozen=True)
class Spent:
    """What runs have taken.

    Attributes:
        author: who pushed what they built; "" where no push did, or that is not known.
        credits: of Snowflake, as far as it has said; None if it has said nothing.
    """

    cause: Cause
    author: str
    runs: int
    seconds: float
    credits: float | None = None


@dataclass(frozen=True)
class Morning:
    """How an environment is.

    Attributes:
        written: when, in seconds since 1970.
        commit: the one that is loaded; None if the project is as it lies in its folder.
        daily: the newest daily build; None if there was none in the last week.
        build: the build that ``models`` is about: the daily one, or else the largest.
        compared: the first daily build of the last week, if that is another one.
        failed: what is broken, the most important first.
        late: what is late, or out of date.
        waits: what waits for a person.
        tried: whether something is due that was tried, and is not built again by itself.
        pushes: of the last day, the newest first.
        flapping: tests that failed, passed, and failed again.
        warning: tests that warned each time.
        spent: in the last week, the most first.
        dearest: the credits of each asset that Snowflake has named in the last week, the most
            first.
    """

    environment: str
    written: float
    commit: Commit | None
    daily: Build | None
    build: Build | None
    compared: Build | None
    failed: Sequence[Incident]
    late: Sequence[Incident]
    waits: Sequence[Incident]
    tried: bool
    pushes: Sequence[Pushed]
    models: Sequence[Model]
    flapping: Sequence[Unsteady]
    warning: Sequence[Unsteady]
    orphans: Sequence[Orphan]
    spent: Sequence[Spent]
    dearest: Sequence[tuple[str, float]]
