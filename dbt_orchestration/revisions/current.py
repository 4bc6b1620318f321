"""Which revision a code location loads, and what a run opens."""

from __future__ import annotations

import re
from contextlib import suppress

import dagster as dg

from dbt_orchestration import dagster_internals
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.history.order import Order
from dbt_orchestration.revisions import working_tree
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.revisions.store import forget_old, open_commit, published
from dbt_orchestration.settings.models import Settings

_COMMIT = re.compile(r"[0-9a-f]{40}-[0-9a-f]{8}")
_FORGET_SECONDS = 10.0
_ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
_UNFINISHED = [status for status in dg.DagsterRunStatus if status not in _ENDED]


def current(settings: Settings, environment: str) -> str:
    """The digest of the revision that the environment is now; "" if there is none yet.

    That is the published commit, if the environment follows its branch, or else ``as_it_lies``.

    Raises:
        PrepareError: that project does not parse.
    """
    storage = dagster_internals.state_storage()
    pushes = settings.environment(environment).push.enabled
    if pushes and (digest := published(environment, storage)):
        return digest
    revision = as_it_lies(settings, environment)
    if revision is None:
        return ""
    if storage and (instance := dagster_internals.instance_of(storage)):
        in_use = {revision.digest, *used_by(instance, environment)}
        if kept := forget_old(settings, environment, in_use, storage, _FORGET_SECONDS):
            dg.get_dagster_logger().warning(kept)
    return revision.digest


def as_it_lies(settings: Settings, environment: str) -> Revision | None:
    """The project as it lies in its folder, where that is what an environment begins with.

    It does not where a remote is set, which is another project, and where it follows a branch that
    is still to be pushed: what is built from it would be somebody else's.

    Raises:
        PrepareError: that project does not parse.
    """
    followed = settings.environment(environment)
    if settings.git.remote or not (settings.project_dir / "dbt_project.yml").is_file():
        return None
    if followed.push.enabled:
        with suppress(GitError):  # which the push sensor says
            if Remote.of(settings).head(followed.branch) is None:
                return None
    return working_tree.prepare(settings, environment)


def loaded_revision(settings: Settings, environment: str) -> str:
    """What ``current`` said when this code location, or that of this run, was loaded.

    Raises:
        PrepareError: as ``current``.
    """
    return dagster_internals.pin(_pin(environment), lambda: current(settings, environment))


def loaded_without(environment: str, why: str) -> str:
    """Why this code location, or that of this run, was loaded without its revision; "" if with it.

    Args:
        why: what is to be remembered where it is loaded for the first time.
    """
    return dagster_internals.pin(f"{_pin(environment)}/without", lambda: why)


def used_by(instance: dg.DagsterInstance, environment: str) -> set[str]:
    """The digests of the environment's revisions that runs have opened, or will open."""
    pin, runs = _pin(environment), instance.get_runs(dg.RunsFilter(statuses=_UNFINISHED))
    opened = {digest for run in runs if (digest := dagster_internals.pinned(instance, run, pin))}
    return opened | {digest for run in runs if (digest := Order.of_tags(run.tags).revision)}


def _pin(environment: str) -> str:
    return f"dbt_orchestration/{environment}"


def open_revision(settings: Settings, environment: str, digest: str) -> Revision:
    """The revision ``digest`` that was prepared before.

    Raises:
        PrepareError: it is not there any more.
    """
    if _COMMIT.fullmatch(digest):
        return open_commit(settings, environment, digest, dagster_internals.state_storage())
    return working_tree.open_revision(settings, environment, digest)
