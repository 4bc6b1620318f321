"""Prepare a commit: its files, packages, manifest and fingerprints, in a folder of its own.

The folder is renamed into its place when it is whole, and is never changed afterwards. Its name,
the revision's digest, is the SHA and a stamp of what else decides the parse: profile, target,
versions, and the environment variables that the project reads.
"""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path

import orjson
from filelock import FileLock

from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.layout import Layout
from dbt_orchestration.dbt.parse import (
    Commit,
    PrepareError,
    Revision,
    parse_into,
    seed_of,
    stamp_of,
    versions,
)
from dbt_orchestration.dbt.scratch import PREPARING, scratch_in
from dbt_orchestration.revisions.analyse import analyse
from dbt_orchestration.revisions.disk import full_disk
from dbt_orchestration.revisions.git import GitError, share_large_files
from dbt_orchestration.revisions.packages import Installed, copy_packages
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.settings.models import Settings

_FILES, _ABOUT = "files", "commit.json"

Validate = Callable[[Revision], None]


def revisions_home(settings: Settings, environment: str) -> Path:
    """The folder of an environment's revisions."""
    return settings.state_dir / "revisions" / environment


def checkout_of(revision: Revision) -> Path:
    """The folder of a commit's files, which is the root of the repository."""
    return revision.directory / _FILES


def kept_commits(settings: Settings, environment: str) -> list[Revision]:
    """The prepared commits that are on this machine, the one used last first."""
    found = revisions_home(settings, environment).glob(f"*/{_ABOUT}")
    folders = sorted((path.parent for path in found), key=lambda path: -path.stat().st_mtime)
    shown = (folder for folder in folders if not folder.name.startswith("."))
    return [revision for folder in shown if (revision := read_commit(folder))]


def read_commit(folder: Path) -> Revision | None:
    """The revision in ``folder``; None if it is not whole, as after a power cut."""
    try:
        about = orjson.loads((folder / _ABOUT).read_bytes())
        sizes: Mapping[str, int] = about.get("sizes", {})
        if any((folder / name).stat().st_size != size for name, size in sizes.items()):
            return None
    except (OSError, orjson.JSONDecodeError):
        return None
    project = folder / _FILES / about["project_path"]
    return Revision(folder.name, folder, project, Commit(**about["commit"]))


def made_by(revision: Revision) -> list[str]:
    """The versions of what made a revision's fingerprints."""
    about = orjson.loads((revision.directory / _ABOUT).read_bytes())
    made_by: list[str] = about["made_by"]
    return made_by


def is_current(settings: Settings, environment: str, revision: Revision) -> bool:
    """Whether preparing the same commit again would give the same."""
    if not revision.facts_path.is_file():
        return False  # an older version of this package prepared it
    target = DbtTarget.of(settings, environment, revision.project_dir)
    return revision.digest.endswith(f"-{stamp_of(target, revision.facts)}")


def find_commit(settings: Settings, environment: str, sha: str) -> Revision | None:
    """The commit ``sha``, if it is prepared on this machine as it would be prepared now."""
    for revision in kept_commits(settings, environment):
        commit = revision.commit
        if commit and commit.sha == sha and is_current(settings, environment, revision):
            return revision
    return None


def prepare_newest(
    settings: Settings,
    environment: str,
    say: Callable[[str], None] = lambda _: None,
    check: Validate = lambda _: None,
) -> Revision:
    """Prepare the newest commit of the environment's branch, unless that was done.

    Args:
        check: raises if the code location could not be made of the revision.

    Raises:
        GitError: the remote cannot be reached or refuses.
        PrepareError: the commit does not parse, or its packages cannot be installed.
    """
    remote = Remote.of(settings)
    say("fetching")
    commit = remote.fetch(settings.environment(environment).branch)
    home = revisions_home(settings, environment)
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "prepare.lock"):
        if known := find_commit(settings, environment, commit.sha):
            os.utime(known.directory)
            return known

        def check_out(folder: Path) -> None:
            remote.checkout(commit.sha, folder)

        return _prepare(
            settings, environment, commit, remote.project_path, check_out, say=say, check=check
        )


