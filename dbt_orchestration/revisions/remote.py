"""The remote that an environment follows: its branch, its commits, and their files.

Commits are fetched one at a time into a bare repository of ours, so that neither the size of the
remote's history nor a force-push matters. Credentials reach git through its environment: they stand
in no URL, on no command line and in no file.
"""

from __future__ import annotations

import base64
import hashlib
import shutil
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from filelock import FileLock

from dbt_orchestration.dbt.parse import Commit
from dbt_orchestration.revisions.addresses import (
    commit_page,
    host_of,
    ticket_in,
    transport_of,
)
from dbt_orchestration.revisions.git import (
    GitError,
    Repository,
    check_out,
    refuse_links,
    run_git,
)
from dbt_orchestration.settings.models import Git, Settings
from dbt_orchestration.settings.types import is_folder

_LOOK_SECONDS, _FETCH_SECONDS, _HISTORY_SECONDS = 20.0, 600.0, 20.0
# How many commits are looked through for the one that changed a file.
_DEEP = 500
# A message has any characters but NUL, which stands between the fields, and with -z after each
# commit.
_COMMIT = ("-z", "--format=%H%x00%an <%ae>%x00%s%x00%cI%x00%b")
_FIELDS = 5
_REFUSED = ("authentication failed", "permission denied", "could not read", "access denied")


