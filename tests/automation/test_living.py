"""A few pushes and forms of a life at random: what they leave is what a build from nothing makes.

``python -m benchmarks.history`` does the same for as long as one likes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.history import Worker, describe
from benchmarks.history_chain import script
from benchmarks.history_forms import FORMS
from benchmarks.history_site import in_this_process

CHAIN = 0


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Worker]:
    with in_this_process():
        yield Worker(tmp_path_factory.mktemp("lives"))


@pytest.mark.parametrize(("seed", "pushes", "forms"), [(12, 3, 2), (1709, 2, 3)])
def test_it_leaves_what_a_build_from_nothing_makes(
    worker: Worker, seed: int, pushes: int, forms: int
) -> None:
    chain = worker.live(seed, CHAIN, script(seed, CHAIN, pushes))
    assert not chain.is_wrong, describe(chain)
    assert chain.pushed >= pushes
    assert sum(step.settled for step in chain.steps) >= pushes
    # A deed that finds nothing to do says nothing.
    assert sum(bool(step.did) for step in chain.steps if step.kind in FORMS) >= forms
