"""What rebuilding a long history takes: by us, by others, and at the least.

    python -m benchmarks.backfill measure --days 365 --rows 1000000
    python -m benchmarks.backfill measure --flights

CPU seconds of whole processes, children included, each with its imports and its start: a table of
``--rows`` rows over ``--days`` days, or of the 336,776 flights of 2013, and a microbatch model that
adds them up by day and customer, or carrier. All of it is there before, and is rebuilt ``--repeat``
times in each way. The ways take turns; every second round takes them the other way round.

dagster-dbt gets the whole range in one run, which is its default for time windows
(``BackfillPolicy.single_run``), in both ways its documentation shows: the window as the limits of a
microbatch model, and as vars of a model that reads them, which is one statement.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, astuple, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Self

import dagster as dg
import duckdb
import typer
from dagster_dbt import DbtCliResource, dbt_assets
from rich.console import Console
from rich.table import Table

_BEGIN = datetime(2013, 1, 1, tzinfo=UTC)
_PROJECT = """\
name: history
profile: duckdb
flags: {send_anonymous_usage_stats: false}
"""
_PROFILES = """\
duckdb:
  target: prod
  outputs:
    prod: &prod {type: duckdb, path: "{{ env_var('DBT_DUCKDB_PATH') }}", threads: 1}
    dev: {<<: *prod, schema: dev}
"""
_SOURCES = """\
sources:
  - name: raw
    schema: main
    tables:
      - name: events
        config: {event_time: happened_at}
"""
_SELECT = """\
select date_trunc('day', happened_at) as day_at, customer, count(*) as events, sum(amount) as amount
from {{ source('raw', 'events') }}
"""
_MICROBATCH = """\
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day_at',
          batch_size='day', begin='2013-01-01', meta={'dagster': {'partitions': {'end': '%s'}}}) }}
"""
_VARS = """\
{{ config(materialized='incremental', incremental_strategy='delete+insert', unique_key='day_at') }}
"""
_WINDOW = """\
where happened_at >= timestamp '{{ var("start", "2013-01-01") }}'
  and happened_at < timestamp '{{ var("end", "9999-01-01") }}'
