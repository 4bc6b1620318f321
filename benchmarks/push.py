"""What a push takes, step by step: from ``git commit`` to the rebuilt table, with the real Dagster.

    python -m benchmarks.push --models 100 --seconds 0
    python -m benchmarks.push --models 100 --seconds 200

A project of ``--models`` models in layers is generated, whose full build takes about ``--seconds``
of SQL besides dbt's own work. It is built, a leaf is edited ``--repeat`` times, and the events that
Dagster and the preparing process leave say when each step was done.
"""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
import typer
import yaml
from rich.console import Console
from rich.table import Table

from dbt_orchestration.automation.outcome import Outcome, findings
from dbt_orchestration.ledger.run_tags import PUSH_TAG, SHA_TAG
from dbt_orchestration.local.up import Running, running
from dbt_orchestration.settings.models import CONFIG_VARIABLE, Environment, Push, Settings

_LAYER = 20
_IDENTITY = ("-c", "user.name=You", "-c", "user.email=you@example.com")
_PROJECT = """\
name: generated
profile: duckdb
models: {+materialized: table}
flags: {send_anonymous_usage_stats: false}
"""
_PROFILES = """\
duckdb:
  target: prod
  outputs:
    prod: &prod {type: duckdb, path: "{{ env_var('DBT_DUCKDB_PATH') }}", threads: 1}
    dev: {<<: *prod, schema: dev}
"""
# Rows of a cross join that DuckDB sums in a second on one thread, measured at the start.
_PROBE = 200_000_000
_STEPS = (
    "tick",
    "fetch",
    "check out and packages",
    "parse",
    "fingerprints",
    "publish and reload",
    "next tick",
    "queue",
    "worker start",
    "dbt start",
    "SQL",
    "recorded",
)


def write_project(folder: Path, models: int, rows: int) -> None:
    """Models in layers of 20, each reading two of the layer before."""
    (folder / "models").mkdir(parents=True)
    (folder / "dbt_project.yml").write_text(_PROJECT)
    (folder / "profiles.yml").write_text(_PROFILES)
    work = f"(select sum(a.range * b.range) from range({rows // 1000}) as a, range(1000) as b)"
    for number in range(models):
        parents = [number - _LAYER, number - _LAYER + 1] if number >= _LAYER else []
        sources = " union all ".join(
            f"select id, value from {{{{ ref('model_{parent}') }}}}"
            for parent in parents
            if parent // _LAYER == (number - _LAYER) // _LAYER
        )
        text = f"select id, max(value) as value, {work} as work from ({sources}) group by id"
        if not sources:
            text = f"select {number} as id, 1 as value, {work} as work"
        (folder / "models" / f"model_{number}.sql").write_text(text)


@dataclass
class Measured:
    """Seconds of each step of one push; idle CPU is of the whole of Dagster."""

    steps: dict[str, float]

    @property
    def total(self) -> float:
        return sum(self.steps.values())


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *_IDENTITY, *arguments], cwd=folder, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def push(folder: Path, leaf: Path, number: int) -> tuple[str, float]:
    text = re.sub(r"max\(value\)( \+ \d+)?", f"max(value) + {number}", leaf.read_text())
    leaf.write_text(text)
    git(folder, "commit", "--quiet", "--all", "--message", f"push {number}")
    return git(folder, "rev-parse", "HEAD"), time.time()


def measured(dagster: Running, sha: str, pushed: float) -> Measured:
    """Follow one push to its end."""
    instance = dagster.instance
    tags = {PUSH_TAG: "prod", SHA_TAG: sha}
    while not (runs := instance.get_run_records(dg.RunsFilter(tags=tags))) or not (
        runs[0].dagster_run.is_finished
    ):
        if time.time() > pushed + 300:
            raise RuntimeError(f"nothing came of {sha} in 300 s: see {dagster.log}")
        time.sleep(0.2)
    record = runs[0]
    if record.dagster_run.status is not dg.DagsterRunStatus.SUCCESS:
        raise RuntimeError(f"the run failed: see {dagster.log}")
    ticks = dagster.ticks("prod", 50)
    loading = next(
        t
        for t in ticks
        for found in findings(t.cursor)
        if found.outcome is Outcome.LOADING and sha[:10] in found.facts["commit"]
    )
    asking = next(t for t in ticks if record.dagster_run.run_id in t.run_ids)
    prepared = _log(dagster.settings.state_dir / "revisions" / "prod" / "follow.log")
    events = {
        e.dagster_event.event_type_value: e.timestamp
        for e in instance.all_logs(record.dagster_run.run_id)
        if e.dagster_event
    }
    [table] = instance.get_records_for_run(
        record.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
    ).records[:1]
    assert table.asset_materialization is not None
    took = float(str(table.asset_materialization.metadata["seconds"].value))
    marks = [
        pushed,
        prepared["fetching"],
        prepared["checking out"],
        prepared["parsing"],
        prepared["analysing"],
        prepared["done"],
        loading.end_timestamp or loading.timestamp,
        asking.timestamp,
        events["PIPELINE_STARTING"],
        events["STEP_START"],
        table.timestamp - took,
        table.timestamp,
        events["PIPELINE_SUCCESS"],
    ]
    return Measured({step: b - a for step, a, b in zip(_STEPS, marks, marks[1:], strict=False)})


