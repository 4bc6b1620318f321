"""What was recorded as built and is not in the warehouse: somebody may have dropped it.

Dagster's event log says what was built, and cannot know what has become of it. So the warehouse is
asked now and then: at the start of each run, when a new commit is prepared, and when ``up`` starts.
What is not there is kept in a note, with the place in the event log at which that was seen: what
was recorded before that place is not there, and what is built afterwards is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

import dagster as dg
import orjson

from dbt_orchestration import upstream
from dbt_orchestration.revisions.present import Seen

NOT_THERE = "its table is not in the warehouse"
Sight = Mapping[dg.AssetKey, Seen]


@dataclass(frozen=True)
class Note:
    """What is remembered of an environment, by asset.

    Attributes:
        absent: the place in the event log at which the relation was last seen not to be there.
        leaves: whether a build leaves a relation, where that is otherwise than its code says.
    """

    absent: dict[str, int] = field(default_factory=dict)
    leaves: dict[str, bool] = field(default_factory=dict)


def place_in_the_log(instance: dg.DagsterInstance) -> int:
    """The place of what was recorded last."""
    return instance.event_log_storage.get_maximum_record_id() or 0


def absent_since(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]
) -> Mapping[dg.AssetKey, int]:
    """Assets whose relations were seen not to be there, and the place in the event log.

    What of them was recorded up to that place is not in the warehouse.
    """
    names = {key.to_user_string(): key for key in keys}
    absent = {
        name: place
        for environment in {key.path[0] for key in names.values()}
        for name, place in _read(instance, environment).absent.items()
    }
    return {key: absent[name] for name, key in names.items() if name in absent}


def keep(
    instance: dg.DagsterInstance, environment: str, seen: Sight, place: int
) -> Collection[dg.AssetKey]:
    """Remember what was seen of assets that were recorded as built; return what is not there.

    Args:
        place: in the event log, read before the warehouse was asked.
    """
    note = _read(instance, environment)
    absent = dict(note.absent)
    leaves = _leaves(note, {key: found for key, found in seen.items() if found.there})
    gone = []
    for key, found in seen.items():
        name = key.to_user_string()
        if not found.there and leaves.get(name, found.sure):
            absent[name] = place
            gone.append(key)
    _write(instance, environment, note, Note(absent, leaves))
    return gone


def keep_what_builds_leave(instance: dg.DagsterInstance, environment: str, seen: Sight) -> None:
    """Remember which of these, which a run has just built, are there.

    A hook may drop a relation, or rename it. It is not to be taken for absent, and built, for ever.
    """
    note = _read(instance, environment)
    _write(instance, environment, note, Note(note.absent, _leaves(note, seen)))


def _leaves(note: Note, seen: Sight) -> dict[str, bool]:
    names = {key.to_user_string(): found for key, found in seen.items()}
    kept = {name: there for name, there in note.leaves.items() if name not in names}
    return kept | {name: f.there for name, f in names.items() if f.there != f.sure}


def _key(environment: str) -> str:
    return f"dbt_orchestration/{environment}/present"


def _read(instance: dg.DagsterInstance, environment: str) -> Note:
    text = upstream.read_note(instance, _key(environment))
    return Note(**orjson.loads(text)) if text else Note()


def _write(instance: dg.DagsterInstance, environment: str, before: Note, note: Note) -> None:
    if note != before:
        upstream.write_note(instance, _key(environment), orjson.dumps(note).decode())
