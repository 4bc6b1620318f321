"""The change engine's cost, as a ratio to dbt's own warm parse of the same project.

    python -m benchmarks.change_engine --models 1000 --models 5000

For each size a project is generated. All figures are CPU seconds of a process of their own, or of
one call in a warm process where that is what is measured; medians of ``--repeat`` measurements.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table

from dbt_orchestration.changes.fingerprints import Fingerprints, fingerprint
from dbt_orchestration.changes.macros import _read
from dbt_orchestration.changes.plan import diff
from dbt_orchestration.changes.project import Compiled, Project
from dbt_orchestration.changes.relations import Analyses
from dbt_orchestration.changes.text import read_macro, read_python, read_sql
from dbt_orchestration.dbt.cache import Cache
from dbt_orchestration.dbt.compile import compile_nodes
from dbt_orchestration.dbt.invocation import DbtTarget
from dbt_orchestration.dbt.read import read_project
from dbt_orchestration.revisions.prepare import ProjectFolder, prepare

LAYER = 50
_PROJECT = """\
name: generated
profile: generated
models: {+materialized: table}
vars: {threshold: 15}
"""
_PROFILES = """\
generated:
  target: prod
  outputs:
    prod: {type: duckdb, path: generated.duckdb, threads: 4}
"""
_MACROS = """\
{% macro late(column) %}{{ column }} > {{ var('threshold') }}{% endmacro %}
{% macro minutes(later, earlier) %}{{ dbt.datediff(earlier, later, 'minute') }}{% endmacro %}
"""
_FIRST = """\
select id, region, started_at, ended_at, amount, quantity, category
from {{ source('raw', 'events') }} -- everything
where amount is not null
"""
_MODEL = """\
with own as (

    select * from {{{{ ref('{parent}') }}}}

),

other as (

    select id, amount as other_amount, started_at as other_started_at, category as other_category
    from {{{{ ref('{second}') }}}}
    where quantity > 0

),

joined as (

    select
        own.id,
        own.region,
        own.started_at,
        own.ended_at,
        {{{{ minutes('own.ended_at', 'own.started_at') }}}} as duration_minutes,
        coalesce(own.amount, 0) + {number} as amount,
        own.quantity,
        other.other_amount,
        case when {{{{ late('own.amount') }}}} then 'late' else own.category end as category
    from own
    left join other on own.id = other.id and own.started_at >= other.other_started_at

)

select
    id,
    region,
    started_at,
    ended_at,
    amount,
    quantity,
    category,
    duration_minutes,
    sum(other_amount) over (partition by region order by id, started_at) as running_amount,
    row_number() over (partition by id order by started_at desc, ended_at) as recency
