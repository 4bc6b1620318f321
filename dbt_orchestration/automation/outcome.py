"""What one tick of the push sensor came to: a value, and the one place where it becomes words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dbt_orchestration.automation.cursors import read_cursor


class Outcome(StrEnum):
    """What a tick found. The words are for people; whoever has to decide takes the value."""

    ANOTHER_DAGSTER = "another_dagster"
    DISK_FULL = "disk_full"
    UNREACHABLE = "unreachable"
    NO_BRANCH = "no_branch"
    NO_COMMIT = "no_commit"
    NO_STORAGE = "no_storage"
    PREPARING = "preparing"
    BROKEN = "broken"
    MOVED_ON = "moved_on"
    NOT_STORED = "not_stored"
    PREPARED = "prepared"
    LOADING = "loading"
    COMPARING = "comparing"
    PAUSED = "paused"
    WAITS_FOR_DATA = "waits_for_data"
    WAITS_FOR_RUN = "waits_for_run"
    BUILDS = "builds"
    TRIED = "tried"
    WAITS_FOR_APPROVAL = "waits_for_approval"
    NOTHING_DUE = "nothing_due"


# Work that goes on without anybody, and that the next ticks look after.
BY_ITSELF = frozenset({Outcome.PREPARING, Outcome.PREPARED, Outcome.LOADING, Outcome.COMPARING})
_WORDS = {
    Outcome.ANOTHER_DAGSTER: "The code server of {environment} has another Dagster than the daemon,"
    " and would never see what is prepared: put the daemon's dagster.yaml into its DAGSTER_HOME"
    " ({home}), and restart it.",
    Outcome.DISK_FULL: "Waiting: {why}.",
    Outcome.UNREACHABLE: "Cannot see the branch {branch}: {why}.",
    Outcome.NO_BRANCH: "There is no branch {branch} in {remote}: push one to build {environment}"
    " from it.",
    Outcome.NO_COMMIT: "No commit has been prepared yet.",
    Outcome.NO_STORAGE: "Dagster has no defs_state_storage: see dagster.yaml.",
    Outcome.PREPARING: "Preparing {branch} at {sha}{doing}.",
    Outcome.BROKEN: "{branch} at {sha} cannot be prepared: {why}",
    Outcome.MOVED_ON: "{branch} has moved on from {sha}.",
    Outcome.NOT_STORED: "{commit} is still to be stored: {why}. It is tried again.",
    Outcome.PREPARED: "{commit}: prepared, and to be loaded by the next tick.",
    Outcome.LOADING: "{commit}: prepared, and being loaded.",
    Outcome.COMPARING: "{commit}: finding out what is due{doing}.",
    Outcome.PAUSED: "{commit}: {count} due, and not started: {names}.",
    Outcome.WAITS_FOR_DATA: "{commit}: {count} due, waiting for {what}.",
    Outcome.WAITS_FOR_RUN: "{commit}: {count} due, waiting for run {run}.",
    Outcome.BUILDS: "{commit}: {count} due: {names}.",
    Outcome.TRIED: "{commit}: {count} still due, and tried already: {names}. Open the run of this"
    " commit and re-execute it from asset failure, or push a remedy.",
    Outcome.WAITS_FOR_APPROVAL: "{commit}: nothing else is due.",
    Outcome.NOTHING_DUE: "{commit}: nothing is due; all {nodes} nodes are as it says.",
}


@dataclass(frozen=True)
class Finding:
    """An outcome with its facts.

    Attributes:
        facts: what its words name, by name; ``asks`` is what waits for a person besides, and
            ``waiting`` the nodes, each with how many partitions.
    """

    outcome: Outcome
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        words = _WORDS[self.outcome].format_map(self.facts)
        return " ".join(filter(None, (words, self.facts.get("asks"))))

    def as_json(self) -> list[Any]:
        """For the sensor's cursor: see ``of``."""
        return [self.outcome, self.facts]

    @classmethod
    def of(cls, content: Any) -> Finding | None:
        """What ``as_json`` gave; None if it is something else, as of another version."""
        try:
            outcome, facts = content
            found = cls(Outcome(outcome), dict(facts))
            str(found)
        except (TypeError, ValueError, KeyError):
            return None
        return found


def findings(cursor: str | None) -> Sequence[Finding]:
    """What the tick found that left ``cursor``, the most important last."""
    found = read_cursor(cursor).get("found")
    return [each for content in found or () if (each := Finding.of(content))]
