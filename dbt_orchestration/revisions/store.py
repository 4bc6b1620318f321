"""Publish revisions through Dagster's own state storage, and open them, on one machine or on many.

The newest published revision of an environment is what its code location loads; a run opens the one
it was launched with. A machine that does not have a revision downloads it.
"""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path

from filelock import FileLock

from dbt_orchestration import dagster_internals
from dbt_orchestration.dbt.parse import PrepareError, Revision
from dbt_orchestration.dbt.scratch import DOWNLOADING, forget_folders, scratch_in
from dbt_orchestration.revisions.kept import read_revision, revisions_home, working_tree_home
from dbt_orchestration.revisions.storage import (
    StorageError,
    fetch,
    forget,
    is_stored,
    store,
)
from dbt_orchestration.settings.models import Settings

_ATTEMPTS = 3


def state_key(environment: str) -> str:
    """The key of an environment's revisions in Dagster's state storage."""
    return f"dbt_orchestration/{environment}"


def published(environment: str, storage: dagster_internals.StateStorage | None) -> str | None:
    """The digest of the revision that the environment's code location loads."""
    return storage.get_latest_version(state_key(environment)) if storage else None


def followed(storage: dagster_internals.StateStorage | None) -> set[str]:
    """The environments of which a commit was published."""
    keys = storage.list_state_keys_with_prefix(state_key("")) if storage else ()
    return {key.removeprefix(state_key("")) for key in keys}


def publish(
    environment: str,
    revision: Revision,
    storage: dagster_internals.StateStorage,
    seconds: float | None = None,
) -> None:
    """Make ``revision`` the one that the environment's code location loads from now on.

    Args:
        seconds: how long the storage may take; None for as long as it tries.

    Raises:
        StorageError: it is not stored, and what was published before is still published.
    """
    upload(environment, revision, storage, seconds)
    storage.set_latest_version(state_key(environment), revision.digest)


def upload(
    environment: str,
    revision: Revision,
    storage: dagster_internals.StateStorage,
    seconds: float | None = None,
) -> None:
    """Let every machine have ``revision``, which is not the published one by that.

    Raises:
        StorageError: as ``publish``.
    """
    with tempfile.TemporaryDirectory() as folder:
        archive = Path(folder) / "revision.tar.gz"
        with tarfile.open(archive, "w:gz", compresslevel=3) as tar:
            tar.add(revision.directory, arcname=".")
        store(storage, state_key(environment), revision.digest, archive, seconds)


def publish_again(
    environment: str,
    revision: Revision,
    storage: dagster_internals.StateStorage,
    seconds: float | None = None,
) -> None:
    """Store the published ``revision`` again if it is not there: the bucket may be a new one.

    Raises:
        StorageError: as ``publish``.
    """
    if not is_stored(storage, state_key(environment), revision.digest, seconds):
        publish(environment, revision, storage, seconds)


def open_commit(
    settings: Settings,
    environment: str,
    digest: str,
    storage: dagster_internals.StateStorage | None,
    seconds: float | None = None,
) -> Revision:
    """A published revision, downloaded if it is not on this machine.

    Args:
        seconds: how long the storage may take; None for as long as it tries.

    Raises:
        PrepareError: it is nowhere any more, or cannot be fetched.
    """
    home = revisions_home(settings, environment)
    folder = home / digest
    home.mkdir(parents=True, exist_ok=True)
    with FileLock(home / "open.lock"):
        if read_revision(folder) is None:
            _download(environment, digest, folder, storage, seconds)
    os.utime(folder)
    revision = read_revision(folder)
    if revision is None or not revision.facts_path.is_file():
        raise PrepareError(f"revision {digest} is of an older version: the push sensor renews it")
    return revision


def _download(
    environment: str,
    digest: str,
    folder: Path,
    storage: dagster_internals.StateStorage | None,
    seconds: float | None,
) -> None:
    problem = "there is none"
    for _ in range(_ATTEMPTS if storage else 0):
        assert storage is not None
        with scratch_in(folder.parent, DOWNLOADING) as scratch:
            archive, files = scratch / "revision.tar.gz", scratch / "files"
            try:
                if not fetch(storage, state_key(environment), digest, archive, seconds):
                    problem = "it is not there"
                    continue
                with tarfile.open(archive) as tar:
                    tar.extractall(files, filter="tar")
            except StorageError as error:  # which has tried more than once
                raise PrepareError(f"{environment}: {error}") from None
            except (OSError, EOFError, tarfile.TarError) as error:
                problem = str(error)  # perhaps it is being written just now
                continue
            shutil.rmtree(folder, ignore_errors=True)  # what is not whole
            files.rename(folder)
            return
    where = f" ({dagster_internals.place_of(storage)})" if storage else ""
    raise PrepareError(
        f"{environment}: revision {digest} is not on this machine, and cannot be downloaded from"
        f" Dagster's defs_state_storage{where}: {problem}. Start the push sensor of {environment}:"
        " it prepares the branch again"
    )


def forget_old(
    settings: Settings,
    environment: str,
    in_use: Collection[str],
    storage: dagster_internals.StateStorage,
    seconds: float | None = None,
) -> str:
    """Remove all but the last revisions, the published one and those ``in_use`` (digests).

    They go here and in the storage, whichever machine has stored them. Commits and states of the
    working tree are counted apart, and so is what is in the storage.

    Args:
        seconds: as of ``open_commit``.

    Returns:
        Why those in the storage stay for now; "" if they do not. Nobody has to fail for that.
    """
    stay = {*in_use, published(environment, storage) or ""}
    for home in (revisions_home(settings, environment), working_tree_home(settings, environment)):
        forget_folders(home, settings.keep_revisions, stay)

    def old(versions: Sequence[str]) -> Sequence[str]:
        return [each for each in versions[settings.keep_revisions :] if each not in stay]

    try:
        forget(storage, state_key(environment), old, seconds)
    except StorageError as error:
        return str(error)
    return ""
