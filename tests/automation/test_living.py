"""A few pushes of a life at random: what each leaves is what a build from nothing makes.

``python -m benchmarks.history`` does the same for as long as one likes.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.history import Worker, describe
from benchmarks.history_chain import script
from benchmarks.history_site import in_this_process

SEED, CHAIN, PUSHES = 12, 0, 3


def test_what_pushes_leave_is_what_a_build_from_nothing_makes(tmp_path: Path) -> None:
    with in_this_process():
        chain = Worker(tmp_path).live(SEED, CHAIN, script(SEED, CHAIN, PUSHES))
    assert not chain.is_wrong, describe(chain)
    assert chain.pushed >= PUSHES
    assert sum(step.settled for step in chain.steps) >= PUSHES
