"""What a run was asked to build: the partitions of each model, and what is left of a retry.

Pure functions: the run's tags and what was built before go in, partitions come out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dbt_orchestration.history.order import Order
from dbt_orchestration.history.partitions import (
    PartitionConfig,
    PartitionError,
    keys_in_range,
    keys_in_window,
    newest,
    partition_keys,
    window,
)

PARENT_TAG, ROOT_TAG = "dagster/parent_run_id", "dagster/root_run_id"
_PARTITION_TAG = "dagster/partition"
_RANGE_TAGS = "dagster/asset_partition_range_start", "dagster/asset_partition_range_end"
_IN_VARS = "%Y-%m-%dT%H:%M:%S"
_SAMPLE = datetime(2000, 1, 1, tzinfo=UTC)
_RESUME_TAGS = "dagster/is_asset_resume_retry", "dagster/is_resume_retry"


@dataclass(frozen=True)
class Partitions:
    """What a run builds of one node."""

    keys: Sequence[str]
    """Oldest first."""
    succeeded: Sequence[str] = ()
    """Others of the same request, which succeeded in an earlier attempt and must be kept."""
    batches: Sequence[Sequence[str]] = ()
    """``keys`` as dbt builds them, first to last; each oldest first."""
    alone: str = ""
    """Why each is a batch of its own, though the model wants several in one."""

    @property
    def resumed(self) -> bool:
        return bool(self.succeeded)


@dataclass(frozen=True)
class Request:
    """What a person or a schedule asked for."""

    tags: Mapping[str, str]
    """The run's tags, which name its partitions if it is for any."""
    full_refresh: bool
    lookback: int | None
    """Overrides each model's own."""
    now: datetime
    """When the first attempt was asked for; aware."""
    rebuilt: AbstractSet[str] = frozenset()
    """Nodes to rebuild from nothing, all their partitions at once."""
    partitions: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Partitions of some nodes, each a key or a range ``first..last`` of them."""


def partitions_to_build(
    request: Request,
    models: Mapping[str, PartitionConfig],
    built: Callable[[str], AbstractSet[str]],
    succeeded: Mapping[str, AbstractSet[str]],
) -> dict[str, Partitions]:
    """The partitions of each partitioned model, by name; without models that have none yet.

    Args:
        built: partitions of a model that were built before the first attempt.
        succeeded: partitions that succeeded in the attempts which this run goes on from.

    Raises:
        PartitionError: a partition does not exist, or a full refresh would lose some.
    """
    chosen = chosen_range(request.tags)
    partitions: dict[str, Partitions] = {}
    for name, model in models.items():
        done = succeeded.get(name, frozenset())
        if name in request.rebuilt:
            requested = partition_keys(model, request.now)
        elif name in request.partitions:
            requested = keys_of(model, request.partitions[name], request.now)
        elif chosen:
            requested = _in_range(model, list(models.values()), chosen, request.now)
        elif request.full_refresh:
            requested = partition_keys(model, request.now)
        else:
            requested = newest(model, built(name), request.now, request.lookback)
        if not requested:
            continue  # its begin is still to come
        if request.full_refresh:
            _refuse_partial_full_refresh(name, model, requested, request.now)
        # All succeeded and yet here again: then a test failed, and all of it is built again.
        rest = [key for key in requested if key not in done] or requested
        kept = [key for key in requested if key in done] if len(rest) < len(requested) else ()
        partitions[name] = Partitions(rest, kept)
    return partitions


def keys_of(model: PartitionConfig, said: Sequence[str], now: datetime) -> Sequence[str]:
    """The partitions that ``said`` names, each a key or a range ``first..last``, oldest first.

    Raises:
        PartitionError: a partition does not exist, or a range is empty.
    """
    chosen: set[str] = set()
    for each in said:
        first, _, last = each.partition("..")
        chosen.update(keys_in_range(model, first, last or first, now))
    return [key for key in partition_keys(model, now) if key in chosen]


def ranges_of(model: PartitionConfig, keys: AbstractSet[str], now: datetime) -> Sequence[str]:
    """The same partitions in as few words as ``keys_of`` understands; none that do not exist."""
    found: list[list[str]] = []
    gap = True
    for key in partition_keys(model, now):
        if key not in keys:
            gap = True
        elif gap:
            found.append([key, key])
            gap = False
        else:
            found[-1][1] = key
    return [first if first == last else f"{first}..{last}" for first, last in found]


def window_vars(
    models: Mapping[str, PartitionConfig], partitions: Mapping[str, Partitions]
) -> dict[str, str]:
    """Vars for models that read their window from them: one window that covers them all."""
    starts: dict[str, datetime] = {}
    ends: dict[str, datetime] = {}
    for name, model in models.items():
        if model.start_var and model.end_var:
            keys = partitions[name].keys
            start, end = window(model, keys[0])[0], window(model, keys[-1])[1]
            starts[model.start_var] = min(start, starts.get(model.start_var, start))
            ends[model.end_var] = max(end, ends.get(model.end_var, end))
    return {name: time.strftime(_IN_VARS) for name, time in (starts | ends).items()}


def sample_vars(model: PartitionConfig) -> dict[str, str]:
    """The vars for one partition, which is the same whatever the model's first and last are.

    SQL that differs only for a window is compared with them. A microbatch model needs none.
    """
    if not model.start_var or not model.end_var:
        return {}
    like = PartitionConfig(batch_size=model.batch_size, begin=_SAMPLE)
    start, end = like.first_window
    times = {model.start_var: start, model.end_var: end}
    return {name: time.strftime(_IN_VARS) for name, time in times.items()}


def resumes(tags: Mapping[str, str]) -> str | None:
    """The run that a run goes on from where it failed, rather than doing it all again."""
    return tags.get(PARENT_TAG) if any(tag in tags for tag in _RESUME_TAGS) else None


def going_on_from(run_id: str, tags: Mapping[str, str]) -> dict[str, str]:
    """The tags of a run that goes on from another one, as Dagster's own retries have them.

    Args:
        run_id: of that run; ``tags`` are its.
    """
    said = {tag: tags[tag] for tag in (_PARTITION_TAG, *_RANGE_TAGS) if tag in tags}
    root = tags.get(ROOT_TAG) or run_id
    return {**said, PARENT_TAG: run_id, ROOT_TAG: root, _RESUME_TAGS[0]: "true"}


def is_ordinary(tags: Mapping[str, str], config: Mapping[str, object]) -> bool:
    """Whether a run with these tags, and this config of its op, was for the newest partitions."""
    order = Order.of_tags(tags)
    # What a run's config said of the first two before there were orders.
    chosen = ("partitions", "rebuild", "full_refresh")
    return (
        chosen_range(tags) is None
        and not (order.partitions or order.rebuild)
        and not any(config.get(key) for key in chosen)
    )


def chosen_range(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """First and last partition that the run is for, if it is for any."""
    if _PARTITION_TAG in tags:
        return tags[_PARTITION_TAG], tags[_PARTITION_TAG]
    start, end = (tags.get(tag) for tag in _RANGE_TAGS)
    return (start, end) if start and end else None


def _in_range(
    model: PartitionConfig,
    models: Sequence[PartitionConfig],
    chosen: tuple[str, str],
    now: datetime,
) -> Sequence[str]:
    """The model's partitions for a run's range, whose keys may be those of another model."""
    sizes = ("hour", "day", "month", "year")
    for candidate in sorted(models, key=lambda m: (m != model, sizes.index(m.batch_size))):
        try:
            keys = keys_in_range(candidate, *chosen, now)
        except PartitionError as problem:
            error = problem
        else:
            if candidate == model:
                return keys
            start, end = window(candidate, keys[0])[0], window(candidate, keys[-1])[1]
            return keys_in_window(model, start, end, now)
    raise error


def _refuse_partial_full_refresh(
    name: str, model: PartitionConfig, keys: Sequence[str], now: datetime
) -> None:
    every = partition_keys(model, now)
    if len(keys) < len(every) and not model.partial_full_refresh:
        raise PartitionError(
            f"full_refresh would drop all {len(every)} partitions of {name}, and"
            f" {len(keys)} of them are selected. Select all partitions, or start the run without"
            " full_refresh: selected partitions are rebuilt anyway. A model that may lose the"
            " others says so with meta.dagster.partitions.partial_full_refresh: true"
        )
