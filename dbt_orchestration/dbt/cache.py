"""What was computed from content, kept by the digest of that content, in one SQLite file."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

_SLICE = 500
# Entries no command asked for in this many days are dropped.
_DAYS = 30
_BUSY_SECONDS = 60.0
# The last one says that the table has other columns: another version of this package made it.
_BROKEN = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR})


class Cache:
    """A mapping on disk from digests to values, which several processes use.

    A file that cannot be read is replaced by an empty one. A file that another process does not
    release, and a disk that is full, cost speed and nothing else.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values that are there."""
        wanted = sorted(set(keys))
        found: dict[str, Any] = {}
        with self._as_far_as_possible(), closing(self._connect()) as connection, connection:
            for start in range(0, len(wanted), _SLICE):
                part = wanted[start : start + _SLICE]
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    f"select key, value from entries where key in ({marks})", part
                )
                found.update({key: pickle.loads(value) for key, value in rows})
                connection.execute(
                    f"update entries set used = unixepoch() where key in ({marks})", part
                )
        return found

    def put(self, values: Mapping[str, Any]) -> None:
        """Keep ``values``."""
        if not values:
            return
        rows = [(key, pickle.dumps(value, protocol=5)) for key, value in values.items()]
        with self._as_far_as_possible(), closing(self._connect()) as connection, connection:
            connection.executemany(
                "insert or replace into entries values (?, ?, unixepoch())", rows
            )
            connection.execute(
                "delete from entries where used < unixepoch() - ?", (_DAYS * 86_400,)
            )

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS)
        connection.execute(
            "create table if not exists entries (key text primary key, value blob, used integer)"
        )
        return connection

    @contextmanager
    def _as_far_as_possible(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF in _BROKEN:
                self._path.unlink(missing_ok=True)
        except OSError:
            pass
        except Exception:  # a value that another version of this package has written
            self._path.unlink(missing_ok=True)
