"""A Snowflake on loopback: fakesnow's HTTP server, so that the real adapter and connector run.

Behind it is DuckDB, which also takes SQL that Snowflake would refuse: this shows that our code and
dbt's statements go together, not that a model's own SQL is portable.

``fakesnow -s`` (0.12.1) gets dbt through a first build and no further. What is different here:

- Whatever DuckDB refuses is an error of the statement. fakesnow answers what it did not foresee
  with HTTP 500, and the connector repeats such a request until its network timeout, which dbt
  has no setting for: a failing model would hang the run.
- A query that failed has an id, too.
- An error ends the session's transaction. DuckDB keeps it open and refuses every later statement
  of a connection, and dbt uses connections again.
- ``create temporary …`` makes an ordinary relation. dbt qualifies the names of its ``__dbt_tmp``
  relations with database and schema, and DuckDB keeps temporary ones in a database of their own.
- MERGE goes to DuckDB as it is. fakesnow splits it into a join and changes, and dbt's column
  names, which it does not qualify, are ambiguous in the join.
- A session is in America/Los_Angeles, as Snowflake's are, until it sets its time zone.
- Setting a query tag does nothing, instead of being unknown.
- ``alter table … swap with …`` exchanges two tables and what is granted on them, in a transaction.
  Grants are remembered and shown, and do nothing else.
- A dynamic table is a table that says so when it is listed. Its lag is not lived up to.
- A session has a number, by which another one can cancel what it is doing.
- Statements are kept, because there is no QUERY_HISTORY to ask.

A schema must not be called MAIN: every DuckDB database has one, and fakesnow hides what is in it.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import duckdb
import fakesnow.server as fakesnow_server
import pyarrow  # type: ignore[import-untyped]
import snowflake.connector
import sqlglot
import uvicorn
from fakesnow.conn import FakeSnowflakeConnection
from fakesnow.cursor import FakeSnowflakeCursor
from fakesnow.instance import FakeSnow
from snowflake.connector.errors import Error, ProgrammingError
from sqlglot import exp
from starlette.responses import JSONResponse

_HOST = "127.0.0.1"
_USER, _PASSWORD = "SVC_DAGSTER", "taken-by-the-emulator"
_SHUTDOWN_SECONDS = 10
_ZONE_OF_USER = "America/Los_Angeles"
_TEMPORARY = re.compile(
    r"^(\s*create\s+(?:or\s+replace\s+)?)temp(?:orary)?\s+(?=table|view)", re.IGNORECASE
)
_SWAP = re.compile(r"\s*alter\s+table\s+(\S+)\s+swap\s+with\s+(\S+?)[\s;]*$", re.IGNORECASE)
_GRANT = re.compile(
    r"\s*grant\s+(\w+)\s+on\s+(?:table\s+)?(\S+)\s+to\s+(?:role\s+)?(\w+)[\s;]*$", re.IGNORECASE
)
_SHOW_GRANTS = re.compile(r"\s*show\s+grants\s+on\s+(?:table\s+)?(\S+?)[\s;]*$", re.IGNORECASE)
_DYNAMIC = re.compile(
    r"^\s*create\s+(or\s+replace\s+)?(?:transient\s+)?dynamic\s+table\s+(\S+)(.*?)\sas\s*\(",
    re.IGNORECASE | re.DOTALL,
)
_LAG = re.compile(r"target_lag = '(.*?)'", re.IGNORECASE)
_WAREHOUSE = re.compile(r"warehouse = (\w+)", re.IGNORECASE)
_SHOW_DYNAMIC = re.compile(r"\s*show\s+dynamic\s+tables\s+like\s+'(\w+)'", re.IGNORECASE)
_ZONE = re.compile(r"\s*alter\s+session\s+set\s+timezone\s*=\s*'([^']+)'[\s;]*$", re.IGNORECASE)
_CANCEL = re.compile(r"\s*select\s+system\$cancel_all_queries\((\d+)\)", re.IGNORECASE)
_SHOW_ZONE = re.compile(r"\s*show\s+parameters\s+like\s+'timezone'", re.IGNORECASE)
_COMMENT = re.compile(r"/\*.*?\*/", re.DOTALL)
_COMMENTS = "_fs_global._fs_information_schema._fs_tables_ext"
_NUMBERED = re.compile(r"(\d{6}) \((\w{5})\): ")
_DONE = "select 'Statement executed successfully.' as status"


# What is granted to which role, by the name of the table.
Grants = dict[str, set[tuple[str, str]]]
# The lag and the warehouse of each dynamic table, by its name.
Dynamic = dict[str, tuple[str, str]]


@dataclass(frozen=True)
class Emulator:
    """A running emulator. It is empty at first; a session makes the database it asks for."""

    host: str
    port: int
    statements: list[str]
    """All that any session sent, as it sent it."""
    refused: dict[str, str]
    """What is said of statements with this part; ``{line}`` is the line in which it stands.

    It may begin with an error's number and state, ``090073 (22000): ``; they are those of SQL that
    does not compile otherwise.
    """
    refused_login: dict[str, str]
    """What is said, by the error's number, to whoever logs in, while there is something."""
    running: dict[int, str]
    """What each session is doing, by its number."""

    @property
    def environment(self) -> dict[str, str]:
        """What the dbt profile ``snowflake_emulator`` reads."""
        return profile_environment(self.port, self.host)

    def execute(self, sql: str, database: str = "ANALYTICS") -> list[tuple[Any, ...]]:
        with snowflake.connector.connect(
            account="fakesnow",
            user=_USER,
            password=_PASSWORD,
            host=self.host,
            port=self.port,
            protocol="http",
            database=database,
        ) as connection:
            rows: list[tuple[Any, ...]] = connection.cursor().execute(sql).fetchall()
            return rows


