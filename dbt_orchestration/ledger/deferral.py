"""What an environment reads from the one it defers to, instead of building it."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping

import dagster as dg

from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.built import read_built
from dbt_orchestration.ledger.moved import Moved
from dbt_orchestration.revisions.current import open_revision
from dbt_orchestration.revisions.explanation import read_explanations
from dbt_orchestration.revisions.store import published
from dbt_orchestration.settings.models import Settings


def deferral_options(
    settings: Settings, environment: str, instance: dg.DagsterInstance, log: logging.Logger
) -> list[str]:
    """Make dbt read what was never built here from the environment that this one defers to."""
    other = settings.environment(environment).defer_to
    if not other:
        return []
    digest = published(other, instance.defs_state_storage)
    if not digest:
        log.warning(f"Nothing to defer to: {other} has no commit that was prepared.")
        return []
    return ["--defer", "--state", str(open_revision(settings, other, digest).directory)]


def same_elsewhere(
    settings: Settings,
    environment: str,
    instance: dg.DagsterInstance,
    revision: Revision,
    keys: Mapping[str, dg.AssetKey],
) -> Collection[str]:
    """Nodes that stand, as ``revision`` has them, in the environment that this one defers to.

    Args:
        keys: asset keys of the environment's nodes, by unique id.
    """
    other = settings.environment(environment).defer_to
    digest = other and published(other, instance.defs_state_storage)
    if not other or not digest:
        return ()
    assets = {u: dg.AssetKey([other, *key.path[1:]]) for u, key in keys.items()}
    there, now = open_revision(settings, other, digest), revision.fingerprints
    # Why something is not due there is said of the code that is there.
    alike = {u for u, fingerprint in there.fingerprints.items() if now.get(u) == fingerprint}
    explained = read_explanations(settings, other, digest)
    same = {known for known, why in explained.items() if not why.due and known[0] in alike}
    same.update(now.items())
    moved, built = Moved(there), read_built(instance, assets)
    return {
        u
        for u, last in built.items()
        if (u, last.fingerprint) in same
        if moved.knows(u) and not moved.why(u, last)
    }
