"""Prepared commits: the newest of a branch, an older one, and one that was prepared before."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import Revision, is_parsed_as_now
from dbt_orchestration.revisions.git import GitError, Repository
from dbt_orchestration.revisions.kept import FILES, find, revisions_home
from dbt_orchestration.revisions.prepare import Checkout, Say, Validate, prepare
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.settings.models import Settings


def is_current(settings: Settings, environment: str, revision: Revision) -> bool:
    """Whether preparing the same commit again would give the same."""
    target = DbtTarget.of(settings, environment, revision.project_dir)
    return is_parsed_as_now(revision, target)


def find_commit(settings: Settings, environment: str, sha: str) -> Revision | None:
    """The commit ``sha``, if it is prepared on this machine as it would be prepared now."""
    home = revisions_home(settings, environment)
    return find(home, sha, partial(DbtTarget.of, settings, environment))


def prepare_commit(
    settings: Settings,
    environment: str,
    sha: str = "",
    say: Say = lambda _: None,
    check: Validate = lambda _: None,
) -> Revision:
    """Prepare a commit of the environment's branch, unless that was done.

    Args:
        sha: "" for the newest.
        check: raises if the code location could not be made of the revision.

    Raises:
        GitError: the remote cannot be reached or refuses, or the branch has no such commit.
        PrepareError: the commit does not parse, or its packages cannot be installed.
    """
    remote, branch = Remote.of(settings), settings.environment(environment).branch
    say("fetching")
    commit = remote.fetch_commit(branch, sha) if sha else remote.fetch(branch)
    write = partial(remote.checkout, commit.sha)
    source = Checkout(settings, environment, commit, remote.project_path, write)
    return prepare(source, revisions_home(settings, environment), check=check, say=say)


def prepare_followed(
    settings: Settings, environment: str, check: Validate = lambda _: None, sha: str = ""
) -> Revision | None:
    """The newest commit of the branch that an environment follows, prepared.

    Or the commit ``sha`` of it, which it is held at.

    None if it follows none, if there is no such branch yet, or if no remote is set and the project
    lies in no repository: then the environment is the project as it lies.

    Raises:
        GitError, PrepareError: as ``prepare_commit``.
    """
    followed = settings.environment(environment)
    if not followed.push.enabled:
        return None
    try:
        if Remote.of(settings).head(followed.branch):
            return prepare_commit(settings, environment, sha, check=check)
    except GitError:
        if settings.git.remote:
            raise
    return None


def not_followed(settings: Settings) -> str:
    """That no push is followed, and what to do, where the project is in no repository; else ""."""
    if settings.git.remote:
        return ""
    try:
        Repository.around(settings.project_dir)
    except GitError:
        return (
            f"Pushes are not followed: {settings.project_dir} is in no git repository. Run git init"
            " there, commit, and start again; or set git.remote (docs/push.md)."
        )
    return ""


def prepare_again(settings: Settings, environment: str, revision: Revision) -> Revision:
    """The same commit as ``revision``, prepared as it would be now; needs no remote.

    Raises:
        PrepareError: as ``prepare_commit``.
    """
    commit = revision.commit
    if commit is None or is_current(settings, environment, revision):
        return revision
    files = revision.directory / FILES

    def copy(folder: Path) -> None:
        shutil.copytree(files, folder, symlinks=True, dirs_exist_ok=True)

    path = str(revision.project_dir.relative_to(files))
    source = Checkout(settings, environment, commit, path, copy)
    return prepare(source, revisions_home(settings, environment))