def profile_environment(port: int, host: str = _HOST) -> dict[str, str]:
    """What the dbt profile ``snowflake_emulator`` reads, for an emulator there."""
    return {
        "SNOWFLAKE_USER": _USER,
        "DBT_ENV_SECRET_SNOWFLAKE_PASSWORD": _PASSWORD,
        "SNOWFLAKE_HOST": host,
        "SNOWFLAKE_PORT": str(port),
    }


@contextmanager
def running_emulator(host: str = _HOST) -> Iterator[Emulator]:
    """An emulator in this process, at an address of this machine. One at a time."""
    logging.getLogger("fakesnow.server").setLevel(logging.CRITICAL)
    warehouse = _Warehouse(nop_regexes=[r"\s*alter session set query_tag"])
    fakesnow_server.shared_fs = warehouse
    fakesnow_server.JSONResponse = _Response  # type: ignore[attr-defined]
    # Bound before the server starts, so that a first connection waits instead of being refused.
    with socket.create_server((host, 0)) as listening:
        app = _door(warehouse)
        http = uvicorn.Server(uvicorn.Config(app, lifespan="off", log_config=None))
        thread = threading.Thread(
            target=http.run, args=([listening],), name="emulator", daemon=True
        )
        thread.start()
        try:
            port: int = listening.getsockname()[1]
            refused = (warehouse.refused, warehouse.refused_login)
            yield Emulator(host, port, warehouse.statements, *refused, warehouse.running)
        finally:
            http.should_exit = True
            thread.join(_SHUTDOWN_SECONDS)
            fakesnow_server.sessions.clear()
            warehouse.duck_conn.close()


def _table(name: str) -> str:
    return name.upper().rpartition(".")[2]


def _door(warehouse: _Warehouse) -> Any:
    """fakesnow's application, which lets everybody in."""

    async def enter(scope: Any, receive: Any, send: Any) -> None:
        app: Any = fakesnow_server.app
        if warehouse.refused_login and scope.get("path", "").endswith("/login-request"):
            [(code, said)] = warehouse.refused_login.items()
            answer = {"data": {}, "code": code, "message": said, "success": False}
            app = JSONResponse(answer)
        await app(scope, receive, send)

    return enter


