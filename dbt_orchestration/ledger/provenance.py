"""What is recorded with a run and with each asset it builds: which commit, and from which code."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from dbt_orchestration.changes.terms import digest
from dbt_orchestration.dbt.parse import Commit, Revision
from dbt_orchestration.revisions.explanation import BEHIND, WAITING

CODE_VERSION_TAG = "dagster/code_version"
SECONDS = "seconds"
# What dagster-dbt calls them, and versions before this one.
SECONDS_BEFORE = "Execution Duration"
FINGERPRINT = "dbt/fingerprint"
UNIQUE_ID = "dbt/unique_id"
MISSING = "missing"
DATA_VERSION_TAG = "dagster/data_version"
RELATION, READS = "dbt/relation", "dbt/reads"


@dataclass(frozen=True)
class Record:
    """What is recorded with a node's materialization.

    Attributes:
        code_version: what the node stands with from now on; None leaves it to Dagster.
        relation: the name of its relation.
    """

    code_version: str | None
    metadata: Mapping[str, dg.MetadataValue[Any]]
    relation: str = ""

    @property
    def tags(self) -> dict[str, str]:
        return {CODE_VERSION_TAG: self.code_version} if self.code_version else {}

    @property
    def partition_tags(self) -> dict[str, str]:
        """The same for a partition; what was built with is found again in its data version."""
        version = f"{self.code_version or ''}~{uuid.uuid4()}~{short_name(self.relation)}"
        return {DATA_VERSION_TAG: version, **self.tags}


def text_in(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> str:
    """What a materialization's metadata says under ``name``; "" if it says nothing."""
    value = metadata.get(name)
    return str(value.value) if value else ""


def code_version_in(data_version: str) -> str:
    """What ``Record.partition_tags`` put into a data version."""
    return data_version.partition("~")[0]


def short_name_in(data_version: str) -> str:
    """Likewise, the ``short_name`` of the relation; "" if it is not known."""
    return "~".join(data_version.split("~")[2:])


def short_name(relation: str) -> str:
    """The name of a relation as a tag may have it."""
    return digest(relation.lower())[:8] if relation else ""


def ticket_metadata(commit: Commit) -> dict[str, dg.MetadataValue[Any]]:
    """The ticket that a commit's message names, as a link where settings say where it leads."""
    if not commit.ticket:
        return {}
    url = commit.ticket_url
    return {"ticket": dg.MetadataValue.url(url) if url else dg.MetadataValue.text(commit.ticket)}


def commit_metadata(revision: Revision, reason: str) -> dict[str, dg.MetadataValue[Any]]:
    """A materialization's metadata that says which commit was built, and why."""
    metadata: dict[str, dg.MetadataValue[Any]] = {}
    if commit := revision.commit:
        title = f"{commit.short} {commit.subject}"
        metadata["commit"] = dg.MetadataValue.text(title)
        if commit.url:
            metadata["commit url"] = dg.MetadataValue.url(commit.url)
        metadata |= ticket_metadata(commit)
    if reason:
        metadata["why"] = dg.MetadataValue.text(reason)
    return metadata


def recorded_versions(
    revision: Revision,
    building: Collection[str],
    behind: Mapping[str, str],
    cloned: Collection[str] = (),
) -> Callable[[str], str | None]:
    """The code version to record for each node that a run builds.

    That is its fingerprint, which says what the node and everything above it are like. Where
    something above it, which this run does not build, still stands as other code left it, the
    version is another one, and the node stays due.

    Args:
        building: nodes of the run, by unique id.
        behind: nodes that other code will still have left, wholly or in part, when the run has
            ended, each with what tells that state from others.
        cloned: nodes of the run that were made of nothing that stands here.
    """
    nodes = revision.manifest["nodes"]

    def version(unique_id: str) -> str | None:
        own = revision.fingerprints.get(unique_id)
        if own and behind.get(unique_id) == WAITING:
            return own + WAITING
        if own is None or not behind or unique_id not in building:
            return own
        late = sorted(ancestors_of(nodes, unique_id, until=cloned) & behind.keys())
        if not late:
            return own
        # Tags are short, and made of few characters.
        return f"{own}{BEHIND}{digest(*(f'{u}={behind[u]}' for u in late))[:16]}"

    return version


def ancestors_of(
    nodes: Mapping[str, Mapping[str, Any]],
    *unique_ids: str,
    ephemeral: bool = False,
    until: Collection[str] = (),
) -> set[str]:
    """What nodes read, and what that reads; without ``ephemeral`` only what has a table.

    Args:
        until: nodes of which it does not matter what they read.
    """
    found: set[str] = set()
    waiting = [u for u in unique_ids if u not in until]
    while waiting:
        for parent in (nodes[waiting.pop()].get("depends_on") or {}).get("nodes") or ():
            if parent in nodes and parent not in found:
                found.add(parent)
                if parent not in until:
                    waiting.append(parent)
    return {u for u in found if ephemeral or nodes[u]["config"].get("materialized") != "ephemeral"}
