"""What was computed from content, kept by the digest of that content, in one SQLite file."""

from __future__ import annotations

import pickle
import sqlite3
from collections.abc import Iterable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

_SLICE = 500
# Entries no command asked for in this many days are dropped.
_DAYS = 30


class Cache:
    """A mapping on disk from digests to values. A file that cannot be read is an empty cache."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, keys: Iterable[str]) -> dict[str, Any]:
        """The values that are there."""
        wanted = sorted(set(keys))
        found: dict[str, Any] = {}
        try:
            with closing(self._connect()) as connection, connection:
                for start in range(0, len(wanted), _SLICE):
                    part = wanted[start : start + _SLICE]
                    marks = ",".join("?" * len(part))
                    rows = connection.execute(
                        f"select key, value from entries where key in ({marks})",
                        part,
                    )
                    found.update({key: pickle.loads(value) for key, value in rows})
                    connection.execute(
                        f"update entries set used = unixepoch() where key in ({marks})",
                        part,
                    )
        except Exception:  # whatever another version of this package has written
            self._path.unlink(missing_ok=True)
            return {}
        return found

    def put(self, values: Mapping[str, Any]) -> None:
        """Keep ``values``. A disk that is full loses speed, nothing else."""
        if not values:
            return
        rows = [(key, pickle.dumps(value, protocol=5)) for key, value in values.items()]
        try:
            with closing(self._connect()) as connection, connection:
                connection.executemany(
                    "insert or replace into entries values (?, ?, unixepoch())", rows
                )
                connection.execute(
                    "delete from entries where used < unixepoch() - ?", (_DAYS * 86_400,)
                )
        except sqlite3.DatabaseError:
            self._path.unlink(missing_ok=True)

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(self._path, timeout=60)
        connection.execute(
            "create table if not exists entries (key text primary key, value blob, used integer)"
        )
        return connection
