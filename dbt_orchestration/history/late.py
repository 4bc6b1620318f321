"""Late data: which partitions of a model read something that was loaded again. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dbt_orchestration.history.partitions import PartitionConfig, window


def reloaded_since(
    model: PartitionConfig,
    built: Mapping[str, int],
    sources: Sequence[tuple[PartitionConfig, Mapping[str, int]]],
) -> set[str]:
    """The partitions of a model that were built before a source partition which they read.

    Args:
        built: when each partition of the model was built; any numbers that grow with time.
        sources: each partitioned source that the model reads, with when each of its partitions
            was loaded, in the same numbers.
    """
    windows = {key: window(model, key) for key in built}
    found: set[str] = set()
    for config, loaded in sources:
        oldest = min(built.values(), default=0)
        for partition, when in loaded.items():
            if when <= oldest:
                continue
            start, end = window(config, partition)
            found |= {
                key
                for key, (since, until) in windows.items()
                if since < end and until > start and built[key] < when
            }
    return found