class Remote:
    """A git remote.

    Args:
        transports: those that git may use, in the words of its GIT_ALLOW_PROTOCOL; the URL's own
            if none are given.
        anonymous: without any credentials, also without those that this machine has for git.

    Attributes:
        project_path: where dbt_project.yml lies in it.
    """

    def __init__(
        self,
        url: str,
        project_path: str,
        git: Git,
        home: Path,
        *,
        transports: Collection[str] = (),
        anonymous: bool = False,
    ) -> None:
        self.project_path = project_path
        self._url = url
        self._git = git
        self._transports = transports or (transport_of(url),)
        self._anonymous = anonymous
        self._mirror = home / hashlib.sha256(url.encode()).hexdigest()[:16]
        self._history = self._mirror.with_suffix(".history")
        self._home = home

    @classmethod
    def of(cls, settings: Settings) -> Remote:
        """The remote of an installation.

        Raises:
            GitError: none is set, and the project lies in no repository.
        """
        git, home = settings.git, settings.state_dir / "git"
        if git.remote:
            return cls(git.remote, git.project_path or ".", git, home)
        root = Repository.around(settings.project_dir).root
        inside = settings.project_dir.resolve().relative_to(root.resolve())
        return cls(str(root), git.project_path or str(inside), git, home)

    @property
    def url(self) -> str:
        """The remote, to be shown."""
        return self._url

    def head(self, branch: str, seconds: float = _LOOK_SECONDS) -> str | None:
        """The SHA that ``branch`` points to; None if there is no such branch.

        Args:
            seconds: how long the remote may take.

        Raises:
            GitError: the remote cannot be reached, or refuses.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        look = ("ls-remote", "--heads", "--", self._url, f"refs/heads/{branch}")
        line = self._run(self._home, *look, seconds=seconds)
        return line.split()[0] if line else None

    def fetch(self, branch: str) -> Commit:
        """Fetch the newest commit of ``branch``.

        Raises:
            GitError: the remote cannot be reached, refuses, or has no such branch.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._mirror}.lock"):
            if not (self._mirror / "HEAD").is_file():
                run_git(self._home, "init", "--quiet", "--bare", str(self._mirror))
            ours = f"refs/followed/{branch}"
            fetch = (
                "fetch", "--quiet", "--depth=1", "--no-tags", "--force",
                "--no-write-fetch-head", "--", self._url, f"+refs/heads/{branch}:{ours}",
            )  # fmt: skip
            try:
                self._run(self._mirror, *fetch)
            except GitError:
                if self.head(branch) is None:  # which raises, if the remote is at fault
                    raise
                # What is ours is at fault. A fetch that was killed leaves locks behind, and nobody
                # else's fetch is running.
                for left in self._mirror.rglob("*.lock"):
                    left.unlink(missing_ok=True)
                try:
                    self._run(self._mirror, *fetch)
                except GitError:  # a disk that was full leaves half a file
                    shutil.rmtree(self._mirror)
                    run_git(self._home, "init", "--quiet", "--bare", str(self._mirror))
                    self._run(self._mirror, *fetch)
        return self._read(branch, ours)

    def fetch_commit(self, branch: str, sha: str) -> Commit:
        """Fetch a commit that ``branch`` has, or had: ``recent`` has named it.

        Raises:
            GitError: the remote cannot be reached, or does not have it any more.
        """
        newest = self.fetch(branch)
        if newest.sha == sha:
            return newest
        fetch = ("fetch", "--quiet", "--no-tags", "--force", "--no-write-fetch-head")
        with FileLock(f"{self._mirror}.lock"):
            try:
                commit = f"+{sha}:refs/held/{branch}"
                self._run(self._mirror, *fetch, "--depth=1", "--", self._url, commit)
            except GitError:
                # Not every host serves a commit by its SHA.
                followed = f"+refs/heads/{branch}:refs/followed/{branch}"
                self._run(self._mirror, *fetch, f"--depth={_DEEP}", "--", self._url, followed)
        try:
            return self._read(branch, sha)
        except GitError:
            raise GitError(f"{self._url} has no commit {sha[:10]} in {branch} any more") from None

    def known(self, branch: str, sha: str) -> Commit:
        """A commit that ``head`` has named; with nothing but its SHA if it was never fetched."""
        try:
            return self._read(branch, sha)
        except GitError:
            return Commit(sha, branch, "somebody", "", "", commit_page(self._url, sha))

    def fetch_history(self, commit: Commit) -> None:
        """Fetch the commits before ``commit``, for ``last_change``, beside what is built from.

        That takes no files, where the host can leave them out, and nothing the second time.

        Raises:
            GitError: the remote cannot be reached, refuses, or takes too long.
        """
        self._home.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._history}.lock"):
            if not (self._history / "HEAD").is_file():
                run_git(self._home, "init", "--quiet", "--bare", str(self._history))
            followed = f"refs/followed/{commit.branch}"
            newest = run_git(self._history, "for-each-ref", "--format=%(objectname)", followed)
            if newest == commit.sha:
                return
            fetch = (
                "fetch", "--quiet", f"--depth={_DEEP}", "--filter=blob:none", "--no-tags",
                "--force", "--no-write-fetch-head", "--", self._url,
                f"+refs/heads/{commit.branch}:{followed}",
            )  # fmt: skip
            self._run(self._history, *fetch, seconds=_HISTORY_SECONDS)

    def last_change(self, commit: Commit, *paths: str) -> Commit | None:
        """The last commit up to ``commit`` that changed one of the files; None if not known.

        Args:
            paths: in the repository.

        Raises:
            GitError: the commit was not fetched.
        """
        look = ("--literal-pathspecs", "log", "-1", *_COMMIT, commit.sha, "--", *paths)
        said = run_git(self._history, *look, seconds=_HISTORY_SECONDS)
        oldest = self._history / "shallow"
        known = next(self._commits(commit.branch, said), None)
        # The oldest commit that was fetched seems to have made all files.
        if known and oldest.is_file() and known.sha in oldest.read_text().split():
            return None
        return known

    def recent(self, newest: Commit) -> Sequence[Commit]:
        """The commits that a branch has, the newest first, back to the oldest that is looked at.

        Args:
            newest: of the branch, as ``fetch`` gives it.

        Raises:
            GitError: as ``fetch_history``.
        """
        self.fetch_history(newest)
        said = run_git(self._history, "log", f"-{_DEEP}", *_COMMIT, newest.sha)
        return [*self._commits(newest.branch, said)]

    def _read(self, branch: str, name: str) -> Commit:
        return next(self._commits(branch, run_git(self._mirror, "log", "-1", *_COMMIT, name)))

    def _commits(self, branch: str, said: str) -> Iterator[Commit]:
        fields = iter(said.split("\0"))
        for sha, author, subject, at, body in zip(*[fields] * _FIELDS, strict=False):
            page, ticket = commit_page(self._url, sha), ticket_in(f"{subject}\n{body}", self._git)
            yield Commit(sha, branch, author, subject, at, page, *ticket, body)

    def checkout(self, sha: str, folder: Path) -> None:
        """Write the files of a fetched commit into ``folder``, which is empty.

        Raises:
            GitError: a submodule cannot be fetched, or a link leads out of the checkout.
        """
        check_out(self._mirror, sha, folder)
        modules = folder / ".gitmodules"
        if not (self._git.submodules and modules.is_file()):
            return
        read = ("config", "--file", str(modules))
        for line in run_git(folder, *read, "--get-regexp", r"^submodule\..*\.path$").splitlines():
            key, path = line.split(" ", 1)
            try:
                url = run_git(folder, *read, "--get", f"{key.removesuffix('.path')}.url")
                pinned = run_git(self._mirror, "rev-parse", f"{sha}:{path}")
                self._module(url).check_out_exactly(pinned, folder / path)
            except GitError as error:
                raise GitError(f"submodule {path}: {error}") from None
        refuse_links(folder)  # again: some may lead through those of a submodule

    def check_out_exactly(self, sha: str, folder: Path) -> None:
        """Fetch one commit by its SHA, and write its files into ``folder``."""
        self._home.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{self._mirror}.lock"):
            if not (self._mirror / "HEAD").is_file():
                run_git(self._home, "init", "--quiet", "--bare", str(self._mirror))
            fetch = ("fetch", "--quiet", "--no-tags")
            try:
                self._run(self._mirror, *fetch, "--depth=1", "--", self._url, sha)
            except GitError:
                # Not every host serves a commit by its SHA.
                self._run(self._mirror, *fetch, "--", self._url, "+refs/heads/*:refs/all/*")
        self.checkout(sha, folder)

    def _module(self, url: str) -> Remote:
        if url.startswith(("./", "../")):
            parts = self._url.rstrip("/").split("/")
            while url.startswith(("./", "../")):
                step, _, url = url.partition("/")
                parts = parts[:-1] if step == ".." else parts
            url = "/".join([*parts, url])
        # Whoever may commit chooses the URL: it reaches no other repository of this machine, and
        # gets no credentials but those for the same host by the same transport.
        same, local = host_of(url) == host_of(self._url), transport_of(self._url) == "file"
        anonymous = self._anonymous or not (same or local)
        transports = ["https", *([] if anonymous else ["ssh"]), *(["file"] if local else [])]
        git = self._git if same else Git(submodules=True)
        return Remote(url, ".", git, self._home, transports=transports, anonymous=anonymous)

    def _run(self, folder: Path, *arguments: str, seconds: float = _FETCH_SECONDS) -> str:
        what = f"git {arguments[0]} {self._url}"
        try:
            extra = {"GIT_ALLOW_PROTOCOL": ":".join(self._transports), **self._credentials()}
            return run_git(folder, *arguments, what=what, extra=extra, seconds=seconds)
        except GitError as error:
            said = " ".join(str(error).split())
            raise GitError(said + self._hint(said)) from None

    def _hint(self, said: str) -> str:
        """What to do about what git said; "" if that is not known."""
        if not any(word in said.lower() for word in _REFUSED):
            return ""
        if not is_folder(self._url.removeprefix("file://")):
            key = "git.token" if self._url.startswith(("https://", "http://")) else "git.ssh_key"
            return f": check {key} (docs/settings.md)"
        if Path(self._url.removeprefix("file://")).is_dir():
            return ": check that the folder is a git repository and may be read"
        return ": there is no such folder: check git.remote"

    def _credentials(self) -> Mapping[str, str]:
        if self._anonymous:
            return {
                "HOME": str(self._home),  # a .netrc
                "GIT_ASKPASS": "",
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": "credential.helper",
                "GIT_CONFIG_VALUE_0": "",
            }
        git = self._git
        variables: dict[str, str] = {}
        if git.ssh_key:
            options = ["-o IdentitiesOnly=yes", "-o BatchMode=yes"]
            if git.known_hosts:
                options += ["-o StrictHostKeyChecking=yes"]
                options += [f"-o UserKnownHostsFile='{git.known_hosts}'"]
            else:
                options += ["-o StrictHostKeyChecking=accept-new"]
            variables["GIT_SSH_COMMAND"] = f"ssh -i '{git.ssh_key}' {' '.join(options)}"
        if git.token and transport_of(self._url) == "https":
            pair = f"{git.username}:{git.token.get_secret_value()}"
            header = base64.b64encode(pair.encode()).decode()
            address = urlsplit(self._url)
            variables |= {
                "GIT_CONFIG_COUNT": "1",
                "GIT_CONFIG_KEY_0": f"http.{address.scheme}://{address.netloc}/.extraHeader",
                "GIT_CONFIG_VALUE_0": f"Authorization: Basic {header}",
            }
        return variables
