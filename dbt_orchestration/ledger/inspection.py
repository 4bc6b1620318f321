"""Ask the warehouse what of an environment is there, and remember what is not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Any

import dagster as dg

from dbt_orchestration.assets.context import EnvironmentContext
from dbt_orchestration.assets.raw_sources import raw_sources
from dbt_orchestration.dbt.invocation import DbtError
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.built import Built, read_built
from dbt_orchestration.ledger.moved import Moved
from dbt_orchestration.ledger.present import (
    absent_since,
    keep,
    keep_what_builds_leave,
    place_in_the_log,
)
from dbt_orchestration.revisions.warehouse import Seen, as_it_says, look, look_at_columns
from dbt_orchestration.settings.models import Settings

Ask = Callable[[Collection[str]], Mapping[str, Seen]]


def ours(
    settings: Settings, revision: Revision, keys: Mapping[str, dg.AssetKey]
) -> Mapping[str, dg.AssetKey]:
    """What Dagster builds or loads of ``keys``: all but the sources that others load."""
    raw = raw_sources(revision.manifest) if settings.load_raw else {}
    return {u: key for u, key in keys.items() if u in revision.fingerprints or u in raw}


def built_here(
    settings: Settings,
    instance: dg.DagsterInstance,
    revision: Revision,
    keys: Mapping[str, dg.AssetKey],
) -> Mapping[str, Built]:
    """What was built last of each node, where the name of its relation is still the same.

    Under another name it is not looked for: that nothing is there yet does not say that somebody
    has dropped it.
    """
    moved = Moved(revision)
    built = read_built(instance, ours(settings, revision, keys))
    return {u: last for u, last in built.items() if not moved.is_elsewhere(u, last)}


def inspect(
    settings: Settings,
    environment: str,
    instance: dg.DagsterInstance,
    revision: Revision,
    keys: Mapping[str, dg.AssetKey],
    *,
    ask: Ask,
    building: Collection[str] = (),
) -> Collection[dg.AssetKey]:
    """What was recorded as built and is not there, among nodes as the revision has them.

    Args:
        keys: asset keys by unique id, sources included.
        ask: asks the warehouse for nodes.
        building: nodes that are looked for, whatever code they were built with.

    Raises:
        DbtError: the warehouse cannot be reached.
    """
    position = place_in_the_log(instance)
    built = built_here(settings, instance, revision, keys)
    recorded = {u: last.fingerprint for u, last in built.items()}
    wanted = as_it_says(settings, environment, revision, recorded) | (recorded.keys() & building)
    if not wanted:
        return ()
    seen = ask(wanted)
    return keep(instance, {keys[u]: found for u, found in seen.items()}, position)


class Inspection:
    """What a run sees of the warehouse.

    Attributes:
        absent: nodes that the run was to build and that were not there, by unique id.
    """

    def __init__(
        self, env: EnvironmentContext, context: dg.AssetExecutionContext, scratch: str
    ) -> None:
        self._env = env
        self._context = context
        self._scratch = scratch
        self.absent: set[str] = set()

    def before(self, nodes: Collection[str], manifest: Any) -> None:
        """Look at all that was built before, and at the nodes that the run is to build."""
        env, instance, log = self._env, self._context.instance, self._context.log
        ask = partial(self._look, manifest)
        try:
            gone = inspect(
                env.settings,
                env.name,
                instance,
                env.revision,
                env.keys,
                ask=ask,
                building=nodes,
            )
        except DbtError as error:
            log.warning(f"It is not known whether what was built is still there: {error}")
            return
        if gone:
            names = ", ".join(sorted(key.path[-1] for key in gone))
            log.warning(f"Recorded as built, and not in the warehouse any more: {names}.")
        absent = absent_since(instance, env.keys.values())
        self.absent = {u for u in nodes if env.keys[u] in absent}

    def columns(self, nodes: Collection[str], manifest: Any) -> Mapping[str, Mapping[str, str]]:
        """The columns of these nodes' relations: see ``look_at_columns``; none if nobody says."""
        env = self._env
        try:
            return look_at_columns(env.target, env.revision, nodes, manifest, self._scratch)
        except DbtError as error:
            self._context.log.info(f"The types of columns are not known: {error}")
            return {}

    def after(self, built: Collection[str], manifest: Any) -> None:
        """Look at what was absent and the run has built: a hook may have dropped it again."""
        with contextlib.suppress(DbtError):
            keys = self._env.keys
            seen = {keys[u]: found for u, found in self._look(manifest, built).items()}
            keep_what_builds_leave(self._context.instance, seen)

    def _look(self, manifest: Any, nodes: Collection[str]) -> Mapping[str, Seen]:
        return look(self._env.target, self._env.revision, nodes, manifest, self._scratch)
