"""How the partitions that a run builds are cut into dbt's batches. Pure functions."""

from __future__ import annotations

import re
from collections.abc import Sequence

from dbt_orchestration.history.partitions import PartitionConfig, window

_COMMENT = re.compile(r"\{#.*?#\}", re.DOTALL)
_READS_ITSELF = re.compile(r"\{[{%][^{}]*\b(?:this|is_incremental)\b")


def batches(
    model: PartitionConfig, keys: Sequence[str], *, mergeable: bool, in_order: bool
) -> Sequence[Sequence[str]]:
    """The batches that build the partitions ``keys``, in the order in which they are run.

    The newest come first: they are what people look at. Neighbours go in one batch of at most
    ``model.chunk`` partitions, because a statement over a month takes hardly longer than one over
    a day.

    Args:
        keys: without duplicates, the oldest first.
        mergeable: a batch of several partitions gives the same rows.
        in_order: a batch reads what the ones before it left, so the oldest comes first.

    Returns:
        Partitions of each batch, the oldest first.
    """
    most = 1 if in_order or not mergeable else model.chunk
    found: list[list[str]] = []
    for key in reversed(keys):
        batch = found[-1] if found else []
        if batch and len(batch) < most and window(model, key)[1] == window(model, batch[-1])[0]:
            batch.append(key)
        else:
            found.append([key])
    ordered = [batch[::-1] for batch in found]
    return ordered[::-1] if in_order else ordered


def reads_itself(raw_code: str) -> bool:
    """Whether a model's SQL looks at what its table holds already."""
    return bool(_READS_ITSELF.search(_COMMENT.sub("", raw_code)))
