"""What the sensor has prepared in a process of its own is prepared in the tests' own.

Such a process takes seconds to start. It has its tests in tests/revisions/test_commits.py; those in
tests/e2e start it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import pytest

from dbt_orchestration import upstream_session
from dbt_orchestration.revisions.explain import Recorded
from dbt_orchestration.revisions.follow import Follower


@dataclass
class Ended:
    """A process that has ended."""

    status: int

    def poll(self) -> int:
        return self.status


@pytest.fixture(scope="package", autouse=True)
def _prepare_here() -> Iterator[None]:
    def start(self: Follower, sha: str, recorded: Collection[Recorded]) -> Ended:
        upstream_session.close_duckdb()  # so has the process of a run that has ended
        return Ended(self.work(sha, recorded))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Follower, "_start", start)
        yield
