"""What rebuilding a long history takes: by us, by others, and at the least.

    python -m benchmarks.backfill measure --days 365 --rows 1000000
    python -m benchmarks.backfill measure --flights

CPU seconds of whole processes, children included, each with its imports and its start: a table of
``--rows`` rows over ``--days`` days, or of the 336,776 flights of 2013, and a microbatch model that
adds them up by day and customer, or carrier. What runs once for each day is run ``--sample`` times
and multiplied.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
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
  and happened_at < timestamp '{{ var("end", "2013-01-02") }}'
"""
app = typer.Typer(add_completion=False)


@dataclass(frozen=True)
class Cost:
    """CPU and wall-clock seconds."""

    cpu: float
    wall: float

    def __mul__(self, times: float) -> Self:
        return type(self)(self.cpu * times, self.wall * times)


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
        from dbt_orchestration.assets.raw import load_table  # not in every process measured here

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
    job, instance_folder = _plain(folder) if kind == "plain" else _ours(folder)
    tags = {
        "dagster/asset_partition_range_start": first,
        "dagster/asset_partition_range_end": last,
    }
    config: dict[str, object] = {}
    if kind == "push":
        asked = {"partitions": {"daily": [f"{first}..{last}"]}}
        tags, config = {}, {"ops": {"dbt_prod": {"config": asked}}}
    elif first == last:
        tags = {"dagster/partition": first}
    with dg.DagsterInstance.local_temp(str(instance_folder)) as instance:
        result = job.execute_in_process(instance=instance, tags=tags, run_config=config)
        assert result.success


def _ours(folder: Path) -> tuple[dg.JobDefinition, Path]:
    from dbt_orchestration.definitions import build_definitions
    from dbt_orchestration.settings import Environment, Push, Settings

    settings = Settings(
        project_dir=folder / "project",
        state_dir=folder / "state",
        duckdb_path=folder / "warehouse.duckdb",
        load_raw=False,
        environments={"prod": Environment(branch="main", target="prod", push=Push(enabled=False))},
    )
    job = build_definitions(settings, "prod").resolve_implicit_global_asset_job_def()
    return job.get_subset(asset_selection={dg.AssetKey(["prod", "daily"])}), folder / "dagster"


def _plain(folder: Path) -> tuple[dg.JobDefinition, Path]:
    """The partitioned example of dagster-dbt's documentation."""
    partitions = dg.DailyPartitionsDefinition("2013-01-01")
    resource_ = DbtCliResource(
        project_dir=str(folder / "project"), profiles_dir=str(folder / "project")
    )

    @dbt_assets(
        manifest=folder / "project" / "target" / "manifest.json",
        select="daily",
        partitions_def=partitions,
    )
    def assets(context: dg.AssetExecutionContext, dbt: DbtCliResource):  # type: ignore[no-untyped-def]
        window = context.partition_time_window
        yield from dbt.cli(
            [
                "build",
                "--event-time-start",
                window.start.strftime("%Y-%m-%d"),
                "--event-time-end",
                window.end.strftime("%Y-%m-%d"),
            ],
            context=context,
        ).stream()

    definitions = dg.Definitions(assets=[assets], resources={"dbt": resource_})
    return definitions.resolve_implicit_global_asset_job_def(), folder / "plain"


@app.command(name="measure")
def main(
    days: Annotated[int, typer.Option()] = 365,
    rows: Annotated[int, typer.Option()] = 1_000_000,
    *,
    flights: Annotated[bool, typer.Option("--flights", help="The real flights.")] = False,
    models: Annotated[int, typer.Option(help="Other models in the project.")] = 0,
    sample: Annotated[int, typer.Option(help="Runs of what runs once a day.")] = 5,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Rebuild the whole history of one model in five ways."""
    what = "the flights" if flights else f"{rows:,} rows"
    keys = [f"{_BEGIN + timedelta(days=day):%Y-%m-%d}" for day in range(days)]
    found: dict[str, Cost] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for place in ("dagster", "plain"):
            (folder / place).mkdir()
        write_project(folder, days, rows, models, flights=flights)
        cost_of(dbt(folder, "parse"), folder=folder)
        cost_of(worker(folder, "ours", keys[0], keys[0]), folder=folder)  # prepares it
        ways: dict[str, Callable[[], Cost]] = {
            "one statement (dbt run of a table)": lambda: cost_of(
                dbt(folder, "run", "--select", "floor"), folder=folder
            ),
            "ours, from a push": lambda: cost_of(
                worker(folder, "push", keys[0], keys[-1]), folder=folder
            ),
            "ours, as a backfill": lambda: cost_of(
                worker(folder, "ours", keys[0], keys[-1]), folder=folder
            ),
            "ours, one day": lambda: cost_of(
                worker(folder, "ours", keys[0], keys[0]), folder=folder
            ),
            "dbt, a batch a day": lambda: cost_of(
                dbt(
                    folder,
                    "run",
                    "--select",
                    "daily",
                    "--event-time-start",
                    keys[0],
                    "--event-time-end",
                    f"{_BEGIN + timedelta(days=days):%Y-%m-%d}",
                ),
                folder=folder,
            ),
            "dagster-dbt's example, a run a day": lambda: (
                cost_of(*(worker(folder, "plain", k, k) for k in keys[:sample]), folder=folder)
                * (days / sample)
            ),
            "dbt with vars, a run a day": lambda: (
                cost_of(*(by_vars(folder, day) for day in range(sample)), folder=folder)
                * (days / sample)
            ),
        }
        table = Table("way", "CPU s", "wall s", "of the floor", title=f"{days} days, {what}")
        for way, measure in ways.items():
            found[way] = measure()
            floor = next(iter(found.values())).cpu
            table.add_row(
                way,
                f"{found[way].cpu:.1f}",
                f"{found[way].wall:.1f}",
                f"{found[way].cpu / floor:.1f}",
            )
    Console(highlight=False).print(table)
    if json_file:
        json_file.write_text(json.dumps({way: cost.__dict__ for way, cost in found.items()}))


def by_vars(folder: Path, day: int) -> Sequence[str]:
    start, end = (_BEGIN + timedelta(days=d) for d in (day, day + 1))
    values = json.dumps({"start": f"{start:%Y-%m-%d}", "end": f"{end:%Y-%m-%d}"})
    return dbt(folder, "run", "--select", "by_vars", "--vars", values)


if __name__ == "__main__":
    app()