class _Response(JSONResponse):
    def __init__(self, content: Any, *args: Any, **options: Any) -> None:
        if "token" in (content.get("data") or {}):
            session = fakesnow_server.sessions[content["data"]["token"]]
            assert isinstance(session, _Session)
            content["data"]["sessionId"] = session.number
        if not content.get("success", True) and content.get("data"):
            content["data"].setdefault("queryId", str(uuid.uuid4()))
        super().__init__(content, *args, **options)


class _Warehouse(FakeSnow):
    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.statements: list[str] = []
        self.refused: dict[str, str] = {}
        self.refused_login: dict[str, str] = {}
        self.sessions: list[_Session] = []
        self.running: dict[int, str] = {}
        self.grants: Grants = {}
        self.dynamic: Dynamic = {}

    def connect(
        self,
        database: str | None = None,
        schema: str | None = None,
        nop_regexes: list[str] | None = None,
        **options: Any,
    ) -> _Session:
        connection = self.duck_conn.cursor()
        connection.execute(f"set timezone = '{_ZONE_OF_USER}'")
        session = _Session(
            connection,
            self.results_cache,
            database,
            schema,
            nop_regexes=nop_regexes or self.nop_regexes,
            **options,
        )
        session.statements = self.statements
        session.refused = self.refused
        session.grants = self.grants
        session.dynamic = self.dynamic
        session.number, session.all = len(self.sessions), self.sessions
        session.running = self.running
        self.sessions.append(session)
        return session


class _Session(FakeSnowflakeConnection):
    statements: list[str]
    refused: dict[str, str]
    grants: Grants
    dynamic: Dynamic
    number: int
    all: list[_Session]
    running: dict[int, str]

    def cursor(self, cursor_class: Any = None) -> _Cursor:  # noqa: ARG002
        return _Cursor(self, self._duck_conn)


