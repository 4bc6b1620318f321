"""What dbt's adapters do otherwise in our processes: the private parts of dbt that it takes.

``tests/test_dbt_internals.py`` holds the contract test.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

# To open a DuckDB file that another process has open; dbt waits 1 s and 2 s in between.
_ATTEMPTS = 3
# What a profile may leave to the user's own defaults.
_CHOSEN = ("user", "role", "warehouse")
_UTC = frozenset({"utc", "uct", "gmt", "universal", "zulu"})


def adjust_adapters() -> None:
    """Make the adapters that dbt uses in this process do what runs need.

    - Every session is in UTC: dbt writes the limits of batches in UTC, and a warehouse reads them,
      and cuts days, in the zone of the session. A profile that wants another zone is refused, with
      a ``DbtBaseException``.
    - Macros may list what is in a schema, as ``adapter.list_relations``.
    - Somebody who looks into a DuckDB file for a moment does not fail a run.
    - DuckDB names the right line of a statement that it refuses. It miscounts what stands before
      the first word of SQL: dbt's comment goes behind it.
    - DuckDB's says how many rows a statement has written, which DuckDB knows, as Snowflake's does.

    Each dbt command registers its adapter before it connects.
    """
    from dbt.adapters.factory import FACTORY

    register = FACTORY.register_adapter
    if getattr(register, "adjusted", False):
        return

    def register_adjusted(config: Any, *args: Any, **kwargs: Any) -> None:
        adapter = FACTORY.get_adapter_class_by_name(config.credentials.type)
        adapter._available_ |= {"list_relations"}
        if config.credentials.type == "duckdb":
            _adjust_duckdb(config)
            _begin_with_sql(config, adapter.ConnectionManager)
            _count_rows(adapter.ConnectionManager)
        elif config.credentials.type == "snowflake":
            _open_in_utc(adapter.ConnectionManager)
        register(config, *args, **kwargs)

    register_adjusted.adjusted = True  # type: ignore[attr-defined]
    FACTORY.register_adapter = register_adjusted


def _adjust_duckdb(config: Any) -> None:
    from dbt.adapters.duckdb.credentials import Retries

    credentials = config.credentials
    for name, value in (credentials.config_options or {}).items():
        _refuse_other_zone(config.target_name, name, value)
    kept: dict[str, Any] = {}
    for name, value in (credentials.settings or {}).items():
        _refuse_other_zone(config.target_name, name, value)
        kept |= {} if name.lower() == "timezone" else {name: value}
    credentials.settings = {**kept, "TimeZone": "UTC"}
    credentials.retries = credentials.retries or Retries(connect_attempts=_ATTEMPTS)


def _refuse_other_zone(target: str, name: str, zone: Any) -> None:
    from dbt_common.exceptions import DbtBaseException

    if name.lower() == "timezone" and str(zone).lower().removeprefix("etc/") not in _UTC:
        raise DbtBaseException(
            f"target {target} sets the time zone {zone} in profiles.yml: remove it, for runs are in"
            " UTC (docs/incremental.md)"
        )


def _begin_with_sql(config: Any, manager: Any) -> None:
    if hasattr(config, "query_comment"):  # dbt debug has a profile alone
        config.query_comment.append = True
    if getattr(manager._add_query_comment, "begins", False):
        return
    add = manager._add_query_comment

    def add_behind(self: Any, sql: str) -> str:
        return str(add(self, sql.lstrip())) if sql.strip() else sql

    add_behind.begins = True  # type: ignore[attr-defined]
    manager._add_query_comment = add_behind


def _count_rows(manager: Any) -> None:
    if getattr(manager.get_response, "counts", False):
        return
    answer = manager.get_response.__func__

    def answer_with_rows(cls: Any, cursor: Any) -> Any:
        response = answer(cls, cursor)
        rows = getattr(cursor, "rowcount", -1)
        return replace(response, rows_affected=rows) if rows >= 0 else response

    answer_with_rows.counts = True  # type: ignore[attr-defined]
    manager.get_response = classmethod(answer_with_rows)


def _open_in_utc(manager: Any) -> None:
    if getattr(manager.open, "in_utc", False):
        return
    open_session = manager.open.__func__

    # A setting of the session wins over those of the user and the account.
    def open_in_utc(cls: Any, connection: Any) -> Any:
        was_open = connection.state == "open"
        connection = open_session(cls, connection)
        if not was_open:
            connection.handle.cursor().execute("alter session set timezone = 'UTC'")
        return connection

    open_in_utc.in_utc = True  # type: ignore[attr-defined]
    manager.open = classmethod(open_in_utc)


def answer(name: str, sql: str) -> tuple[Sequence[str], Sequence[Sequence[object]]]:
    """Columns and rows of a query, by the connection of this thread of dbt's.

    Args:
        name: of the connection, for dbt's log.
    """
    from dbt.adapters.factory import FACTORY

    [adapter] = FACTORY.adapters.values()
    with adapter.connection_named(name):
        _, table = adapter.execute(sql, fetch=True)
    return table.column_names, [list(row) for row in table.rows]


def snowflake_login() -> dict[str, str]:
    """Who connects to Snowflake in this process, as dbt's profile says, and where.

    ``account``, ``host``, ``user``, ``role`` and ``warehouse``; empty if dbt uses another
    warehouse, or none.
    """
    from dbt.adapters.factory import FACTORY

    for adapter in FACTORY.adapters.values():
        used = adapter.config.credentials
        if used.type == "snowflake":
            account = str(used.account)
            return {
                "account": account,
                "host": used.host or f"{account}.snowflakecomputing.com",
                **{name: getattr(used, name) or "(the user's own)" for name in _CHOSEN},
            }
    return {}


def zone_of_duckdb(credentials: Any) -> str:
    """The time zone of a session that dbt opens by itself; "" if it is not DuckDB's, or chosen."""
    if credentials.type != "duckdb":
        return ""
    chosen = {**(credentials.settings or {}), **(credentials.config_options or {})}
    if "timezone" in {name.lower() for name in chosen}:
        return ""
    import duckdb

    with duckdb.connect() as connection:
        [(zone,)] = connection.execute("select current_setting('TimeZone')").fetchall()
    return str(zone)


def close_duckdb() -> None:
    """Let go of the file that dbt keeps open until this process ends, for other processes."""
    connections = sys.modules.get("dbt.adapters.duckdb.connections")
    environment = connections and connections.DuckDBConnectionManager._ENV
    if environment and environment.handle_count == 0 and environment.creds.path != ":memory:":
        environment.close()
