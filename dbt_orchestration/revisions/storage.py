"""Dagster's storage of states, a folder or a bucket: what it is asked, and what it fails with.

A bucket can be away, refuse, or not be there, and each kind of bucket has errors of its own. Here
each becomes one line that says what, where, and what to do.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import TypeVar

from dbt_orchestration import dagster_internals

T = TypeVar("T")

_REFUSED = ("credential", "denied", "forbidden", "signature")


class StorageError(RuntimeError):
    """The storage cannot do what it was asked. One line."""


def store(
    storage: dagster_internals.StateStorage,
    key: str,
    version: str,
    archive: Path,
    seconds: float | None = None,
) -> None:
    """Upload a version, which is not the latest by that.

    Args:
        seconds: how long the storage may take; None for as long as it tries.

    Raises:
        StorageError: it cannot be reached, is not there, refuses, or takes too long.
    """

    def upload() -> None:
        dagster_internals.upload_state(storage, key, version, archive)

    _ask(storage, upload, f"revision {version} cannot be stored", seconds)


def fetch(
    storage: dagster_internals.StateStorage,
    key: str,
    version: str,
    archive: Path,
    seconds: float | None = None,
) -> bool:
    """Download a version; whether it is there.

    Raises:
        StorageError: as ``store``.
    """
    dagster_internals.forget_listings(storage)

    def download() -> bool:
        try:
            storage.download_state_to_path(key, version, archive)
        except (ValueError, FileNotFoundError):  # which is how Dagster says that it is not there
            return False
        return True

    return _ask(storage, download, f"revision {version} cannot be fetched", seconds)


def is_stored(
    storage: dagster_internals.StateStorage, key: str, version: str, seconds: float | None = None
) -> bool:
    """Whether a version is there; True if this kind of storage does not tell.

    Raises:
        StorageError: as ``store``.
    """
    dagster_internals.forget_listings(storage)

    def look() -> bool:
        return dagster_internals.has_state(storage, key, version)

    return _ask(storage, look, f"revision {version} cannot be looked for", seconds)


def forget(
    storage: dagster_internals.StateStorage,
    key: str,
    choose: Callable[[Sequence[str]], Sequence[str]],
    seconds: float | None = None,
) -> None:
    """Remove versions, whichever machine has stored them.

    Args:
        choose: which go, of those that are there, the one stored last first.

    Raises:
        StorageError: as ``store``.
    """
    dagster_internals.forget_listings(storage)

    def remove() -> None:
        for version in choose(dagster_internals.stored_versions(storage, key)):
            dagster_internals.delete_state(storage, key, version)

    _ask(storage, remove, f"old revisions of {key} cannot be removed", seconds)


def _ask(
    storage: dagster_internals.StateStorage,
    question: Callable[[], T],
    failed: str,
    seconds: float | None,
) -> T:
    """What the storage answers. One that does not answer in time may still do it, later."""
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(question())
        except Exception as error:
            answer.set_exception(error)

    if seconds is None:
        work()
    else:
        threading.Thread(target=work, daemon=True).start()
    where = dagster_internals.place_of(storage)
    try:
        return answer.result(seconds)
    except Exception as error:
        late = isinstance(error, TimeoutError) and not answer.done()
        said = f"no answer within {seconds:.0f} s" if late else _words(error)
        raise StorageError(f"{failed} in {where}: {said}. {_remedy(error)}") from None


def _words(error: Exception) -> str:
    said = " ".join(str(error).split()).rstrip(".")
    return said or type(error).__name__


def _remedy(error: Exception) -> str:
    said = str(error).lower()
    if isinstance(error, PermissionError) or any(word in said for word in _REFUSED):
        return (
            "Let this machine's role, or the credentials in its environment, read and write there"
        )
    if isinstance(error, FileNotFoundError):
        return "Make the bucket, or correct base_path of defs_state_storage in dagster.yaml"
    return "Check that it can be reached from this machine, and has room"