def prepare_followed(
    settings: Settings, environment: str, check: Validate = lambda _: None
) -> Revision | None:
    """The newest commit of the branch that an environment follows, prepared.

    None if it follows none, if there is no such branch yet, or if no remote is set and the project
    lies in no repository: then the environment is the project as it lies.

    Raises:
        GitError, PrepareError: as ``prepare_newest``.
    """
    followed = settings.environment(environment)
    if not followed.push.enabled:
        return None
    try:
        if Remote.of(settings).head(followed.branch):
            return prepare_newest(settings, environment, check=check)
    except GitError:
        if settings.git.remote:
            raise
    return None


def prepare_again(settings: Settings, environment: str, revision: Revision) -> Revision:
    """The same commit as ``revision``, prepared as it would be now; needs no remote.

    Raises:
        PrepareError: as ``prepare_newest``.
    """
    commit = revision.commit
    if commit is None or is_current(settings, environment, revision):
        return revision
    with FileLock(revisions_home(settings, environment) / "prepare.lock"):
        if known := find_commit(settings, environment, commit.sha):
            return known
        files = revision.directory / _FILES

        def copy(folder: Path) -> None:
            shutil.copytree(files, folder, symlinks=True, dirs_exist_ok=True)

        path = str(revision.project_dir.relative_to(files))
        return _prepare(
            settings, environment, commit, path, copy, say=lambda _: None, check=lambda _: None
        )


def _prepare(
    settings: Settings,
    environment: str,
    commit: Commit,
    project_path: str,
    provide_files: Callable[[Path], None],
    *,
    say: Callable[[str], None],
    check: Validate,
) -> Revision:
    home = revisions_home(settings, environment)
    with scratch_in(home, PREPARING) as scratch:
        project = scratch / _FILES / project_path
        target = DbtTarget.of(settings, environment, project)
        try:
            say("checking out")
            provide_files(scratch / _FILES)
            if not (project / "dbt_project.yml").is_file():
                raise PrepareError(
                    f"there is no dbt_project.yml in {project_path} (git.project_path)"
                )
            profiles = target.profiles_dir
            if profiles and not (profiles / "profiles.yml").is_file():
                own = profiles == project
                where = (project_path or "the repository") if own else profiles
                remedy = "commit it, or" if own else "put it there, or"
                raise PrepareError(
                    f"there is no profiles.yml in {where}, where profiles_dir says that it is:"
                    f" {remedy} set profiles_dir to another folder"
                )
            say("installing packages")
            previous = kept_commits(settings, environment)
            stated = copy_packages(target, scratch / _FILES, _installed(previous, scratch, target))
            say("parsing")
            revision = parse_into(target, scratch, seed_of(target, previous))
            for earlier in previous[:1]:
                share_large_files(scratch / _FILES, earlier.directory / _FILES)
            say("analysing")
            analyse(revision, target, home)
            check(revision)
            about = {
                "commit": commit.as_json(),
                "project_path": project_path,
                "packages": stated,
                "made_by": versions(),
                "sizes": {p.name: p.stat().st_size for p in scratch.iterdir() if p.is_file()},
            }
            (scratch / _ABOUT).write_bytes(orjson.dumps(about))
            folder = home / f"{commit.sha}-{stamp_of(target, revision.facts)}"
            shutil.rmtree(folder, ignore_errors=True)
            scratch.rename(folder)
        except Exception as error:
            # Whatever a commit makes dbt, or us, do: it must not take the other commits with it.
            said = (
                _cause(error, settings)
                .replace(f", {project}", "")
                .replace(f"{project}{os.sep}", "")
            )
            raise PrepareError(f"{commit.short}: {said}") from error
    prepared = read_commit(folder)
    assert prepared is not None
    return prepared


def _cause(error: Exception, settings: Settings) -> str:
    if full := full_disk(settings):
        return full
    if isinstance(error, PrepareError | GitError | OSError):
        return str(error)
    [*_, last] = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__}: {error} ({Path(last.filename).name}:{last.lineno})"


def _installed(
    previous: Iterable[Revision], scratch: Path, target: DbtTarget
) -> Iterator[Installed]:
    """The packages of commits that were prepared before."""
    folder = Layout.of(target).installed
    for revision in previous:
        about = orjson.loads((revision.directory / _ABOUT).read_bytes())
        if folder.is_relative_to(scratch):
            yield Installed(
                revision.directory / folder.relative_to(scratch), about.get("packages", "")
            )
