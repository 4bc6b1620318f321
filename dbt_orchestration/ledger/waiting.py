"""What an asset says while a part of its history waits for a person."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import dagster as dg

from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.ledger.due import Due, minutes
from dbt_orchestration.settings.types import named


def observed(due: Due, dbt: DbtAssets, said: Mapping[str, int]) -> Iterator[dg.AssetObservation]:
    """What is news about the history that waits.

    Args:
        said: how many partitions of each node wait, as the assets say already.
    """
    asked = due.asked
    for unique_id, count in asked.items():
        if said.get(unique_id) != count:
            yield _waits(due, dbt, unique_id, count)
    for unique_id in said.keys() & dbt.nodes.keys() - asked.keys():
        text = "No part of its history waits for you any more."
        yield dg.AssetObservation(dbt.keys[unique_id], description=text)


def _waits(due: Due, dbt: DbtAssets, unique_id: str, count: int) -> dg.AssetObservation:
    last = due.built[unique_id]
    seconds = last.seconds * max(count, 1)
    what = f"{count:,} partition{'s' if count > 1 else ''}" if count else "the whole table"
    job = named(dbt.env.name, "rebuild_history")
    return dg.AssetObservation(
        dbt.keys[unique_id],
        description=f"Built by older code, and waits for you: {what}, about {minutes(seconds)}."
        f" Launch the job {job} to rebuild it.",
        metadata={
            "partitions of older code": count,
            "seconds to rebuild": round(seconds, 1),
            "why": due.waiting[unique_id].reason,
        },
    )
