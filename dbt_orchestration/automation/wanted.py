"""The commit that an environment is to be: the newest of its branch, or the one it is held at.

It is prepared and loaded. One that cannot be leaves the environment as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from dbt_orchestration import dagster_internals
from dbt_orchestration.automation.outcome import Outcome
from dbt_orchestration.automation.tick import Tick, title
from dbt_orchestration.dbt.parse import PrepareError, Revision
from dbt_orchestration.ledger.held import end
from dbt_orchestration.ledger.present import place_in_the_log
from dbt_orchestration.ledger.pushes import can_be_built, cannot_be_built, cannot_be_seen
from dbt_orchestration.revisions.commits import find_commit, is_current
from dbt_orchestration.revisions.current import used_by
from dbt_orchestration.revisions.disk import full_disk
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.revisions.storage import StorageError
from dbt_orchestration.revisions.store import (
    forget_old,
    open_commit,
    publish,
    publish_again,
    published,
)

_LOOK_SECONDS = 20.0
# Publishing a commit cannot be cut short, and is not begun with less.
_LOAD_SECONDS = 25.0
_STORE_SECONDS, _FORGET_SECONDS = 15.0, 5.0


@dataclass(frozen=True)
class Wanted:
    """The commit that a tick of the push sensor looks for, prepares and loads.

    Attributes:
        refusal: says why a prepared commit cannot be loaded; "" if it can be. None if the process
            that prepares it finds that out.
    """

    tick: Tick
    refusal: Callable[[Revision], str] | None

    def look(self) -> bool:
        """Look for the commit, and have it prepared and loaded; whether that goes on.

        If it does not, what is loaded stays.
        """
        tick, sha = self.tick, self._sha()
        if sha and not self._is_loaded(sha) and self._load(sha):
            return True
        loaded = tick.loaded
        if loaded and loaded.commit and sha and self._is_loaded(sha):
            if tick.is_news("good", sha):
                tick.events.append(can_be_built(tick.environment, loaded.commit))
            self._store(loaded, publish_again)
        return False

    def _sha(self) -> str | None:
        hold = self.tick.hold
        if hold is None:
            return self._newest()
        # A branch that cannot be seen was not pushed to, as far as anybody knows.
        head = self._newest() if hold.until_next_push else None
        if head is None or head == hold.head:
            return hold.sha
        end(self.tick.context.instance, hold, head)
        self.tick.hold = None
        return head

    def _newest(self) -> str | None:
        tick = self.tick
        try:
            remote = Remote.of(tick.settings)
            sha = remote.head(tick.branch, min(_LOOK_SECONDS, tick.left))
        except GitError as error:
            tick.find(Outcome.UNREACHABLE, branch=tick.branch, why=str(error))
            if tick.is_news("unreachable"):
                said = cannot_be_seen(tick.environment, tick.branch, str(error))
                tick.events.append(said)
            return None
        if sha is None:
            facts = {"branch": tick.branch, "environment": tick.environment}
            tick.find(Outcome.NO_BRANCH, remote=str(remote.url), **facts)
        return sha

    def _is_loaded(self, sha: str) -> bool:
        loaded = self.tick.loaded
        return bool(
            loaded
            and loaded.commit
            and loaded.commit.sha == sha
            and is_current(self.tick.settings, self.tick.environment, loaded)
        )

    def _load(self, sha: str) -> bool:
        """Whether ``sha`` is on its way; if not, what is loaded stays."""
        tick = self.tick
        settings, environment, instance = tick.settings, tick.environment, tick.context.instance
        storage = instance.defs_state_storage
        named = {"branch": tick.branch, "sha": sha[:10]}
        if storage is None:
            tick.find(Outcome.NO_STORAGE)
            return True
        revision, problem = self._ready(sha, storage), ""
        if revision is None and not (problem := tick.follower.problem(sha)):
            follower = replace(tick.follower, place=place_in_the_log(instance))
            if not tick.wait_for(follower, sha, tick.recorded()):
                tick.find(Outcome.PREPARING, **named, doing=follower.doing)
                return True
            revision = self._ready(sha, storage)
            problem = tick.follower.problem(sha) or full_disk(settings)
        if revision:
            problem = self.refusal(revision) if self.refusal else ""
        if problem:
            tick.find(Outcome.BROKEN, **named, why=" ".join(problem.split()))
            if tick.is_news("broken", sha, problem):
                commit = Remote.of(settings).known(tick.branch, sha)
                tick.events.append(cannot_be_built(environment, commit, problem))
            return False
        if revision is None:
            tick.find(Outcome.MOVED_ON, **named)
            return True
        if tick.left < _LOAD_SECONDS:
            tick.find(Outcome.PREPARED, commit=title(revision))
            return True
        return self._publish(sha, revision, storage)

    def _publish(
        self, sha: str, revision: Revision, storage: dagster_internals.StateStorage
    ) -> bool:
        """Whether every code server loads the revision from now on."""
        tick, environment = self.tick, self.tick.environment
        is_published = published(environment, storage) == revision.digest
        if not is_published and (problem := self._store(revision)):
            assert revision.commit is not None
            if tick.is_news("not stored", sha, problem):
                tick.events.append(cannot_be_built(environment, revision.commit, problem))
            return False
        in_use = used_by(tick.context.instance, environment)
        in_use |= {tick.loaded.digest} if tick.loaded else set()
        kept = forget_old(tick.settings, environment, in_use, storage, _FORGET_SECONDS)
        if kept:
            tick.context.log.warning(kept)
        dagster_internals.reload_code_location(tick.context, tick.left)
        tick.find(Outcome.LOADING, commit=title(revision))
        return True

    def _store(self, revision: Revision, how: Callable[..., None] = publish) -> str:
        """Have every machine find the revision; why that cannot be, or ""."""
        tick = self.tick
        storage, seconds = tick.context.instance.defs_state_storage, min(_STORE_SECONDS, tick.left)
        try:
            if storage:
                how(tick.environment, revision, storage, seconds)
        except StorageError as error:
            tick.find(Outcome.NOT_STORED, commit=title(revision), why=str(error))
            return str(error)
        return ""

    def _ready(self, sha: str, storage: dagster_internals.StateStorage) -> Revision | None:
        """The commit, if it is prepared and checked: whoever prepared it may not have checked."""
        revision = self._prepared(sha, storage)
        return revision if revision and self.tick.follower.is_checked(revision) else None

    def _prepared(self, sha: str, storage: dagster_internals.StateStorage) -> Revision | None:
        settings, environment = self.tick.settings, self.tick.environment
        if revision := find_commit(settings, environment, sha):
            return revision
        digest = published(environment, storage) or ""
        if not digest.startswith(sha):
            return None
        try:  # on another machine
            seconds = min(_STORE_SECONDS, self.tick.left)
            revision = open_commit(settings, environment, digest, storage, seconds)
        except PrepareError:
            return None
        return revision if is_current(settings, environment, revision) else None
