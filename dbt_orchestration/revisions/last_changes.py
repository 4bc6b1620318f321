"""Who changed files of a commit last."""

from __future__ import annotations

from functools import cache, cached_property
from pathlib import PurePosixPath

from dbt_orchestration.dbt.parse import Commit, Revision
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.settings.models import Settings


class LastChanges:
    """Who changed the files of a revision last.

    What is built from is fetched without history. The remote is asked for it once, when somebody
    wants to know, and for a limited time.
    """

    def __init__(self, settings: Settings, revision: Revision) -> None:
        self._settings = settings
        self._revision = revision
        self.of = cache(self._of)

    @cached_property
    def _remote(self) -> Remote | None:
        if self._revision.commit is None:
            return None
        try:
            remote = Remote.of(self._settings)
            remote.fetch_history(self._revision.commit)
        except GitError:
            return None
        return remote

    def _of(self, *paths: str) -> Commit | None:
        """The last commit that changed one of these files of the project.

        None if that is not known.
        """
        if not paths or not (commit := self._revision.commit) or not (remote := self._remote):
            return None
        files = [str(PurePosixPath(remote.project_path, path)) for path in paths]
        try:
            return remote.last_change(commit, *files)
        except GitError:
            return None
