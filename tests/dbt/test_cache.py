"""A cache that is busy is passed by; only one that cannot be read is begun anew."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from dbt_orchestration.dbt.cache import Cache


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("dbt_orchestration.dbt.cache._BUSY_SECONDS", 0.01)
    return tmp_path / "home" / "kept.sqlite"


@contextmanager
def held(path: Path, how: str) -> Iterator[None]:
    """Another process that works on the file."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute(f"begin {how}")
        yield


def test_what_was_put_is_there(path: Path) -> None:
    Cache(path).put({"a": 1, "b": [2]})
    assert Cache(path).get(["a", "b", "c"]) == {"a": 1, "b": [2]}


def test_a_cache_that_another_process_writes_is_read_all_the_same(path: Path) -> None:
    Cache(path).put({"a": 1})
    with held(path, "immediate"):
        assert Cache(path).get(["a"]) == {"a": 1}


def test_a_busy_cache_keeps_what_is_in_it(path: Path) -> None:
    Cache(path).put({"a": 1})
    with held(path, "exclusive"):
        assert Cache(path).get(["a"]) == {}
        Cache(path).put({"b": 2})
    assert Cache(path).get(["a", "b"]) == {"a": 1}


def test_a_full_disk_keeps_what_is_in_it(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cache(path).put({"a": 1})
    connect = sqlite3.connect

    def small(*arguments: object, **options: object) -> sqlite3.Connection:
        connection = connect(*arguments, **options)  # type: ignore[call-overload]
        connection.execute("pragma max_page_count = 1")
        assert isinstance(connection, sqlite3.Connection)
        return connection

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", small)
        Cache(path).put({"b": bytes(100_000)})
    assert Cache(path).get(["a", "b"]) == {"a": 1}


@pytest.mark.parametrize("broken", ["text", "columns", "value"])
def test_a_cache_that_cannot_be_read_is_begun_anew(path: Path, broken: str) -> None:
    Cache(path).put({"a": 1})
    if broken == "text":
        path.write_text("this is no database" * 100)
    else:
        with closing(sqlite3.connect(path)) as other, other:
            if broken == "columns":
                other.execute("alter table entries rename column used to seen")
            else:
                other.execute("update entries set value = 'no pickle'")
    Cache(path).get(["a"])
    Cache(path).put({"a": 2})
    assert Cache(path).get(["a"]) == {"a": 2}
