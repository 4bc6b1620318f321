"""What a person who asks for a model to be rebuilt over a range of time gets. Pure functions."""

from __future__ import annotations

import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from typing import Any

from dbt_orchestration.changes.dates import is_day, moment
from dbt_orchestration.changes.policy import HistoryPolicy
from dbt_orchestration.history.partitions import (
    PartitionConfig,
    PartitionError,
    keys_in_window,
    partition_config,
    partition_keys,
    window,
)
from dbt_orchestration.history.phases import descendants

_BUILT = frozenset({"model", "seed", "snapshot"})


@dataclass(frozen=True)
class Rebuild:
    """What a request comes to.

    Attributes:
        nodes: unique ids of all that is built, parents first.
        partitions: which partitions of the partitioned ones, the oldest first.
        rebuilt: those whose tables are recreated.
        notes: what the person should know, a sentence each.
        command: the same for a terminal.
    """

    nodes: Sequence[str]
    partitions: Mapping[str, Sequence[str]]
    rebuilt: Sequence[str]
    notes: Sequence[str]
    command: str


@dataclass(frozen=True)
class Wanted:
    """What a person asked for.

    Attributes:
        model: name or unique id.
        since: first moment, ISO 8601, UTC if it says no zone; "" is the model's begin.
        until: last moment, inclusive; a date is that whole day; "" is now.
        readers: build what reads the model as well.
        full_refresh: recreate whole tables.
    """

    model: str
    since: str = ""
    until: str = ""
    readers: bool = True
    full_refresh: bool = False


def rebuild(
    manifest: Mapping[str, Any],
    wanted: Wanted,
    now: datetime,
    only: Collection[str] | None = None,
) -> Rebuild:
    """What ``wanted`` builds.

    Args:
        now: aware.
        only: of the model's partitions in the range, those that are wanted.

    Raises:
        PartitionError: there is no such model, it cannot be rebuilt, or the range does not fit it.
    """
    unique_id = find_model(manifest, wanted.model)
    nodes = manifest["nodes"]
    if nodes[unique_id]["resource_type"] == "snapshot":
        raise PartitionError(
            f"{wanted.model} is a snapshot: what its source was like in the past cannot be computed"
            " again; materialize it to add to it"
        )
    if wanted.full_refresh and (wanted.since or wanted.until):
        raise PartitionError("full_refresh recreates the whole table: leave the range empty")
    model = partition_config(nodes[unique_id])
    if model is None and (wanted.since or wanted.until):
        raise PartitionError(
            f"{wanted.model} has no partitions, so it is built as a whole: leave the range empty"
        )
    readers = descendants(manifest, [unique_id]) if wanted.readers else set()
    chosen = [
        u
        for u in parents_first(manifest, {unique_id, *readers})
        if nodes[u]["resource_type"] in _BUILT and nodes[u]["config"]["materialized"] != "ephemeral"
    ]
    keys = _keys(model, wanted, now) if model else ()
    keys = [key for key in keys if only is None or key in only]
    if model and not keys:
        raise PartitionError(f"no partition of {wanted.model} is to be rebuilt")
    rebuilt = [u for u in chosen if wanted.full_refresh and _can_be_rebuilt(nodes[u])]
    partitions: dict[str, Sequence[str]] = {}
    for u in chosen:
        other = partition_config(nodes[u])
        if other and u not in rebuilt:
            partitions[u] = keys if u == unique_id else _overlapping(model, keys, other, now)
    chosen = [u for u in chosen if u not in partitions or partitions[u]]
    partitions = {u: found for u, found in partitions.items() if found}
    return Rebuild(
        chosen,
        partitions,
        rebuilt,
        list(_notes(nodes, chosen, partitions, rebuilt)),
        _command(nodes[unique_id]["name"], wanted, model, keys),
    )


def find_model(manifest: Mapping[str, Any], name: str) -> str:
    """The unique id of a model, seed or snapshot.

    Raises:
        PartitionError: there is none of that name or unique id, or several.
    """
    names: dict[str, str] = {
        u: node["name"] for u, node in manifest["nodes"].items() if node["resource_type"] in _BUILT
    }
    found = [u for u, own in names.items() if name in (u, own)]
    if len(found) == 1:
        return found[0]
    if found:
        raise PartitionError(f"there are several models {name!r}: write {' or '.join(found)}")
    if not name:
        raise PartitionError("no model is named: write its name as model")
    near = get_close_matches(name, names.values(), n=1)
    raise PartitionError(
        f"there is no model {name!r}" + (f": did you mean {near[0]}?" if near else "")
    )


