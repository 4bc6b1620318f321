"""What goes wrong in an environment, as a value: an incident."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """What can go wrong, or waits for a person; the most important first."""

    COMMIT_BROKEN = "commit_broken"
    BUILD_FAILED = "build_failed"
    BUILD_NOT_STARTED = "build_not_started"
    BUILD_LATE = "build_late"
    PUSH_FAILED = "push_failed"
    MODEL_FAILED = "model_failed"
    TEST_FAILED = "test_failed"
    NOT_FRESH = "not_fresh"
    HISTORY_WAITS = "history_waits"
    HELD = "held"
    PAUSED = "paused"

    @property
    def rank(self) -> int:
        return list(Kind).index(self)


@dataclass(frozen=True)
class Incident:
    """Something that is wrong, from when it is first seen until it is over.

    Attributes:
        node: the unique id of a model or test; "" where the environment as a whole is concerned.
        version: another one where there is more to say of it: the run that failed last, the commit.
        facts: what its texts name, by name.
        groups: the asset groups that it concerns.
        owners: likewise.
        since: when it was first seen, in seconds since 1970.
        ended: likewise, when it was over; 0 while it is not.
    """

    kind: Kind
    node: str = ""
    version: str = "1"
    facts: Mapping[str, str] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    owners: tuple[str, ...] = ()
    since: float = 0.0
    ended: float = 0.0

    @property
    def key(self) -> str:
        """What tells it from the others of its environment."""
        return f"{self.kind}/{self.node}"

    @property
    def cause(self) -> str:
        """What those have in common that are told together: the run that failed."""
        return self.facts.get("run") or self.key
