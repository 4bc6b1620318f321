"""Git, as far as comparing two commits needs it. Nothing here touches the caller's working tree."""

from __future__ import annotations

import filecmp
import os
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from dbt_orchestration.dbt.scratch import (
    LOCK,
    PREPARING,
    forget_folders,
    scratch_in,
    whole_folders,
)

_LEAST_SHARED = 2**20
_DEFAULT_BRANCHES = ("origin/HEAD", "origin/main", "origin/master", "main", "master")


class GitError(RuntimeError):
    """Git refused. The message says what was asked and what git said."""


@dataclass(frozen=True)
class Repository:
    """The repository a folder belongs to; ``root`` is the top of its working tree."""

    root: Path

    @classmethod
    def around(cls, folder: Path) -> Repository:
        """Raises:
        GitError: ``folder`` is in no git repository.
        """
        root = run_git(folder, "rev-parse", "--show-toplevel", what=f"the repository of {folder}")
        return cls(Path(root))

    def commit(self, revision: str) -> str:
        """The full SHA that ``revision`` (a branch, a tag, ``HEAD~2``, a short SHA) means.

        Raises:
            GitError: there is no such commit.
        """
        what = f"there is no commit {revision} in {self.root}"
        return run_git(
            self.root, "rev-parse", "--verify", "--quiet", "--end-of-options",
            f"{revision}^{{commit}}", what=what,
        )  # fmt: skip

    def merge_base(self, head: str = "HEAD") -> str:
        """Where ``head`` left the branch it is meant for: its upstream, or the default branch.

        Raises:
            GitError: there is neither.
        """
        for branch in ("@{upstream}", *_DEFAULT_BRANCHES):
            try:
                return run_git(self.root, "merge-base", self.commit(branch), self.commit(head))
            except GitError:
                continue
        raise GitError(
            f"{self.root} has no upstream branch to compare with: name a commit with --base"
        )

    def checkout(self, commit: str, home: Path) -> Path:
        """The files of ``commit``, in a folder under ``home`` that is whole or not there."""
        folder = home / commit
        if not folder.is_dir():
            home.mkdir(parents=True, exist_ok=True)
            with FileLock(home / LOCK), scratch_in(home, PREPARING) as scratch:
                files = scratch / "files"
                check_out(self._git_dir, commit, files)
                for earlier in whole_folders(home)[:1]:
                    share_large_files(files, earlier)
                if not folder.is_dir():
                    files.rename(folder)
        os.utime(folder)
        forget_folders(home)
        return folder

    @property
    def _git_dir(self) -> Path:
        return Path(run_git(self.root, "rev-parse", "--absolute-git-dir"))


def check_out(git_dir: Path, commit: str, folder: Path) -> None:
    """Write the files of a commit into ``folder``, which is empty or not there.

    Raises:
        GitError: git refused, or one of the files is a link to somewhere else.
    """
    folder.mkdir(parents=True, exist_ok=True)
    place = ("--git-dir", str(git_dir), "--work-tree", str(folder))
    index = {"GIT_INDEX_FILE": f"{folder}.index"}
    try:
        run_git(folder, *place, "read-tree", commit, extra=index)
        run_git(folder, *place, "checkout-index", "--all", "--force", extra=index)
    finally:
        Path(index["GIT_INDEX_FILE"]).unlink(missing_ok=True)
    refuse_links(folder)


def share_large_files(folder: Path, earlier: Path) -> None:
    """Keep each large file that two checkouts have once on the disk; nobody writes to a checkout.

    Args:
        folder: the checkout whose files become links.
        earlier: a checkout on the same file system.
    """
    for place, _, names in os.walk(folder):
        for path in (Path(place) / name for name in names):
            same = earlier / path.relative_to(folder)
            if _is_large(path) and _is_large(same) and filecmp.cmp(path, same, shallow=False):
                link = path.with_name(f"{path.name}.shared")
                with suppress(OSError):  # a file system that knows no links
                    link.hardlink_to(same)
                    link.replace(path)


def _is_large(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size >= _LEAST_SHARED


def refuse_links(folder: Path) -> None:
    """Raises:
    GitError: a symbolic link in ``folder`` leads out of it. dbt would read, or write, through it.
    """
    inside = os.path.realpath(folder)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            real = os.path.realpath(path) if os.path.islink(path) else inside
            if os.path.commonpath((real, inside)) != inside:
                raise GitError(
                    f"{os.path.relpath(path, folder)} is a symbolic link to {os.readlink(path)},"
                    " which is outside the repository: commit what it leads to"
                )


def run_git(
    folder: Path,
    *arguments: str,
    what: str = "",
    extra: Mapping[str, str] | None = None,
    seconds: float | None = None,
) -> str:
    """What a git command prints.

    Args:
        what: what is being done, for the message if it fails.
        extra: environment variables.
        seconds: how long it may take.

    Raises:
        GitError: git refused, or is not there.
    """
    if not folder.is_dir():
        raise GitError(f"there is no folder {folder}")
    inherited = {k: v for k, v in os.environ.items() if k not in ("GIT_DIR", "GIT_WORK_TREE")}
    try:
        done = subprocess.run(
            ["git", *arguments],
            cwd=folder,
            env={**inherited, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C", **(extra or {})},
            capture_output=True,
            encoding="utf-8",
            errors="replace",  # an old message may have bytes of another encoding
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired:
        raise GitError(f"{what or arguments[0]}: no answer in {seconds:.0f} s") from None
    except FileNotFoundError:
        raise GitError("git is not installed") from None
    if done.returncode:
        said = done.stderr.strip().removeprefix("fatal: ")
        command = what or f"git {' '.join(arguments)}"
        raise GitError(f"{command}: {said}" if said else command)
    return done.stdout.strip()
