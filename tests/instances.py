"""Dagster's own database in the tests: SQLite in a folder, or a database of a PostgreSQL server."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import dagster as dg

from dbt_orchestration.settings import postgres

# The URL of a server, for a whole run of the tests: tests/postgres sets it.
ON_POSTGRES = "TESTS_ON_POSTGRES"


@contextmanager
def dagster_in(home: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster, kept in a folder. A copy of the folder is another one that has the same in it."""
    folder = home / "dagster"
    folder.mkdir(exist_ok=True)
    server = os.environ.get(ON_POSTGRES)
    overrides = {"storage": {"postgres": {"postgres_url": _copy(server, folder)}}} if server else {}
    with dg.DagsterInstance.local_temp(str(folder), overrides=overrides) as instance:
        yield instance


def _copy(server: str, folder: Path) -> str:
    """The URL of a copy of the database that the folder names; of a new one, if it names none."""
    named = folder / "database"
    url = new_database(server, named.read_text() if named.is_file() else "template1")
    named.write_text(urlsplit(url).path.removeprefix("/"))
    return postgres.with_driver(url)


def new_database(server: str, template: str = "template1") -> str:
    """The URL of a new database of a PostgreSQL server: a copy of the template."""
    import psycopg2

    name = f"d{uuid.uuid4().hex}"
    with closing(psycopg2.connect(server)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(f"create database {name} template {template}")
    return urlsplit(server)._replace(path=f"/{name}").geturl()