"""
_FLOOR = "dbt run of a table, one statement"
# The model each of dagster-dbt's examples builds.
_EXAMPLES = {"plain": "daily", "plain-vars": "by_vars"}
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Cost:
    """CPU and wall-clock seconds."""

    cpu: float
    wall: float

    @classmethod
    def median(cls, costs: Sequence[Self]) -> Self:
        return cls(
            *(statistics.median(values) for values in zip(*map(astuple, costs), strict=True))
        )


def cost_of(*commands: Sequence[str], folder: Path) -> Cost:
    """What these commands take one after the other, with all they start."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    for command in commands:
        done = subprocess.run(
            command,
            cwd=Path(__file__).parent.parent,
            env={
                **os.environ,
                "DBT_DUCKDB_PATH": str(folder / "warehouse.duckdb"),
                "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            },
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu, time.monotonic() - started)


def write_project(folder: Path, days: int, rows: int, models: int, *, flights: bool) -> None:
    """A source table, the microbatch model, the same as a table and by vars, and idle models."""
    end = (_BEGIN + timedelta(days=days)).date()
    files = {
        "dbt_project.yml": _PROJECT,
        "profiles.yml": _PROFILES,
        "models/sources.yml": _SOURCES,
        "models/daily.sql": f"{_MICROBATCH % end}{_SELECT}group by 1, 2",
        "models/floor.sql": f"{{{{ config(materialized='table') }}}}\n{_SELECT}group by 1, 2",
        "models/by_vars.sql": f"{_VARS}{_SELECT}{_WINDOW}group by 1, 2",
    }
    for number in range(models):
        files[f"models/others/other_{number}.sql"] = f"select {number} as id"
    for name, text in files.items():
        (folder / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "project" / name).write_text(text)
    warehouse = str(folder / "warehouse.duckdb")
    if flights:
        from dbt_orchestration.location.flights import (
            load_table,  # not in every process measured here
        )

        load_table("flights", "main.flights", SimpleNamespace(type="duckdb", path=warehouse))
        events = "time_hour as happened_at, carrier as customer, dep_delay as amount from flights"
    else:
        events = (
            "timestamp '2013-01-01'"
            f" + to_seconds(cast(range * {days * 86400 / rows} as bigint)) as happened_at,"
            f" range % 100 as customer, range % 7 as amount from range({rows})"
        )
    with duckdb.connect(warehouse) as connection:
        connection.execute(f"create table events as select {events}")


def dbt(folder: Path, *arguments: str) -> Sequence[str]:
    project = str(folder / "project")
    options = ["--project-dir", project, "--profiles-dir", project, "--quiet"]
    return [sys.executable, "-m", "dbt.cli.main", *arguments, *options]


def worker(folder: Path, kind: str, first: str, last: str) -> Sequence[str]:
    return [sys.executable, "-m", "benchmarks.backfill", "worker", str(folder), kind, first, last]


@app.command(name="worker", hidden=True)
def run_worker(folder: Path, kind: str, first: str, last: str) -> None:
    """What one Dagster run does, in a process of its own, as a run launcher starts it."""
    job, instance_folder = _plain(folder, kind) if kind in _EXAMPLES else _ours(folder)
    tags = {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }
    if kind == "push":
        from dbt_orchestration.history.order import Order

        tags = Order(partitions={"daily": [f"{first}..{last}"]}).as_tags()
    elif first == last:
        tags = {"dagster/partition": first}
    with dg.DagsterInstance.local_temp(str(instance_folder)) as instance:
        result = job.execute_in_process(instance=instance, tags=tags)
        assert result.success


def _ours(folder: Path) -> tuple[dg.JobDefinition, Path]:
    from dbt_orchestration.location.definitions import build_definitions
    from dbt_orchestration.settings.models import Environment, Push, Settings

    settings = Settings(
        project_dir=folder / "project",
        state_dir=folder / "state",
        duckdb_path=folder / "warehouse.duckdb",
        load_raw=False,
        environments={"prod": Environment(branch="main", target="prod", push=Push(enabled=False))},
    )
    job = build_definitions(settings, "prod").resolve_implicit_global_asset_job_def()
    return job.get_subset(asset_selection={dg.AssetKey(["prod", "daily"])}), folder / "dagster"


def _plain(folder: Path, kind: str) -> tuple[dg.JobDefinition, Path]:
    """The partitioned examples of dagster-dbt's documentation."""
    project = folder / "project"

    @dbt_assets(
        manifest=project / "target" / "manifest.json",
        select=_EXAMPLES[kind],
        partitions_def=dg.DailyPartitionsDefinition("2013-01-01"),
    )
    def assets(context: dg.AssetExecutionContext, dbt: DbtCliResource):  # type: ignore[no-untyped-def]
        start, end = (f"{time:%Y-%m-%d}" for time in context.partition_time_window)
        window = ["--event-time-start", start, "--event-time-end", end]
        if kind == "plain-vars":
            window = ["--vars", json.dumps({"start": start, "end": end})]
        yield from dbt.cli(["build", *window], context=context).stream()

    dbt_resource = DbtCliResource(project_dir=str(project), profiles_dir=str(project))
    definitions = dg.Definitions(assets=[assets], resources={"dbt": dbt_resource})
    return definitions.resolve_implicit_global_asset_job_def(), folder / kind


@app.command(name="measure")
def main(
    days: Annotated[int, typer.Option()] = 365,
    rows: Annotated[int, typer.Option()] = 1_000_000,
    *,
    flights: Annotated[bool, typer.Option("--flights", help="The real flights.")] = False,
    models: Annotated[int, typer.Option(help="Other models in the project.")] = 0,
    repeat: Annotated[int, typer.Option(help="Rounds. The table shows medians.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write every figure.")] = None,
) -> None:
    """Rebuild the whole history of one model in each way."""
    found: dict[str, list[Cost]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place in ("dagster", *_EXAMPLES):
            (folder / place).mkdir()
        write_project(folder, days, rows, models, flights=flights)
        ways = _ways(folder, days)
        for way in ("dbt run, microbatch", "dbt run --vars, one statement", _FLOOR):
            cost_of(ways[way], folder=folder)
        cost_of(worker(folder, "ours", _key(0), _key(0)), folder=folder)  # prepares the revision
        for number in range(repeat):
            for way in list(ways)[:: -1 if number % 2 else 1]:
                found.setdefault(way, []).append(cost_of(ways[way], folder=folder))
    what = "the flights" if flights else f"{rows:,} rows"
    title = f"{days} days of {what}, {models} other models, medians of {repeat}"
    table = Table("way", "CPU s", "wall s", "of the floor", title=title)
    floor = Cost.median(found[_FLOOR])
    for way in ways:
        cost = Cost.median(found[way])
        table.add_row(way, f"{cost.cpu:.1f}", f"{cost.wall:.1f}", f"{cost.cpu / floor.cpu:.1f}")
    Console(highlight=False).print(table)
    if json_file:
        figures = {way: [asdict(cost) for cost in costs] for way, costs in found.items()}
        json_file.write_text(json.dumps(figures, indent=1))


def _ways(folder: Path, days: int) -> dict[str, Sequence[str]]:
    first, last, end = _key(0), _key(days - 1), _key(days)
    window = ("--event-time-start", first, "--event-time-end", end)
    values = json.dumps({"start": first, "end": end})
    return {
        "dagster-dbt, microbatch, one run": worker(folder, "plain", first, last),
        "ours, as a backfill": worker(folder, "ours", first, last),
        "ours, from a push": worker(folder, "push", first, last),
        "dbt run, microbatch": dbt(folder, "run", "--select", "daily", *window),
        "dagster-dbt, vars, one run": worker(folder, "plain-vars", first, last),
        "dbt run --vars, one statement": dbt(
            folder, "run", "--select", "by_vars", "--vars", values
        ),
        _FLOOR: dbt(folder, "run", "--select", "floor"),
        "dagster-dbt, microbatch, one day": worker(folder, "plain", first, first),
        "dagster-dbt, vars, one day": worker(folder, "plain-vars", first, first),
        "ours, one day": worker(folder, "ours", first, first),
    }


def _key(day: int) -> str:
    return f"{_BEGIN + timedelta(days=day):%Y-%m-%d}"


if __name__ == "__main__":
    app()
