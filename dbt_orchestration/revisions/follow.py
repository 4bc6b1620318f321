"""Prepare a commit of a branch in a process of its own, so that no sensor tick waits long.

dbt parses in globals of its process and takes seconds; a tick has a time limit. The process holds a
lock while it works, and leaves a revision, or a note of what went wrong.
"""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from filelock import FileLock, Timeout

from dbt_orchestration.changes.terms import digest_value
from dbt_orchestration.dbt.invocation import DbtError, DbtTarget
from dbt_orchestration.dbt.parse import PrepareError, Revision
from dbt_orchestration.dbt.scratch import write_whole
from dbt_orchestration.revisions.commits import find_commit, prepare_commit
from dbt_orchestration.revisions.disk import full_disk
from dbt_orchestration.revisions.explanation import Recorded, explain
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.kept import revisions_home
from dbt_orchestration.revisions.warehouse import Seen, as_it_says, look_without_waiting
from dbt_orchestration.settings.models import Settings

# After this time a commit that could not be prepared is tried again: what was wrong may not be its
# fault.
_RETRY_SECONDS = 300
_POLL_SECONDS = 0.1
# A process that is killed each time, for want of memory, is not to be started for ever.
_MOST_DEATHS = 3
# What ``_log`` writes.
_DOING = re.compile(r"^\d+\.\d{3} (.+)$", re.MULTILINE)

# The command that does the work: it loads definitions, of which this module knows nothing.
PREPARER = "dbt_orchestration.prepare"
Validate = Callable[[Settings, str, Revision], None]


