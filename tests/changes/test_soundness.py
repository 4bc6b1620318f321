"""A few random edits of a real project: no node whose content changes may be left out of the plan.

``python -m benchmarks.soundness`` does the same for as long as one likes.
"""

from __future__ import annotations

from benchmarks.soundness import Report, describe, trials

SEED = 1
EDITS = 8


def test_no_changed_node_is_missed() -> None:
    report = Report()
    for trial in trials(EDITS, SEED):
        report.add(trial)
    assert not report.misses, "\n".join(map(describe, report.misses))
    assert report.valid == EDITS
    assert report.engine.recall == 1.0
    # Something was there to be found, and something to be left alone.
    assert report.engine.right > EDITS
    assert report.engine.said < report.nodes / 2
    assert report.invalid.total() < EDITS
