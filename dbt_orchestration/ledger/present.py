"""What was recorded as built and is not in the warehouse: somebody may have dropped it.

Dagster's event log says what was built, and cannot know what has become of it. So the warehouse is
asked now and then: at the start of each run, when a new commit is prepared, and when ``up`` starts.
What is not there is kept in a note, with the place in the event log at which that was seen: what
was recorded before that place is not there, and what is built afterwards is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import dagster as dg
import orjson

from dbt_orchestration import dagster_internals
from dbt_orchestration.revisions.warehouse import Seen

NOT_THERE = "its table is not in the warehouse"
Sight = Mapping[dg.AssetKey, Seen]


@dataclass(frozen=True)
class Note:
    """What is remembered of an asset.

    Attributes:
        absent: the place in the event log at which its relation was last seen not to be there.
        leaves: whether a build leaves a relation, where that is otherwise than its code says.
    """

    absent: int | None = None
    leaves: bool | None = None


def place_in_the_log(instance: dg.DagsterInstance) -> int:
    """The place of what was recorded last."""
    return instance.event_log_storage.get_maximum_record_id() or 0


def absent_since(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]
) -> Mapping[dg.AssetKey, int]:
    """Assets whose relations were seen not to be there, and the place in the event log.

    What of them was recorded up to that place is not in the warehouse.
    """
    return {
        key: note.absent for key, note in _read(instance, keys).items() if note.absent is not None
    }


def keep(instance: dg.DagsterInstance, seen: Sight, place: int) -> Collection[dg.AssetKey]:
    """Remember what was seen of assets that were recorded as built; return what is not there.

    Args:
        place: in the event log, read before the warehouse was asked.
    """
    notes, gone = _read(instance, seen), []
    for key, found in seen.items():
        before = notes.get(key, Note())
        note = replace(before, leaves=_leaves(found)) if found.there else before
        if not found.there and (found.sure if note.leaves is None else note.leaves):
            note = replace(note, absent=place)
            gone.append(key)
        _write(instance, key, before, note)
    return gone


def keep_what_builds_leave(instance: dg.DagsterInstance, seen: Sight) -> None:
    """Remember which of these, which a run has just built, are there.

    A hook may drop a relation, or rename it. It is not to be taken for absent, and built, for ever.
    """
    notes = _read(instance, seen)
    for key, found in seen.items():
        before = notes.get(key, Note())
        _write(instance, key, before, replace(before, leaves=_leaves(found)))


def _leaves(found: Seen) -> bool | None:
    return found.there if found.there != found.sure else None


def _name(key: dg.AssetKey) -> str:
    return f"dbt_orchestration/present/{key.to_user_string()}"


def _read(instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]) -> Mapping[dg.AssetKey, Note]:
    names = {_name(key): key for key in keys}
    found = dagster_internals.read_notes(instance, names.keys())
    return {names[name]: Note(**orjson.loads(text)) for name, text in found.items()}


def _write(instance: dg.DagsterInstance, key: dg.AssetKey, before: Note, note: Note) -> None:
    if note != before:
        # One for each asset: runs and ticks that write at once do not undo each other's.
        dagster_internals.write_note(instance, _name(key), orjson.dumps(note).decode())