def _can_be_rebuilt(node: Mapping[str, Any]) -> bool:
    return HistoryPolicy.of(node).incremental and node["config"].get("full_refresh") is not False


def _keys(model: PartitionConfig, wanted: Wanted, now: datetime) -> Sequence[str]:
    every = partition_keys(model, now)
    if not every:
        raise PartitionError(f"{wanted.model} has no partition yet")
    begin, end = window(model, every[0])[0], window(model, every[-1])[1]
    since = _moment("since", wanted.since) if wanted.since else begin
    until = _end(wanted.until) if wanted.until else end
    if wanted.since and wanted.until and since >= until:
        raise PartitionError(f"until {wanted.until} is before since {wanted.since}: exchange them")
    for field, said, outside in (
        ("since", wanted.since, not begin <= since < end),
        ("until", wanted.until, not begin < until <= end),
    ):
        if outside:
            raise PartitionError(
                f"{field}: {said} is not within the partitions of {wanted.model}, which go from"
                f" {every[0]} to {every[-1]}"
            )
    return keys_in_window(model, since, until, now)


def _moment(field: str, said: str) -> datetime:
    try:
        return moment(said)
    except ValueError as error:
        raise PartitionError(f"{field}: {error}") from None


def _end(said: str) -> datetime:
    """The first moment after ``said``, which is included."""
    whole = timedelta(days=1) if is_day(said) else timedelta(microseconds=1)
    return min(_moment("until", said), datetime.max.replace(tzinfo=UTC) - whole) + whole


def _overlapping(
    model: PartitionConfig | None, keys: Sequence[str], other: PartitionConfig, now: datetime
) -> Sequence[str]:
    """The partitions of a reader that read ``keys`` of the model; all, if it has no partitions."""
    if model is None:
        return partition_keys(other, now)
    windows = [window(model, key) for key in keys]
    found = {
        key
        for start, end in ((windows[0][0], windows[-1][1]),)
        for key in keys_in_window(other, start, end, now)
    }
    return [
        key
        for key in partition_keys(other, now)
        if key in found
        if any(s < window(other, key)[1] and e > window(other, key)[0] for s, e in windows)
    ]


def _notes(
    nodes: Mapping[str, Mapping[str, Any]],
    chosen: Sequence[str],
    partitions: Mapping[str, Sequence[str]],
    rebuilt: Sequence[str],
) -> Collection[str]:
    notes = []
    for u in chosen:
        name = nodes[u]["name"]
        if nodes[u]["resource_type"] == "snapshot":
            notes.append(f"{name} is a snapshot: it keeps its history, and is added to.")
        elif HistoryPolicy.of(nodes[u]).incremental and u not in partitions and u not in rebuilt:
            notes.append(
                f"{name} is incremental without partitions: only new rows are added to it."
                " full_refresh recreates it."
            )
    return notes


def _command(name: str, wanted: Wanted, model: PartitionConfig | None, keys: Sequence[str]) -> str:
    command = ["dbt", "build", "--select", f"{name}+" if wanted.readers else name]
    if wanted.full_refresh:
        command.append("--full-refresh")
    elif model:
        start, end = window(model, keys[0])[0], window(model, keys[-1])[1]
        command += ["--event-time-start", _said(start), "--event-time-end", _said(end)]
    return shlex.join(command)


def _said(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S" if moment.hour else "%Y-%m-%d")


def parents_first(manifest: Mapping[str, Any], nodes: Collection[str]) -> Sequence[str]:
    """The same nodes (unique ids), each after those of them that it reads."""
    ordered: dict[str, None] = {}

    def visit(unique_id: str) -> None:
        if unique_id in ordered or unique_id not in nodes or unique_id not in manifest["nodes"]:
            return
        for parent in sorted(manifest["parent_map"].get(unique_id, ())):
            visit(parent)
        ordered[unique_id] = None

    for unique_id in sorted(nodes):
        visit(unique_id)
    return list(ordered)
