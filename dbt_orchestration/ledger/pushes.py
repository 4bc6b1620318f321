"""The asset ``pushes`` of an environment: what pushes built, and whether the newest commit can be.

Dagster plots its numbers over time. Its check is red while the newest commit cannot be built.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from dbt_orchestration.assets.translator import ENVIRONMENT, group_of
from dbt_orchestration.dbt.parse import Commit, Revision
from dbt_orchestration.ledger.built import Built
from dbt_orchestration.ledger.provenance import ticket_metadata
from dbt_orchestration.markdown import code, shortened
from dbt_orchestration.settings.types import named

NEWEST_COMMIT = "newest_commit_can_be_built"
_FILE = re.compile(r"[\w./-]+\.(?:sql|ya?ml|py|csv|md)\b")
_LINE = re.compile(r"\bline (\d+)")
_LONGEST = 1_000


def pushes_key(environment: str) -> dg.AssetKey:
    """The asset's key."""
    return dg.AssetKey([environment, "pushes"])


def pushes_spec(
    environment: str,
    branch: str,
    *,
    begins: bool = False,
    cannot_be_loaded: str = "",
    not_followed: str = "",
) -> dg.AssetSpec:
    """The asset.

    Args:
        begins: no commit is loaded so far, and this is the environment's only asset.
        cannot_be_loaded: why the commit that was loaded before is not, if that is so.
        not_followed: why there are no pushes, if that is so.
    """
    said = f"Pushes to {branch}: nodes built and left alone, and seconds saved."
    if begins:
        said = (
            f"{environment} has no other assets yet: they come with the first commit of the branch"
            f" {branch}. The sensor {named(environment, 'push')} says what it waits for."
        )
    if cannot_be_loaded:
        said = (
            f"{environment} has no other assets until its branch {branch} has another commit:"
            f" {cannot_be_loaded}"
        )
    return dg.AssetSpec(
        pushes_key(environment),
        group_name=group_of(environment, "pushes"),
        description=not_followed or said,
        tags={ENVIRONMENT: environment},
    )


def built_by_push(
    environment: str,
    revision: Revision,
    built: Mapping[str, float],
    left_alone: int,
    seconds_saved: float,
) -> dg.AssetMaterialization:
    """What a push run built, in seconds by asset, and what it saved."""
    return dg.AssetMaterialization(
        pushes_key(environment),
        metadata={
            "built": len(built),
            "left alone": left_alone,
            "seconds built": round(sum(built.values()), 1),
            "seconds saved": seconds_saved,
            **(about_commit(revision.commit) if revision.commit else {}),
        },
    )


def nothing_due(
    environment: str, revision: Revision, built: Mapping[str, Built]
) -> dg.AssetMaterialization:
    """What a commit saved that makes nothing due."""
    return dg.AssetMaterialization(
        pushes_key(environment),
        metadata={
            "built": 0,
            "left alone": len(built),
            "seconds saved": seconds_of(built, list(built)),
            **(about_commit(revision.commit) if revision.commit else {}),
        },
    )


def seconds_of(built: Mapping[str, Built], nodes: Sequence[str]) -> float:
    """What building these nodes took the last time."""
    return round(sum(built[u].seconds for u in nodes if u in built), 1)


def can_be_built(environment: str, commit: Commit) -> dg.AssetCheckEvaluation:
    """The check, once the newest commit is loaded."""
    return _evaluation(environment, passed=True, metadata=about_commit(commit))


def cannot_be_built(environment: str, commit: Commit, said: str) -> dg.AssetCheckEvaluation:
    """The check, where the newest commit does not parse, or cannot be loaded.

    Args:
        said: the message, dbt's own where dbt refused.
    """
    metadata: dict[str, Any] = {"error": dg.MetadataValue.md(code(said)), **about_commit(commit)}
    if file := _FILE.search(said):
        metadata["file"] = file[0]
    if line := _LINE.search(said):
        metadata["line"] = line[1]  # Dagster would plot a number
    # The page shows a description at once, and metadata of this kind after a click.
    return _evaluation(
        environment,
        passed=False,
        metadata=metadata,
        description=f"{commit.short} by {commit.author} cannot be built. What was built before"
        f" stays as it is.\n\n{code(shortened(said, _LONGEST))}",
    )


def cannot_be_seen(environment: str, branch: str, said: str) -> dg.AssetCheckEvaluation:
    """The check, where git does not answer: what is newest is not known."""
    return _evaluation(
        environment,
        passed=False,
        metadata={"error": said},
        description=f"The branch {branch} cannot be seen. What is known of it is built.",
        severity=dg.AssetCheckSeverity.WARN,
    )


def as_result(evaluation: dg.AssetCheckEvaluation) -> dg.AssetCheckResult:
    """The same, where a run gives it in place of a sensor."""
    return dg.AssetCheckResult(
        passed=evaluation.passed,
        severity=evaluation.severity,
        description=evaluation.description,
        metadata=evaluation.metadata,
    )


def about_commit(commit: Commit) -> dict[str, Any]:
    """What the UI shows of a commit, as metadata."""
    about: dict[str, Any] = {
        "commit": f"{commit.short} {commit.title}",
        "author": commit.author,
        "branch": commit.branch,
    }
    if commit.url:
        about["commit url"] = dg.MetadataValue.url(commit.url)
    return about | ticket_metadata(commit)


def _evaluation(
    environment: str, *, passed: bool, metadata: Mapping[str, Any], **said: Any
) -> dg.AssetCheckEvaluation:
    return dg.AssetCheckEvaluation(
        asset_key=pushes_key(environment),
        check_name=NEWEST_COMMIT,
        passed=passed,
        metadata=metadata,
        **said,
    )
