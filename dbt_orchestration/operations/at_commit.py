"""What is done at another commit than the one that is loaded."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg

from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.run_tags import run_tags
from dbt_orchestration.operations.form import RefusedError
from dbt_orchestration.operations.hold_form import find_commit_of
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.revisions.commits import prepare_commit
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.revisions.store import upload
from dbt_orchestration.runs.request import BuildRequest
from dbt_orchestration.settings.types import named

COMMIT = (
    "The SHA of a commit of the branch, its beginning, or a ticket. Empty: the newest that is"
    " loaded."
)


def revision_of(at: Loaded, said: str) -> Revision:
    """The revision of the commit that is wanted, which is prepared if it was not yet.

    Raises:
        RefusedError: the branch has none.
        GitError, PrepareError: it cannot be fetched, or does not parse.
    """
    said, newest = said.strip(), at.revision
    if not said:
        return newest
    settings, pattern = at.settings, at.settings.git.ticket_pattern
    remote = Remote.of(settings)
    recent = remote.recent(remote.fetch(at.branch))
    commit = find_commit_of(recent, said, at.branch, pattern, show="write another one")
    if newest.commit and newest.commit.sha == commit.sha:
        return newest
    return prepare_commit(settings, at.name, commit.sha, check=at.check)


def at_another(newest: Loaded, at: Loaded, request: BuildRequest) -> BuildRequest:
    """The request, for a run that knows only the assets and the tests of the newest commit.

    Raises:
        RefusedError: an asset is not there, or has other partitions there.
    """
    others = {key: why for key in request.assets if (why := why_unknown(newest, at, key))}
    for why in sorted({*others.values()}):
        names = ", ".join(sorted(key.path[-1] for key in others if others[key] == why))
        raise RefusedError(
            f"select: {names} {why}: launch {named(newest.name, 'roll_back')} instead"
        )
    known = {spec.key for spec in newest.dbt.definition.check_specs}
    order = replace(request.order, revision=at.revision.digest)
    checks = {*request.checks} & known
    tags = run_tags(at.name, at.revision)
    return replace(request, checks=checks, order=order, tags=tags)


def why_unknown(newest: Loaded, at: Loaded, key: dg.AssetKey) -> str:
    """Why a run cannot record an asset as another commit has it; "" if it can."""
    here, there = at.dbt.definition.specs_by_key, newest.dbt.definition.specs_by_key
    if key not in there:
        return "is not in the newest commit"
    if here[key].partitions_def != there[key].partitions_def:
        return "has other partitions in the newest commit"
    return ""


def let_runs_have(at: Loaded, instance: dg.DagsterInstance) -> None:
    """Store the commit where the machine of a run finds it."""
    if storage := instance.defs_state_storage:
        upload(at.name, at.revision, storage)
