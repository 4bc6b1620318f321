"""What is left of a build that did not succeed, for people."""

from __future__ import annotations

from collections.abc import Iterator

import dagster as dg

from dbt_orchestration.ledger.attempts import unfinished_runs
from dbt_orchestration.ledger.unfinished import Left
from dbt_orchestration.markdown import code, shortened, table
from dbt_orchestration.operations.form import RefusedError
from dbt_orchestration.operations.loaded import Loaded

_MOST_ROWS, _MOST_CHARACTERS = 200, 300


def refuse_twice(at: Loaded, instance: dg.DagsterInstance, left: Left) -> None:
    """Raises:
    RefusedError: another run is building some of what is left.
    """
    keys = {at.dbt.keys[u] for u in left.nodes} | {key.asset_key for key in left.checks}
    for run in at.ledger(instance).building(keys, unfinished_runs(instance)):
        raise RefusedError(
            f"run {run.run_id[:8]} is building some of what is left: launch this again when that"
            " run has ended"
        )


def what_happened(at: Loaded, which: str, left: Left) -> Iterator[str]:
    """What failed in a build and what was not reached, in Markdown.

    Args:
        which: the build, as the beginning of a sentence.
    """
    yield f"{which} did not build all."
    if left.said:
        yield code(shortened(left.said, _MOST_CHARACTERS))
    keys, tests = at.dbt.keys, {u: key for key, u in at.dbt.checks.items()}
    on = {tests[u].asset_key: tests[u].name for u in left.failed.keys() & tests.keys()}
    rows = [
        (
            keys[u].path[-1] if u in keys else tests[u].name,
            f"failed: {shortened(why, _MOST_CHARACTERS)}",
        )
        for u, why in left.failed.items()
    ]
    for u in sorted(left.nodes - left.failed.keys()):
        test = on.get(keys[u])
        rows.append((keys[u].path[-1], f"its test {test} failed" if test else "not reached"))
    if rows:
        yield table(("what", "why"), rows[:_MOST_ROWS])
