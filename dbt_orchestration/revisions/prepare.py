"""Prepare a project: its files, packages, manifest and fingerprints, in a folder of its own.

There is one way to do it, wherever the files come from. The folder is renamed into its place when
it is whole, and is never changed afterwards. Its name, the revision's digest, says which files they
are, and has a stamp of what else decides the parse: profile, target, versions, and the environment
variables that the project reads. So preparing the same files twice does nothing, and a run reads
the files its definitions were made from.
"""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from filelock import FileLock

from dbt_orchestration.dbt import parse
from dbt_orchestration.dbt.facts import stamp_of
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import Commit, PrepareError, Revision
from dbt_orchestration.dbt.scratch import LOCK, PREPARING, scratch_in
from dbt_orchestration.revisions import kept
from dbt_orchestration.revisions.analyse import analyse
from dbt_orchestration.revisions.disk import full_disk
from dbt_orchestration.revisions.git import GitError, share_large_files
from dbt_orchestration.revisions.packages import copy_packages
from dbt_orchestration.settings.models import Settings

_TRIES = 5

Say = Callable[[str], None]
Validate = Callable[[Revision], None]


@dataclass(frozen=True)
class ProjectFolder:
    """A project that is parsed where it lies, so that an edit shows; it may change at any time.

    Attributes:
        install: puts packages into it.
    """

    target: DbtTarget
    install: Callable[[DbtTarget], None] = lambda _: None
    commit: Commit | None = None

    @property
    def project_path(self) -> str:
        return str(self.target.project_dir.absolute())

    def target_of(self, _: Path) -> DbtTarget:
        return self.target

    def files(self) -> str:
        """A digest of what they contain: nothing else says whether they are the same."""
        self.install(self.target)
        return parse.files_digest(self.target)

    def provide(self, *_: object) -> str:
        return ""


@dataclass(frozen=True)
class Checkout:
    """A commit, whose files are a part of the revision: it is moved, and stands on its own.

    Whoever may commit is not trusted: the files reach nothing outside of themselves, and whatever
    goes wrong is the commit's fault.

    Attributes:
        project_path: where dbt_project.yml lies in the files.
        write: writes the files into a folder.
    """

    settings: Settings
    environment: str
    commit: Commit
    project_path: str
    write: Callable[[Path], None]

    def target_of(self, project_dir: Path) -> DbtTarget:
        return DbtTarget.of(self.settings, self.environment, project_dir)

    def files(self) -> str:
        return self.commit.sha

    def provide(
        self, target: DbtTarget, folder: Path, previous: Sequence[Revision], say: Say
    ) -> str:
        """Write the files and the packages into ``folder``; what packages the project states."""
        say("checking out")
        self.write(folder)
        path, project, profiles = self.project_path, target.project_dir, target.profiles_dir
        if not (project / "dbt_project.yml").is_file():
            raise PrepareError(f"there is no dbt_project.yml in {path} (git.project_path)")
        if profiles and not (profiles / "profiles.yml").is_file():
            own = profiles == project
            where = (path or "the repository") if own else profiles
            remedy = "commit it, or" if own else "put it there, or"
            raise PrepareError(
                f"there is no profiles.yml in {where}, where profiles_dir says that it is:"
                f" {remedy} set profiles_dir to another folder"
            )
        say("installing packages")
        states = {r.directory / kept.FILES: kept.record_of(r).get("packages") for r in previous}
        stated = copy_packages(target, folder, states)
        for earlier in previous[:1]:
            share_large_files(folder, earlier.directory / kept.FILES)
        return stated

    def fault(self, error: Exception, project_dir: Path) -> PrepareError:
        """What is said of whatever the commit made dbt, or us, do."""
        if not (said := full_disk(self.settings)):
            said = str(error).replace(f", {project_dir}", "").replace(f"{project_dir}{os.sep}", "")
            if not isinstance(error, PrepareError | GitError | OSError):
                [*_, last] = traceback.extract_tb(error.__traceback__)
                place = f"{Path(last.filename).name}:{last.lineno}"
                said = f"{type(error).__name__}: {said} ({place})"
        return PrepareError(f"{self.commit.short}: {said}")


def prepare(
    source: ProjectFolder | Checkout,
    home: Path,
    *,
    analysed: bool = True,
    check: Validate = lambda _: None,
    say: Say = lambda _: None,
) -> Revision:
    """The revision of ``source`` in the folder ``home``, prepared unless it is there.

    Args:
        analysed: with fingerprints.
        check: raises if nothing could be made of the revision.
        say: told what is going on.

    Raises:
        PrepareError: the packages cannot be installed, the project does not parse, or does not
            keep still.
    """
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / LOCK):
        for _ in range(_TRIES):
            files = source.files()
            revision = kept.find(home, files, source.target_of) or _prepare(
                source, files, home, analysed=analysed, check=check, say=say
            )
            if revision:
                os.utime(revision.directory)
                return revision
    raise PrepareError(
        f"{source.project_path}: files changed each time while dbt parsed them, {_TRIES} times in"
        " a row. Find what writes them, and reload the code location"
    )


def _prepare(
    source: ProjectFolder | Checkout,
    files: str,
    home: Path,
    *,
    analysed: bool,
    check: Validate,
    say: Say,
) -> Revision | None:
    """A new revision; None if the source has other files than ``files`` by now."""
    previous = kept.revisions_in(home)
    with scratch_in(home, PREPARING) as scratch:
        project_dir = scratch / kept.FILES / source.project_path
        target = source.target_of(project_dir)
        try:
            packages = source.provide(target, scratch / kept.FILES, previous, say)
            say("parsing")
            made = parse.parse_into(target, scratch, parse.seed_of(target, previous))
            if analysed:
                say("analysing")
                analyse(made, target, home)
            check(made)
            # A file saved meanwhile: what was parsed is neither the old project nor the new.
            if source.files() != files:
                return None
            kept.write_record(scratch, source.project_path, source.commit, packages)
            folder = home / f"{files}-{stamp_of(target, made.facts)}"
            shutil.rmtree(folder, ignore_errors=True)
            scratch.rename(folder)
        except Exception as error:
            if isinstance(source, ProjectFolder):
                raise
            # It must not take the other commits with it.
            raise source.fault(error, project_dir) from error
    revision = kept.read_revision(folder)
    assert revision is not None
    return replace(revision, parsed=made.parsed)
