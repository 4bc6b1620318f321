"""What may stand in the warehouse otherwise than it is recorded.

A run records what it has built after dbt has built it. If its process dies in between, or dbt fails
half-way through a node, the relation may be what the new code makes while the record still says
what the old code made. A commit that goes back to the old code would find nothing to do. So a run
writes down what it is going to touch before dbt starts; what it then neither records nor gives back
is in doubt, and due, until it is built again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import dagster as dg
import orjson

from dbt_orchestration import dagster_internals
from dbt_orchestration.ledger.attempts import built_since
from dbt_orchestration.ledger.present import place_in_the_log
from dbt_orchestration.ledger.recorded import last_build
from dbt_orchestration.ledger.run_tags import WORKING_TAG

_DONE = "-"
_TOUCHES = "touches"


@dataclass(frozen=True)
class Touched:
    """What a run is going to make of an asset that other code has built.

    Attributes:
        whole: its relation is recreated.
        partitions: those that are built.
    """

    whole: bool
    partitions: Collection[str] = ()


@dataclass(frozen=True)
class Doubt:
    """What was recorded of an asset, up to a place in the event log, may not be what is there.

    Attributes:
        partitions: those that it is about; None if it is about all there is.
    """

    place: int
    partitions: list[str] | None = None


def doubts(
    instance: dg.DagsterInstance, keys: Iterable[dg.AssetKey]
) -> Mapping[dg.AssetKey, Sequence[Doubt]]:
    """What is, or was once, in doubt."""
    names = {_note(key.to_user_string()): key for key in keys}
    found = dagster_internals.read_notes(instance, names.keys())
    return {names[name]: _read(text) for name, text in found.items()}


def announce(
    context: dg.AssetExecutionContext,
    environment: str,
    key: dg.AssetKey,
    touched: Mapping[dg.AssetKey, Touched],
) -> None:
    """Say what the run is going to touch of what was built by other code, before it does.

    Args:
        key: the asset of the environment under which that is written down.
    """
    if touched:
        said = {
            asset.to_user_string(): {"whole": each.whole, "partitions": sorted(each.partitions)}
            for asset, each in touched.items()
        }
        metadata = {_TOUCHES: dg.MetadataValue.json(said)}
        context.log_event(dg.AssetObservation(key, metadata=metadata))
        context.instance.add_run_tags(context.run.run_id, {WORKING_TAG: environment})


def give_back(context: dg.AssetExecutionContext, failed: Collection[dg.AssetKey]) -> None:
    """Say that the run ends in order, and leaves nothing in doubt but what dbt ``failed`` at."""
    place = place_in_the_log(context.instance)
    _doubt(context.instance, {key.to_user_string(): Doubt(place) for key in failed})
    run = context.instance.get_run_by_id(context.run.run_id)
    if run and WORKING_TAG in run.tags:
        context.instance.add_run_tags(run.run_id, {WORKING_TAG: _DONE})


def doubt_stopped(instance: dg.DagsterInstance, environment: str) -> None:
    """Put into doubt what runs that were stopped, or died, may have left."""
    for record in instance.get_run_records(dg.RunsFilter(tags={WORKING_TAG: environment})):
        if record.dagster_run.is_finished:
            _doubt(instance, _left_by(instance, record))
            instance.add_run_tags(record.dagster_run.run_id, {WORKING_TAG: _DONE})


def _left_by(instance: dg.DagsterInstance, run: dg.RunRecord) -> Mapping[str, Doubt]:
    place, run_id = place_in_the_log(instance), run.dagster_run.run_id
    began, ended = run.create_timestamp.timestamp(), run.end_time or 0.0
    touched = _touched_by(instance, run_id)
    # Not the events of the run: where its process died, the last may be in no other log.
    lasts = {
        record.asset_entry.asset_key: last_build(instance, record)
        for record in instance.get_asset_records([*touched])
    }
    left: dict[str, Doubt] = {}
    for key, each in touched.items():
        last = lasts.get(key)
        if each.whole and not (last and (last.run_id == run_id or last.timestamp > ended)):
            left[key.to_user_string()] = Doubt(place)
        elif each.partitions:
            done = built_since(instance, key, began, but_by=lambda other: other != run_id)
            if rest := sorted({*each.partitions} - done - built_since(instance, key, ended)):
                left[key.to_user_string()] = Doubt(place, rest)
    return left


def _touched_by(instance: dg.DagsterInstance, run_id: str) -> Mapping[dg.AssetKey, Touched]:
    found: dict[dg.AssetKey, Touched] = {}
    of_type = dg.DagsterEventType.ASSET_OBSERVATION
    for record in instance.get_records_for_run(run_id, of_type=of_type).records:
        event = record.event_log_entry.dagster_event
        if event and (
            said := event.asset_observation_data.asset_observation.metadata.get(_TOUCHES)
        ):
            assert isinstance(said, dg.JsonMetadataValue)
            for name, each in cast("dict[str, Any]", said.value).items():
                found[dg.AssetKey.from_user_string(name)] = Touched(**each)
    return found


def _doubt(instance: dg.DagsterInstance, found: Mapping[str, Doubt]) -> None:
    known = dagster_internals.read_notes(instance, map(_note, found))
    for name, doubt in found.items():
        earlier = _read(known.get(_note(name), "[]")) if doubt.partitions is not None else ()
        dagster_internals.write_note(
            instance, _note(name), orjson.dumps([*earlier, doubt]).decode()
        )


def _read(text: str) -> list[Doubt]:
    return [Doubt(**each) for each in orjson.loads(text)]


def _note(name: str) -> str:
    return f"dbt_orchestration/doubt/{name}"
