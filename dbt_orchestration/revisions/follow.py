"""Prepare the newest commit of a branch in a process of its own, so that no sensor tick waits long.

dbt parses in globals of its process and takes seconds; a tick has a time limit. The process holds a
lock while it works, and leaves a revision, or a note of what went wrong.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import orjson
from filelock import FileLock, Timeout

from dbt_orchestration.revisions.commits import find_commit, prepare_newest, revisions_home
from dbt_orchestration.revisions.explain import Recorded, explain
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.parse import PrepareError, Revision
from dbt_orchestration.settings import REPOSITORY, Settings

# After this time a commit that could not be prepared is tried again: what was wrong may not be its
# fault.
_RETRY_SECONDS = 300
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class Follower:
    """Prepares commits of one environment's branch, one at a time."""

    settings: Settings
    environment: str

    def prepare(self, sha: str, recorded: Collection[Recorded], seconds: float) -> bool:
        """Prepare and explain the commit ``sha``, waiting for it at most ``seconds``.

        Args:
            recorded: fingerprints that its nodes were built with.

        Returns:
            Whether it has ended; ``find_commit`` and ``problem`` say how.
        """
        deadline = time.monotonic() + seconds
        process = None
        while time.monotonic() < deadline:
            if process is None:
                # Whoever holds the lock may prepare something else, or be dying.
                process = None if self._is_working() else self._start(sha, recorded)
            elif (code := process.poll()) is not None:
                if code and not self.problem(sha):
                    self._note(sha, f"preparing it ended with exit status {code}: see {self._log}")
                return True
            time.sleep(_POLL_SECONDS)
        return False

    def problem(self, sha: str) -> str:
        """Why the commit could not be prepared a short while ago; "" if nothing is known."""
        try:
            failed = orjson.loads(self._failed.read_bytes())
        except (OSError, orjson.JSONDecodeError):
            return ""
        if failed["sha"] != sha or time.time() - failed["at"] > _RETRY_SECONDS:
            return ""
        return str(failed["message"])

    def work(self, sha: str, recorded: Collection[Recorded]) -> int:
        """Prepare and explain, in this process. Returns its exit status."""
        self._home.mkdir(parents=True, exist_ok=True)
        with FileLock(self._lock):
            try:
                revision = find_commit(self.settings, self.environment, sha)
                revision = revision or prepare_newest(
                    self.settings, self.environment, _log, self._check
                )
                _log("explaining")
                explain(self.settings, self.environment, revision, recorded)
                _log("done")
            except (PrepareError, GitError, OSError) as error:
                self._note(sha, str(error))
                return 1
            self._failed.unlink(missing_ok=True)
        return 0

    def _check(self, revision: Revision) -> None:
        from dbt_orchestration.definitions import check_revision

        check_revision(self.settings, self.environment, revision)

    def _start(self, sha: str, recorded: Collection[Recorded]) -> subprocess.Popen[bytes]:
        self._home.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", __name__],
                cwd=REPOSITORY,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        assert process.stdin is not None
        # Through a pipe: the settings hold the token.
        process.stdin.write(pickle.dumps((self, sha, set(recorded))))
        process.stdin.close()
        return process

    def _is_working(self) -> bool:
        try:
            with FileLock(self._lock, timeout=0):
                return False
        except Timeout:
            return True
        except FileNotFoundError:
            return False

    def _note(self, sha: str, message: str) -> None:
        content = {"sha": sha, "message": " ".join(message.split()), "at": time.time()}
        scratch = self._failed.with_suffix(".new")
        scratch.write_bytes(orjson.dumps(content))
        scratch.rename(self._failed)

    @property
    def _home(self) -> Path:
        return revisions_home(self.settings, self.environment)

    @property
    def _lock(self) -> Path:
        return self._home / "follow.lock"

    @property
    def _failed(self) -> Path:
        return self._home / "failed.json"

    @property
    def _log(self) -> Path:
        return self._home / "follow.log"


def _log(doing: str) -> None:
    print(f"{time.time():.3f} {doing}", flush=True)


if __name__ == "__main__":
    # The class by its real name, not that of this process's main module.
    follower, wanted, known = pickle.load(sys.stdin.buffer)
    sys.exit(follower.work(wanted, known))
