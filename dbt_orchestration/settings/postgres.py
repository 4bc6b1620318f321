"""Dagster's database, if it is PostgreSQL: ``DAGSTER_POSTGRES_URL``. Its value is never shown."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from dbt_orchestration.settings.extras import missing

VARIABLE = "DAGSTER_POSTGRES_URL"
_SCHEME = "postgresql+psycopg2"
_CONNECT_SECONDS = 10
# Where a dagster.yaml may name a database; the last three as it was written once.
_PLACES = (
    ("storage", "postgres"),
    *((f"{kind}_storage", "config") for kind in ("run", "event_log", "schedule")),
)
# Names the variable, so that the password stands in no file and in no run's arguments.
STORAGE: Mapping[str, Any] = {"postgres": {"postgres_url": {"env": VARIABLE}}}


def with_driver(url: str) -> str:
    """The URL with the driver that Dagster needs.

    With a plain ``postgresql://`` SQLAlchemy may take psycopg 3, which Dagster cannot use.

    Raises:
        ValueError: it is no URL of a PostgreSQL.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.partition("+")[0] not in ("postgres", "postgresql"):
        raise ValueError(f"{VARIABLE}: it has to begin with {_SCHEME}://")
    return f"{_SCHEME}://{rest}"


def use_driver() -> str:
    """Make the variable, if it is set, one that Dagster can use; return its value, or "".

    Raises:
        ValueError: as ``with_driver``.
    """
    if url := os.environ.get(VARIABLE, ""):
        url = os.environ[VARIABLE] = with_driver(url)
    return url


def plain_scheme(config: Mapping[str, Any]) -> str:
    """What to change in a dagster.yaml that names no driver, or another one; "" if nothing."""
    for place in _PLACES:
        stated: Any = config
        for key in place:
            stated = stated.get(key) if isinstance(stated, Mapping) else None
        if not isinstance(stated, Mapping):
            continue
        at = ".".join(place)
        if (url := stated.get("postgres_url")) is not None:
            said, name = _said(url, f"{at}.postgres_url")
            if said and not said.startswith(f"{_SCHEME}://"):
                return f"{name}: write {_SCHEME}:// before the user"
        elif isinstance(parts := stated.get("postgres_db"), Mapping):
            said, name = _said(parts.get("scheme"), f"{at}.postgres_db.scheme")
            if said != _SCHEME:
                return f"{name}: write {_SCHEME}"
    return ""


def _said(value: Any, name: str) -> tuple[str, str]:
    """A text of a dagster.yaml, and who states it: an environment variable, or the key itself."""
    if isinstance(value, Mapping) and (variable := value.get("env")):
        return os.environ.get(str(variable), ""), str(variable)
    return str(value or ""), name


def connection_problem(url: str) -> str:
    """Why nobody can connect to ``url``, in one line without the password; "" if one can.

    Raises:
        ValueError: it is no URL of a PostgreSQL.
    """
    plain = with_driver(url).replace(_SCHEME, "postgresql", 1)
    try:
        import psycopg2
    except ImportError:
        return f"{VARIABLE} is set, and {missing('psycopg2')}"
    try:
        psycopg2.connect(plain, connect_timeout=_CONNECT_SECONDS).close()
    except psycopg2.OperationalError as error:
        said = " ".join(str(error).split())
        return f"{said}: start PostgreSQL there, or correct {VARIABLE}"
    except psycopg2.Error:  # may quote the URL
        return (
            f"{VARIABLE} is no URL that PostgreSQL understands: {_SCHEME}://user:password@host/db"
        )
    return ""
