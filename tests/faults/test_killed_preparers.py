"""The process that prepares a commit is killed at any moment: another one does it, by itself."""

from __future__ import annotations

import signal
from collections.abc import Collection
from subprocess import Popen

import pytest

from dbt_orchestration.revisions.explanation import Recorded
from dbt_orchestration.revisions.follow import Follower
from dbt_orchestration.revisions.kept import revisions_home
from tests.automation.site import Site
from tests.faults.shop import End

# What it has written to its log when it is killed.
MOMENTS = {
    "at its start": "",
    "while git fetches": "fetching",
    "while it checks out": "checking out",
    "while packages are installed": "installing packages",
    "while dbt parses": "parsing",
    "while it compiles": "analysing",
    "while it compares": "explaining",
    "while it looks into the warehouse": "looking into the warehouse",
}


def kill_at(monkeypatch: pytest.MonkeyPatch, moment: str, times: int) -> list[int]:
    """Kill the first few processes when their log says so; what they ended with, as it happens."""
    start, ended = Follower._start, list[int]()

    def start_and_kill(self: Follower, sha: str, recorded: Collection[Recorded]) -> Popen[bytes]:
        process = start(self, sha, recorded)
        if len(ended) < times:
            log = revisions_home(self.settings, self.environment) / "follow.log"
            while moment not in log.read_text():
                assert process.poll() is None, log.read_text()
            process.send_signal(signal.SIGKILL)
            ended.append(process.wait())
        return process

    monkeypatch.setattr(Follower, "_start", start_and_kill)
    return ended


@pytest.mark.parametrize("moment", MOMENTS)
def test_another_one_prepares_the_commit(
    site: Site, undisturbed: End, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    ended = kill_at(monkeypatch, MOMENTS[moment], times=1)
    assert "nothing is due" in site.build_all()
    assert ended == [-signal.SIGKILL]
    assert End.of(site) == undisturbed


def test_one_that_is_always_killed_is_said_and_tried_again_later(
    site: Site, undisturbed: End, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = kill_at(monkeypatch, "", times=3)
    said = site.build_all()
    assert "the process that prepares it was killed 3 times" in said
    assert "nothing is due" in said
    assert len(ended) == 3
    monkeypatch.setattr("dbt_orchestration.revisions.follow._RETRY_SECONDS", 0)
    assert "nothing is due" in site.build_all()
    assert End.of(site) == undisturbed
