"""The check that is red while the newest commit cannot be built, asked for by hand.

The push sensor keeps it up to date by itself.
"""

import dagster as dg

from dbt_orchestration.dbt.parse import Commit, Revision
from dbt_orchestration.ledger.held import Hold, held
from dbt_orchestration.ledger.pushes import (
    NEWEST_COMMIT,
    as_result,
    can_be_built,
    cannot_be_built,
    cannot_be_seen,
    pushes_key,
)
from dbt_orchestration.revisions.follow import Follower
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.settings.models import Settings


def newest_commit_check(
    settings: Settings, environment: str, loaded: Revision | None
) -> dg.AssetChecksDefinition:
    """The check of an environment whose code location has loaded ``loaded``, if any."""
    branch = settings.environment(environment).branch

    @dg.asset_check(
        asset=pushes_key(environment),
        name=NEWEST_COMMIT,
        description=f"The newest commit of {branch}, or the one that {environment} is held at,"
        " parses and can be loaded. The push sensor looks by itself.",
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        hold, commit = held(context.instance, environment), loaded.commit if loaded else None
        return as_result(_look(settings, environment, branch, commit, hold))

    return check


def _look(
    settings: Settings, environment: str, branch: str, loaded: Commit | None, hold: Hold | None
) -> dg.AssetCheckEvaluation:
    try:
        remote = Remote.of(settings)
        sha = hold.sha if hold else remote.head(branch)
    except GitError as error:
        return cannot_be_seen(environment, branch, str(error))
    if sha is None:
        return cannot_be_seen(environment, branch, f"there is no such branch in {remote.url}")
    if loaded and loaded.sha == sha:
        return can_be_built(environment, loaded)
    said = Follower(settings, environment).problem(sha) or "the push sensor is preparing it"
    return cannot_be_built(environment, remote.known(branch, sha), said)
