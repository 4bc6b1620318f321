"""How an environment's nodes and their partitions stand, compared with a revision."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import dagster as dg
import orjson

from dbt_orchestration import dagster_internals
from dbt_orchestration.changes.actions import PARTITIONS_ADDED
from dbt_orchestration.changes.policy import HistoryPolicy, OnChange
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.history.partitions import newest, partition_config, partition_keys
from dbt_orchestration.history.request import is_ordinary
from dbt_orchestration.ledger.built import Built, read_built
from dbt_orchestration.ledger.moved import Moved
from dbt_orchestration.ledger.run_tags import is_from_push
from dbt_orchestration.revisions.explanation import (
    PARTIAL,
    Explanation,
    Recorded,
    own_of,
    read_explanations,
    what_became,
)
from dbt_orchestration.settings.models import Settings

REWRITES = ("partitions", "full_refresh")
_ADDED = str(PARTITIONS_ADDED)


@dataclass(frozen=True)
class Staleness:
    """What was built, and what has become of it in the revision.

    Attributes:
        built: what was built last of each node, by unique id.
        differs: what to make of nodes that were built with another fingerprint; not all are due.
        stale: for each node the partitions that older code left and the revision would make
            otherwise, each with why.
    """

    built: Mapping[str, Built]
    differs: Mapping[str, Explanation]
    stale: Mapping[str, Mapping[str, Explanation]]

    def is_current(self, unique_id: str) -> bool:
        """Whether the last build of a node is as good as one of the revision."""
        why = self.differs.get(unique_id)
        return unique_id in self.built and (why is None or not why.due)


def on_change(node: Mapping[str, object], default: OnChange) -> OnChange:
    """What a change of a node does to its history: as the model says, or else its environment."""
    kept = HistoryPolicy.of(node)
    if kept.forward_only:
        return "forward_only"
    # A table that each build computes completely has no history to ask about.
    return kept.on_change or (default if kept.incremental else "rebuild")


def staleness(
    settings: Settings,
    environment: str,
    instance: dg.DagsterInstance,
    revision: Revision,
    keys: Mapping[str, dg.AssetKey],
    *,
    explain: Callable[[Collection[Recorded]], bool] = lambda _: True,
    new_only: Mapping[str, Collection[str]] = MappingProxyType({}),
    remember: bool = True,
) -> Staleness | None:
    """How the nodes ``keys`` stand; None if that is not known yet.

    Args:
        keys: asset keys by unique id.
        explain: explains nodes that were built with these fingerprints; False if that will take
            longer. Without it, what is not explained counts as changed.
        new_only: models of which only new partitions are built with the code of the revision, by
            unique id, each with the fingerprints of the partitions that stay as they are.
        remember: keep what was found out of old partitions; not of what may never be loaded.
    """
    nodes, now = revision.manifest["nodes"], revision.fingerprints
    followed = settings.environment(environment)
    kept = {u for u in keys if HistoryPolicy.of(nodes[u]).partitions}
    rewritten = {u for u in kept if on_change(nodes[u], followed.on_change) != "forward_only"}
    built = {
        u: _without_what_comes_by_itself(instance, nodes[u], last, followed.lookback)
        for u, last in read_built(instance, keys, kept).items()
    }
    settled = _Settled(instance, environment, kept)
    for u in kept:
        settled.forget(u, now[u])
    for u in kept & built.keys() & new_only.keys():
        for version in {*_versions(built[u])} & {*new_only[u]} - {now[u]}:
            settled.settle(u, version, now[u])
    wanted = {(u, last.fingerprint) for u, last in built.items()}
    wanted |= {(u, settled.of(u, v)) for u in rewritten & built.keys() for v in _versions(built[u])}
    wanted = {(u, version) for u, version in wanted if version != now[u]}
    prints = {(u, own_of(version)) for u, version in wanted}
    prints = {(u, own) for u, own in prints if own != now[u]}
    explained = read_explanations(settings, environment, revision.digest)
    if prints - explained.keys():
        if not explain(prints):
            return None
        explained = read_explanations(settings, environment, revision.digest)
    # Whatever kept them from being explained: what is certain is only that they differ.
    whys = {(u, version): what_became(revision, u, version, explained) for u, version in wanted}
    differs = {u: whys[u, b.fingerprint] for u, b in built.items() if (u, b.fingerprint) in whys}
    stale: dict[str, dict[str, Explanation]] = {}
    for u in kept & built.keys():
        model = partition_config(nodes[u])
        every = partition_keys(model, datetime.now(UTC)) if model else ()
        missing = set(every) - built[u].partitions.keys()
        found: dict[str, Explanation] = {}
        for key, version in built[u].partitions.items():
            why = whys.get((u, settled.of(u, version)))
            if why and why.due and missing and _ADDED in why.changes:
                found |= dict.fromkeys(missing, why)
            if why and why.due and why.action in REWRITES:
                found[key] = why
            elif version != now[u] and not (why and missing and _ADDED in why.changes):
                settled.settle(u, version, now[u])
        # What is no partition any more cannot be built.
        if found := {key: found[key] for key in every if key in found}:
            stale[u] = found
    if remember:
        settled.keep(built)
    return _with_moved(Staleness(built, differs, stale), revision)


def _with_moved(stands: Staleness, revision: Revision) -> Staleness:
    """The same, with what stands under another name than the revision gives it."""
    moved, differs, stale = Moved(revision), dict(stands.differs), dict(stands.stale)
    for u, last in stands.built.items():
        if why := moved.why(u, last):
            differs[u] = why
        if partitions := moved.partitions(u, last):
            model = partition_config(revision.manifest["nodes"][u])
            every = partition_keys(model, datetime.now(UTC)) if model else ()
            found = {**stale.get(u, {}), **{k: partitions[k] for k in every if k in partitions}}
            stale |= {u: found} if found else {}
    return replace(stands, differs=differs, stale=stale)


def _without_what_comes_by_itself(
    instance: dg.DagsterInstance, node: Mapping[str, Any], last: Built, lookback: int | None
) -> Built:
    """Ignore gaps that the next incremental run fills.

    A build that was cancelled leaves such gaps. A node without partitions is not due for it either.
    """
    if last.left_by is None:
        return last
    run, model = instance.get_run_by_id(last.left_by), partition_config(node)
    if run is None or model is None or is_from_push(run.tags):
        return last
    ops: Any = run.run_config.get("ops") or {"": {}}  # its tags say something by themselves
    if not all(is_ordinary(run.tags, op.get("config", {})) for op in ops.values()):
        return last
    now, built = datetime.now(UTC), last.partitions.keys()
    # A run that died does not say what it had still to do: that may have been the first build.
    missing = set(last.missing) or set(partition_keys(model, now)) - built
    if not missing <= set(newest(model, built, now, lookback)):
        return last
    fingerprint = last.fingerprint.removesuffix(PARTIAL)
    return replace(last, fingerprint=fingerprint, missing=(), left_by=None)


def _versions(last: Built) -> Collection[str]:
    return set(last.partitions.values())


class _Settled:
    """Which fingerprints of old partitions count as which newer one.

    The commits that tell why two fingerprints differ are forgotten after a while. Partitions are
    not built again for a change that leaves them as they are, so what was found out about them
    has to be kept.
    """

    def __init__(
        self, instance: dg.DagsterInstance, environment: str, models: Collection[str]
    ) -> None:
        self._instance = instance
        # A note for each model: runs and ticks that write at once do not undo each other's.
        self._keys = {u: f"dbt_orchestration/{environment}/settled/{u}" for u in models}
        self._before = dagster_internals.read_notes(instance, self._keys.values())
        self._known: dict[str, dict[str, str]] = {
            u: orjson.loads(self._before[key])
            for u, key in self._keys.items()
            if key in self._before
        }

    def of(self, unique_id: str, version: str) -> str:
        return self._known.get(unique_id, {}).get(version, version)

    def settle(self, unique_id: str, version: str, now: str) -> None:
        self._known.setdefault(unique_id, {})[version] = now

    def forget(self, unique_id: str, version: str) -> None:
        """What is built with this fingerprint from now on is what it says, and counts as no other.

        A commit may go back to code whose partitions counted as newer ones.
        """
        self._known.get(unique_id, {}).pop(version, None)

    def keep(self, built: Mapping[str, Built]) -> None:
        for u in self._known.keys() & built.keys():
            used = _versions(built[u])
            known = {v: now for v, now in self._known[u].items() if v in used}
            text = orjson.dumps(known, option=orjson.OPT_SORT_KEYS).decode()
            if text != self._before.get(self._keys[u], "{}"):
                dagster_internals.write_note(self._instance, self._keys[u], text)