from joined
where category <> 'test'
qualify recency = 1
"""


def write_project(folder: Path, count: int) -> None:
    """A project of ``count`` models in layers, each reading two models of the layer before."""
    models = folder / "models"
    models.mkdir(parents=True)
    (folder / "macros").mkdir()
    (folder / "dbt_project.yml").write_text(_PROJECT)
    (folder / "profiles.yml").write_text(_PROFILES)
    (folder / "macros" / "macros.sql").write_text(_MACROS)
    for number in range(count):
        layer, place = divmod(number, LAYER)
        sql = _FIRST
        if layer:
            before = (layer - 1) * LAYER
            names = {"parent": before + place, "second": before + (place + 7) % LAYER}
            sql = _MODEL.format(number=number, **{k: f"model_{v:05}" for k, v in names.items()})
        (models / f"model_{number:05}.sql").write_text(sql)
    columns = [{"name": name, "description": f"The {name}."} for name in ("id", "amount")]
    named = [{"name": f"model_{n:05}", "columns": columns} for n in range(count)]
    sources = [{"name": "raw", "schema": "raw", "tables": [{"name": "events"}]}]
    # JSON is YAML.
    properties = {"version": 2, "models": named, "sources": sources}
    (models / "models.yml").write_text(json.dumps(properties, indent=1))


def edited(project: Project, unique_id: str) -> Project:
    """``project`` after a commit that changes one expression of one model."""
    node = project.nodes[unique_id]
    code = str(node["raw_code"]).replace("coalesce(own.amount, 0)", "coalesce(own.amount, 1)")
    nodes = {**project.manifest["nodes"], unique_id: {**node, "raw_code": code}}
    sql = project.compiled[unique_id].full
    compiled = Compiled(sql.replace("coalesce(own.amount, 0)", "coalesce(own.amount, 1)"))
    # As read from a file of its own: equal to the other state's, and no part of it.
    manifest = orjson.loads(orjson.dumps({**project.manifest, "nodes": nodes}))
    return replace(
        project,
        manifest=manifest,
        compiled={**project.compiled, unique_id: compiled},
    )


def forget() -> None:
    """Empty what the engine remembers of texts, as in a new process."""
    for remembered in (read_sql, read_macro, read_python, _read):
        remembered.cache_clear()


def cpu(work: Callable[[], Any], repeat: int) -> float:
    """Median CPU seconds of ``work`` in this process."""
    times = []
    for _ in range(repeat):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return statistics.median(times)


def warm_parse(target: DbtTarget, repeat: int) -> float:
    """CPU seconds of ``dbt parse`` with nothing to parse, in a process of its own."""
    command = [str(Path(sys.executable).with_name("dbt")), "parse", "--quiet"]
    command += [*target.folder_options, "--target-path", str(target.project_dir / "target")]
    times = []
    for _ in range(repeat + 1):
        before = os.times()
        subprocess.run(command, check=True, cwd=target.project_dir)
        after = os.times()
        spent = after.children_user + after.children_system
        times.append(spent - before.children_user - before.children_system)
    return statistics.median(times[1:])  # the first one had everything to parse


def measure(count: int, repeat: int) -> Mapping[str, float]:
    """CPU seconds by what was done."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        write_project(home / "project", count)
        target = DbtTarget(home / "project", home / "logs", home / "project")
        figures = {"dbt parse, warm": warm_parse(target, repeat)}
        revision = prepare(ProjectFolder(target), home / "revisions", analysed=False)
        project = read_project(revision, target)
        first: list[Project] = []
        known = Cache(home / "compiled.sqlite")
        figures["compile all, once"] = cpu(
            lambda: first.append(compile_nodes(project, revision, target, known)), 1
        )
        compiled = first[0]
        assert not compiled.uncompiled, compiled.uncompiled

        def cold(state: Project) -> Fingerprints:
            forget()
            return fingerprint(replace(state), {})

        figures["fingerprints, level 1"] = cpu(lambda: cold(project), repeat)
        figures["fingerprints, level 2"] = cpu(lambda: cold(compiled), repeat)
        analyses: Analyses = {}
        base = fingerprint(compiled, analyses)
        head = edited(compiled, f"model.generated.model_{count // 2:05}")
        # Parsing dbt's manifest into the new state is part of preparing it, not of the plan.
        figures["plan after a one-file commit"] = cpu(
            lambda: diff(base, fingerprint(replace(head), analyses, base)), repeat
        )
        assert diff(base, fingerprint(head, analyses)).due
    figures["memory, MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return figures


def main(
    models: Annotated[list[int] | None, typer.Option(help="Models in the project.")] = None,
    repeat: Annotated[int, typer.Option(help="Measurements of each kind.")] = 3,
) -> None:
    """Print CPU seconds and their ratio to dbt's warm parse."""
    console = Console()
    for count in models or [1000]:
        figures = measure(count, repeat)
        parse_seconds = figures["dbt parse, warm"]
        table = Table(title=f"{count} models", box=None)
        for heading in ("", "CPU s", "/ dbt parse"):
            table.add_column(heading, justify="left" if not heading else "right")
        for what, value in figures.items():
            ratio = "" if "memory" in what else f"{value / parse_seconds:.3f}"
            table.add_row(what, f"{value:.2f}" if "memory" not in what else f"{value:.0f}", ratio)
        console.print(table)


if __name__ == "__main__":
    typer.run(main)