def _log(path: Path) -> dict[str, float]:
    lines = re.findall(r"^(\d+\.\d+) (.*)$", path.read_text(), flags=re.MULTILINE)
    return {what: float(at) for at, what in lines}


def idle_cpu(dagster: Running, seconds: float) -> float:
    """CPU seconds that all of Dagster takes in a minute in which nothing happens."""

    def used() -> float:
        listed = subprocess.run(
            ["ps", "-eo", "sid=,pid="], check=True, capture_output=True, text=True
        ).stdout
        total = 0.0
        for line in listed.splitlines():
            session, pid = map(int, line.split())
            if session == dagster.process.pid:
                try:
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                except OSError:
                    continue
                total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
        return total

    before = used()
    time.sleep(seconds)
    return (used() - before) * 60 / seconds


def rows_per_second() -> int:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set threads = 1")
        started = time.perf_counter()
        connection.execute(
            f"select sum(a.range * b.range) from range({_PROBE // 1000}) as a, range(1000) as b"
        ).fetchall()
        return int(_PROBE / (time.perf_counter() - started))


def main(  # noqa: PLR0917 - typer passes by keyword
    models: Annotated[int, typer.Option()] = 100,
    seconds: Annotated[float, typer.Option(help="SQL of a full build.")] = 0.0,
    repeat: Annotated[int, typer.Option()] = 3,
    interval: Annotated[int, typer.Option(help="Of the sensor, in seconds.")] = 15,
    port: Annotated[int, typer.Option()] = 3457,
    json_file: Annotated[Path | None, typer.Option("--json")] = None,
) -> None:
    """Measure what a push of one leaf takes, and what the full build does."""
    console = Console(highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        result = _measure(Path(folder), console, models, seconds, repeat, interval, port)
    table = Table("step", "seconds", title=f"{models} models")
    table.columns[1].justify = "right"
    for step, value in result["steps"].items():
        table.add_row(step, f"{value:.2f}")
    console.print(table)
    for key in ("push", "full_build", "ratio", "idle_cpu_per_minute"):
        console.print(f"{key}: {result[key]:.2f}")
    if json_file:
        json_file.write_text(json.dumps(result, indent=1))


def _measure(  # noqa: PLR0917
    folder: Path,
    console: Console,
    models: int,
    seconds: float,
    repeat: int,
    interval: int,
    port: int,
) -> Mapping[str, Any]:
    project = folder / "repository" / "dbt"
    write_project(project, models, int(rows_per_second() * seconds / models))
    git(folder / "repository", "init", "--quiet", "--initial-branch=main")
    git(folder / "repository", "add", "--all")
    git(folder / "repository", "commit", "--quiet", "--message", "first")
    environment = Environment(branch="main", target="prod", push=Push(interval_seconds=interval))
    settings = Settings(
        project_dir=project,
        state_dir=folder / "state",
        load_raw=False,
        environments={"prod": environment},
    )
    config = folder / "environments.yaml"
    config.write_text(yaml.safe_dump(settings.model_dump(mode="json", exclude_none=True)))
    leaf = project / "models" / f"model_{models - 1}.sql"
    with running(settings, port, console, {CONFIG_VARIABLE: str(config)}) as dagster:
        dagster.first_build()
        built = dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS])
        [first] = dagster.instance.get_run_records(built, limit=1, ascending=True)
        assert first.end_time is not None
        full = first.end_time - first.create_timestamp.timestamp()
        time.sleep(2 * interval)
        idle = idle_cpu(dagster, 45)
        pushes = [
            measured(dagster, *push(folder / "repository", leaf, number))
            for number in range(1, repeat + 1)
        ]
    steps = {step: statistics.median(p.steps[step] for p in pushes) for step in _STEPS}
    total = statistics.median(p.total for p in pushes)
    return {
        "models": models,
        "interval": interval,
        "steps": steps,
        "push": total,
        "full_build": full,
        "ratio": total / full,
        "idle_cpu_per_minute": idle,
    }


if __name__ == "__main__":
    typer.run(main)