@dataclass(frozen=True)
class Follower:
    """Prepares commits of one environment's branch, one at a time.

    Attributes:
        place: in Dagster's event log, at which it was read what was built.
        look: look into the warehouse, also for a commit that was prepared before.
        checks: find out whether a code location can be made of a commit.
        held: the commit is prepared, whatever is the branch's newest by then.
    """

    settings: Settings
    environment: str
    place: int = 0
    look: bool = False
    checks: bool = True
    held: bool = False

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
            # Whoever holds the lock may prepare something else, or be dying.
            if process is None and not self._is_working():
                if not self._begin(sha):
                    return True
                process = self._start(sha, recorded)
            elif process and (code := process.poll()) is not None:
                if code >= 0:
                    if code and not self.problem(sha):
                        said = f"preparing it ended with exit status {code}: see {self._log}"
                        self._note(sha, full_disk(self.settings) or said)
                    return True
                process = None  # killed, which says nothing about the commit
            time.sleep(_POLL_SECONDS)
        return False

    @property
    def doing(self) -> str:
        """What the process that works does just now: " (parsing)"; "" if that is not known."""
        try:
            said = _DOING.findall(self._log.read_text(errors="replace"))
        except FileNotFoundError:
            return ""
        return f" ({said[-1]})" if said else ""

    def problem(self, sha: str) -> str:
        """Why the commit could not be prepared a short while ago; "" if nothing is known.

        The message may have several lines.
        """
        failed = _read(self._failed)
        if failed.get("sha") != sha or time.time() - failed["at"] > _RETRY_SECONDS:
            return ""
        return str(failed["message"])

    def is_checked(self, revision: Revision) -> bool:
        """Whether the process has found that a code location can be made of a prepared commit.

        With these settings: others may have come since, and others may have prepared it.
        """
        return not self.checks or _read(self._checked) == self._proof(revision)

    def work(self, sha: str, recorded: Collection[Recorded], check: Validate) -> int:
        """Prepare and explain, in this process.

        Args:
            check: raises PrepareError where no code location could be made of a revision.

        Returns:
            The exit status of the process.
        """
        self._home.mkdir(parents=True, exist_ok=True)

        def validate(made: Revision) -> None:
            if self.checks:
                _log("checking")
                check(self.settings, self.environment, made)

        with FileLock(self._lock):
            try:
                known = find_commit(self.settings, self.environment, sha)
                if known and not self.is_checked(known):
                    validate(known)
                revision = known or prepare_commit(
                    self.settings, self.environment, sha if self.held else "", _log, validate
                )
                write_whole(self._checked, self._proof(revision))
                _log("explaining")
                explain(self.settings, self.environment, revision, recorded)
                if known is None or self.look:
                    _log("looking into the warehouse")
                    self._look(sha, revision, dict(recorded))
                _log("done")
            except (PrepareError, GitError, OSError) as error:
                self._note(sha, full_disk(self.settings) or str(error))
                return 1
            except Exception as error:
                self._note(sha, f"{type(error).__name__}: {error} (see {self._log})")
                raise
            finally:
                self._begun.unlink(missing_ok=True)
            self._failed.unlink(missing_ok=True)
        return 0

    def take_seen(self, sha: str) -> tuple[int, Mapping[str, Seen]]:
        """What was seen of the warehouse for a commit, by unique id; once.

        Comes with the place in the event log at which the warehouse was asked.
        """
        found = _read(self._seen)
        if found.get("sha") != sha:
            return 0, {}
        self._seen.unlink(missing_ok=True)
        return found["place"], {u: Seen(**each) for u, each in found["seen"].items()}

    def _look(self, sha: str, revision: Revision, recorded: Mapping[str, str]) -> None:
        settings, environment = self.settings, self.environment
        wanted = as_it_says(settings, environment, revision, recorded)
        try:
            target = DbtTarget.of(settings, environment, revision.project_dir)
            # Always the same folder: one that is killed leaves nothing that somebody has to remove.
            scratch = str(settings.state_dir / "target" / environment)
            seen = look_without_waiting(target, revision, wanted, scratch)
        except DbtError as error:
            _log(f"not seen: {error}")
            return
        if seen:
            write_whole(self._seen, {"sha": sha, "place": self.place, "seen": seen})

    def _proof(self, revision: Revision) -> dict[str, str]:
        said = self.settings.platform.model_dump(mode="json")
        return {"digest": revision.digest, "settings": digest_value(said)}

    def _start(self, sha: str, recorded: Collection[Recorded]) -> subprocess.Popen[bytes]:
        self._home.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", PREPARER],
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

    def _begin(self, sha: str) -> bool:
        """Whether to start a process, rather than to say that they are all killed."""
        begun = _read(self._begun)
        times = begun["times"] if begun.get("sha") == sha else 0
        if times < _MOST_DEATHS:
            with suppress(OSError):  # a disk that is full
                write_whole(self._begun, {"sha": sha, "times": times + 1})
            return True
        said = f"the process that prepares it was killed {times} times, perhaps for want of memory"
        self._note(sha, f"{said}: see {self._log}")
        self._begun.unlink(missing_ok=True)
        return False

    def _is_working(self) -> bool:
        try:
            with FileLock(self._lock, timeout=0):
                return False
        except Timeout:
            return True
        except FileNotFoundError:
            return False

    def _note(self, sha: str, message: str) -> None:
        content = {"sha": sha, "message": message, "at": time.time()}
        with suppress(OSError):  # a disk that is full: a tick says so
            write_whole(self._failed, content)

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
    def _checked(self) -> Path:
        """The commit that was checked last, and with which settings."""
        return self._home / "checked.json"

    @property
    def _seen(self) -> Path:
        return self._home / "seen.json"

    @property
    def _begun(self) -> Path:
        """How many processes were started for a commit, and have not ended by themselves."""
        return self._home / "begun.json"

    @property
    def _log(self) -> Path:
        return self._home / "follow.log"


def _read(path: Path) -> dict[str, Any]:
    """What ``write_whole`` has written; nothing if it is not there, or cannot be read."""
    try:
        content = orjson.loads(path.read_bytes())
    except (OSError, orjson.JSONDecodeError):
        return {}
    return content if isinstance(content, dict) else {}


def _log(doing: str) -> None:
    print(f"{time.time():.3f} {doing}", flush=True)