class _Cursor(FakeSnowflakeCursor):
    _conn: _Session

    def execute(self, command: str, *args: Any, **kwargs: Any) -> FakeSnowflakeCursor:
        self._conn.statements.append(command)
        for part, message in self._conn.refused.items():
            if part in command:
                said = message.format(line=command[: command.index(part)].count("\n") + 1)
                numbered = _NUMBERED.match(said)
                number, state = numbered.groups() if numbered else ("001003", "42000")
                said = said[numbered.end() :] if numbered else said
                raise ProgrammingError(msg=said, errno=int(number), sqlstate=state)
        self._conn.running[self._conn.number] = command
        try:
            done = super().execute(self._translated(command), *args, **kwargs)
        except Exception as error:
            with suppress(duckdb.Error):
                self._duck_conn.rollback()
            if isinstance(error, Error):
                raise
            message = f"{type(error).__name__}: {error}"
            raise ProgrammingError(msg=message, errno=100000, sqlstate="XX000") from error
        finally:
            self._conn.running.pop(self._conn.number, None)
        if command.lstrip().lower().startswith("show objects"):
            self._mark_dynamic()
        return done

    def _translated(self, command: str) -> str:
        grants = self._conn.grants
        bare = _COMMENT.sub("", command)
        if swap := _SWAP.match(bare):
            self._swap(*swap.groups())
            return _DONE
        if zone := _ZONE.match(bare):
            self._duck_conn.execute(f"set timezone = '{zone[1]}'")
            return _DONE
        if cancel := _CANCEL.match(bare):
            self._conn.all[int(cancel[1])]._duck_conn.interrupt()
            return _DONE
        if _SHOW_ZONE.match(bare):
            self._duck_conn.execute("select current_setting('TimeZone')")
            [(zone_now,)] = self._duck_conn.fetchall()
            zone_now = _ZONE_OF_USER if "user" in bare.lower().split() else zone_now
            return f"""select 'TIMEZONE' as "key", '{zone_now}' as "value\""""
        if grant := _GRANT.match(bare):
            privilege, table, role = (part.upper() for part in grant.groups())
            grants.setdefault(_table(table), set()).add((privilege, role))
            return _DONE
        if show := _SHOW_GRANTS.match(bare):
            rows = [f"('{p}', 'ROLE', '{r}')" for p, r in sorted(grants.get(_table(show[1]), ()))]
            values = ", ".join(rows) or "(null, null, null)"
            return (
                'select column1 as "privilege", column2 as "granted_to", column3 as "grantee_name"'
                f" from (values {values}) where column1 is not null"
            )
        if dynamic := _DYNAMIC.match(bare):
            replace, name, options = dynamic.groups()
            lag, warehouse = _LAG.search(options), _WAREHOUSE.search(options)
            self._conn.dynamic[_table(name)] = (
                lag[1] if lag else "",
                warehouse[1] if warehouse else "",
            )
            return f"create {replace or ''}table {name} as ({bare[dynamic.end() :]}"
        if bare.strip().lower().startswith("select current_warehouse()"):
            return "select 'TRANSFORMING' as warehouse"
        if bare.strip().lower().startswith("use warehouse"):
            return _DONE
        if show := _SHOW_DYNAMIC.match(bare):
            name = _table(show[1])
            shown: dict[str, str] = dict(
                zip(("target_lag", "warehouse"), self._conn.dynamic[name], strict=True)
            )
            shown |= dict.fromkeys(("text", "schema_name", "database_name"), "")
            shown |= {"name": name, "refresh_mode": "AUTO"}
            columns = [f"'{value}' as \"{column}\"" for column, value in shown.items()]
            return f'select {", ".join(columns)}, null as "immutable_where", null as "cluster_by"'
        return _TEMPORARY.sub(r"\1", command)

    def _mark_dynamic(self) -> None:
        table = self._arrow_table
        if table is None or not self._conn.dynamic:
            return
        names = table.column("name").to_pylist()
        flags = ["Y" if name in self._conn.dynamic else "N" for name in names]
        place = table.schema.get_field_index("is_dynamic")
        self._arrow_table = table.set_column(place, "is_dynamic", pyarrow.array(flags))

    def _swap(self, first: str, second: str) -> None:
        names = [name.upper().rpartition(".") for name in (first, second)]
        (place, _, one), (_, _, other) = names
        self._duck_conn.begin()
        self._duck_conn.execute(f"alter table {place}.{one} rename to {one}__swapping")
        self._duck_conn.execute(f"alter table {place}.{other} rename to {one}")
        self._duck_conn.execute(f"alter table {place}.{one}__swapping rename to {other}")
        self._duck_conn.commit()
        # Comments are kept by name, in another database.
        self._duck_conn.execute(
            "create or replace temp table swapped as select * replace"
            f" (if(ext_table_name = '{one}', '{other}', '{one}') as ext_table_name)"
            f" from {_COMMENTS} where ext_table_name in ('{one}', '{other}')"
        )
        self._duck_conn.execute(
            f"delete from {_COMMENTS} where ext_table_name in ('{one}', '{other}')"
        )
        self._duck_conn.execute(f"insert into {_COMMENTS} from swapped")
        grants = self._conn.grants
        a, b = _table(first), _table(second)
        grants[a], grants[b] = grants.get(b, set()), grants.get(a, set())

    def _transform_explode(self, expression: Any) -> list[Any]:
        if isinstance(expression, exp.Merge):
            return [expression]
        return super()._transform_explode(expression)

    def _execute(self, transformed: Any, params: Any = None) -> None:
        super()._execute(transformed, params)
        if isinstance(transformed, exp.Merge):
            assert self._arrow_table is not None
            rows = self._arrow_table.column(0)[0].as_py()
            # The connector reads how many rows a MERGE changed from columns of these names.
            counts = f'select {rows} as "number of rows inserted", 0 as "number of rows updated"'
            super()._execute(sqlglot.parse_one(counts, read="duckdb"))
            self._rowcount = rows
