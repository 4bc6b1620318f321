"""What is recorded with a run and with each asset it builds: which commit, and from which code."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dbt_orchestration.changes.terms import digest
from dbt_orchestration.revisions.explain import BEHIND
from dbt_orchestration.revisions.parse import Revision

PUSH_TAG = "dbt/push"
CODE_VERSION_TAG = "dagster/code_version"


@dataclass(frozen=True)
class Record:
    """What is recorded with a node's materialization.

    Attributes:
        code_version: what the node stands with from now on; None leaves it to Dagster.
    """

    code_version: str | None
    metadata: Mapping[str, dg.MetadataValue[Any]]

    @property
    def tags(self) -> dict[str, str]:
        return {CODE_VERSION_TAG: self.code_version} if self.code_version else {}


def commit_metadata(revision: Revision, reason: str) -> dict[str, dg.MetadataValue[Any]]:
    """A materialization's metadata that says which commit was built, and why."""
    metadata: dict[str, dg.MetadataValue[Any]] = {}
    if commit := revision.commit:
        title = f"{commit.short} {commit.subject}"
        metadata["commit"] = dg.MetadataValue.text(title)
        if commit.url:
            metadata["commit url"] = dg.MetadataValue.url(commit.url)
    if reason:
        metadata["why"] = dg.MetadataValue.text(reason)
    return metadata


def commit_tags(revision: Revision) -> dict[str, str]:
    """A run's tags that say which commit it builds; none for a project that is no commit."""
    commit = revision.commit
    if commit is None:
        return {}
    tags = {
        "dbt/revision": revision.digest,
        "dbt/commit": commit.sha,
        "dbt/branch": commit.branch,
        "dbt/author": commit.author,
        "dbt/subject": commit.subject,
        "dbt/commit_url": commit.url,
    }
    return {key: value for key, value in tags.items() if value}


def savings_key(environment: str) -> dg.AssetKey:
    """The asset whose materializations say what each push built and what it saved."""
    return dg.AssetKey([environment, "pushes"])


def savings_spec(environment: str, branch: str) -> dg.AssetSpec:
    """That asset: Dagster plots its numbers over time."""
    return dg.AssetSpec(
        savings_key(environment),
        group_name="pushes",
        description=f"Pushes to {branch}: nodes built and left alone, and seconds saved.",
    )


def recorded_versions(
    revision: Revision,
    building: Collection[str],
    built: Callable[[Collection[str]], Mapping[str, str]],
    same: Mapping[str, str],
) -> Callable[[str], str | None]:
    """The code version to record for each node that a run builds.

    That is its fingerprint, which says what the node and everything above it are like. Where
    something above it, which this run does not build, still stands as other code left it, the
    version is another one, and the node stays due.

    Args:
        building: nodes of the run, by unique id.
        built: fingerprints that nodes stand with, of those that were ever built.
        same: what counts as the node's own fingerprint, too; "" if it was never built.
    """
    nodes = revision.manifest["nodes"]
    above = {unique_id: _ancestors(nodes, unique_id) - set(building) for unique_id in building}
    outside = {u for ancestors in above.values() for u in ancestors}
    standing = built(sorted(outside)) if outside else {}
    fingerprints = revision.fingerprints
    stale = {
        u: standing.get(u, "")
        for u in outside
        if standing.get(u, "") not in (fingerprints.get(u), same.get(u))
    }

    def version(unique_id: str) -> str | None:
        own = fingerprints.get(unique_id)
        behind = sorted(above.get(unique_id, set()) & stale.keys())
        if own is None or not behind:
            return own
        # Tags are short, and made of few characters.
        return f"{own}{BEHIND}{digest(*(f'{u}={stale[u]}' for u in behind))[:16]}"

    return version


def _ancestors(nodes: Mapping[str, Mapping[str, Any]], unique_id: str) -> set[str]:
    found: set[str] = set()
    waiting = [unique_id]
    while waiting:
        for parent in (nodes[waiting.pop()].get("depends_on") or {}).get("nodes") or ():
            if parent in nodes and parent not in found:
                found.add(parent)
                waiting.append(parent)
    return {u for u in found if nodes[u]["config"].get("materialized") != "ephemeral"}
