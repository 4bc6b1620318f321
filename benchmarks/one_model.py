"""What it costs to load a code location and to build one model, next to plain dagster-dbt.

Both sides take the same door: a fresh process that loads the location with the class that Dagster's
code server uses, and a fresh ``dagster api execute_run``, which is what a run launcher starts. CPU
seconds are those of the process and everything it started; on a shared machine they say more than
wall seconds. Speed is reported, not asserted: see README.md.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
import duckdb
import typer
from rich.console import Console
from rich.table import Table

from dbt_orchestration.settings.models import PREFIX

INSTANCE = Path(__file__).resolve().parent.parent / "dbt_orchestration" / "dagster.yaml"
LAYER = 10
ROWS = 10
TESTS = 2
OURS, PLAIN = "ours", "plain"
LOAD, RUN = "load", "run"
LABELS = {LOAD: "load", RUN: "build"}
VERSIONS = ("dagster", "dagster-dbt", "dbt-core", "dbt-duckdb")

_PROFILES = """\
duckdb:
  target: prod
  outputs:
    prod: &duckdb
      type: duckdb
      path: "{{ env_var('DBT_DUCKDB_PATH') }}"
      schema: main
      threads: 4
    dev:
      <<: *duckdb
      schema: dev
"""

_PROJECT = """\
name: generated
version: "1.0.0"
profile: duckdb
flags:
  send_anonymous_usage_stats: false
"""

_ENVIRONMENTS = """\
environments:
  prod: {branch: main, target: prod}
  dev: {branch: dev, target: dev}
"""

# As dagster-dbt's documentation begins: its decorator, its resource, the default executor.
_PLAIN_LOCATION = """\
from pathlib import Path

import dagster as dg
from dagster_dbt import DbtCliResource, DbtProject, dbt_assets

project = DbtProject(Path(__file__).parent / "project")

REPOSITORY = Path(__file__).resolve().parent.parent


@dbt_assets(manifest=project.manifest_path)
def models(context: dg.AssetExecutionContext, dbt: DbtCliResource):
    yield from dbt.cli(["build"], context=context).stream()


definitions = dg.Definitions(
    assets=[models], resources={"dbt": DbtCliResource(project_dir=project)}
)
"""

# What a code server does before it answers for the first time. A script of its own, because what
# this module imports is no part of what is measured.
_LOAD_SCRIPT = """\
import os
import sys

from dagster._core.origin import get_python_environment_entry_point
from dagster._core.remote_representation.external_data import RepositorySnap
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin
from dagster._grpc.server import LoadedRepositories
from dagster._serdes import serialize_value

origin = LoadableTargetOrigin(
    executable_path=sys.executable,
    module_name=sys.argv[1],
    attribute=sys.argv[2],
    working_directory=os.getcwd(),
)
entry_point = get_python_environment_entry_point(sys.executable)
loaded = LoadedRepositories(origin, None, entry_point, None)
[repository] = loaded.definitions_by_name.values()
serialize_value(RepositorySnap.from_def(repository, defer_snapshots=True))
"""

# Creates runs of one asset and its checks, and prints the command that executes each.
_CREATE_SCRIPT = (
    _LOAD_SCRIPT
    + """
import json

import dagster as dg
from dagster._grpc.types import ExecuteRunArgs

[recon] = loaded.reconstructables_by_name.values()
job = repository.get_job("__ASSET_JOB")
[key] = [k for k in job.asset_layer.executable_asset_keys if k.path[-1] == sys.argv[3]]
code_origin = recon.get_reconstructable_job("__ASSET_JOB").get_python_origin()
commands = {}
with dg.DagsterInstance.get() as instance:
    for _ in range(int(sys.argv[4])):
        run = instance.create_run_for_job(
            job,
            asset_selection={key},
            job_code_origin=code_origin,
            repository_load_data=repository.repository_load_data,
        )
        args = ExecuteRunArgs(code_origin, run.run_id, instance.get_ref(), True)
        commands[run.run_id] = args.get_command_args()
print(json.dumps(commands))
"""
)


class BrokenError(RuntimeError):
    """A process failed, or did not do what was measured. The message says which and why."""


@dataclass(frozen=True)
class Cost:
    """Seconds of one process and all that it started."""

    cpu: float
    wall: float


@dataclass(frozen=True)
class Model:
    """One generated dbt model. Layers alternate, so that no view reads a view that reads a view."""

    number: int

    @property
    def name(self) -> str:
        return f"model_{self.number:05}"

    @property
    def materialized(self) -> str:
        return "table" if self.number // LAYER % 2 else "view"

    @property
    def parents(self) -> Sequence[str]:
        """One or two models of the layer before."""
        layer, place = divmod(self.number, LAYER)
        if not layer:
            return []
        places = {place, (place + 1) % LAYER} if place % 2 else {place}
        return [Model((layer - 1) * LAYER + other).name for other in sorted(places)]

    def select(self, relation: str) -> str:
        """The query, with every parent written as ``relation``. ``built_at`` proves a build."""
        if not self.parents:
            return f"select range as id, now() as built_at from range({ROWS})"
        first, *rest = (relation.format(name) for name in self.parents)
        joins = "".join(f" join {other} as b using (id)" for other in rest)
        return f"select a.id, now() as built_at from {first} as a{joins}"


@dataclass(frozen=True)
class Side:
    """One of the two code locations, with a warehouse and a Dagster home of its own."""

    name: str
    folder: Path
    module: str
    attribute: str
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / self.name

    @property
    def warehouse(self) -> Path:
        return self.home / "warehouse.duckdb"

    @property
    def environment(self) -> dict[str, str]:
        """This process's environment without what would change what either side does."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("DBT_", "DAGSTER_", "SNOWFLAKE_", "PYTHON"))
        }
        path = os.pathsep.join([str(Path(sys.executable).parent), inherited.get("PATH", "")])
        own = {"DAGSTER_HOME": str(self.home), "DBT_DUCKDB_PATH": str(self.warehouse)}
        return {**inherited, "PATH": path, **own, **self.variables}

    def python(self, *arguments: str) -> str:
        """Run Python as this side and return what it prints.

        Raises:
            BrokenError: it failed.
        """
        return self.execute([sys.executable, *arguments])

    def execute(self, command: Sequence[str]) -> str:
        """Run a command as this side and return what it prints.

        Raises:
            BrokenError: it failed.
        """
        log = self.home / "stderr.log"
        with log.open("w") as errors:
            done = subprocess.run(
                command,
                cwd=self.folder,
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                check=False,
            )
        if done.returncode:
            tail = (done.stdout + log.read_text())[-4000:]
            raise BrokenError(f"{self.name}: {' '.join(command)[:200]} failed:\n{tail}")
        return done.stdout

    def built_at(self, model: Model) -> datetime:
        """When ``model`` was last built, as the warehouse knows it."""
        with duckdb.connect(str(self.warehouse), read_only=True) as connection:
            row = connection.execute(f"select count(*), max(built_at) from {model.name}").fetchone()
        if row is None or row[0] != ROWS:
            raise BrokenError(f"{self.name}: {model.name} has not the {ROWS} rows that it should")
        built: datetime = row[1]
        return built


@dataclass
class Case:
    """Both sides on one generated project."""

    models: int
    costs: dict[tuple[str, str], list[Cost]] = field(default_factory=dict)

    def add(self, what: str, side: str, cost: Cost) -> None:
        self.costs.setdefault((what, side), []).append(cost)

    def median(self, what: str, side: str, unit: str) -> float:
        """The median of ``cpu`` or ``wall`` seconds."""
        seconds: list[float] = [getattr(cost, unit) for cost in self.costs[what, side]]
        return statistics.median(seconds)

    def ratio(self, what: str, unit: str) -> float:
        return self.median(what, OURS, unit) / self.median(what, PLAIN, unit)

    def target(self, what: str) -> float:
        """What the ratio of CPU seconds should not exceed."""
        if what == LOAD:
            return 1.0
        return 0.5 if self.models < 1000 else 0.4


def measure(case: Case, repeat: int, folder: Path, console: Console) -> None:
    """Prepare both sides, then measure them in turns, so that the machine's mood hits both.

    Raises:
        BrokenError: a process failed, or did not build the model.
    """
    with console.status(f"{case.models} models: preparing …"):
        models = [Model(number) for number in range(case.models)]
        write_project(folder, models)
        sides = prepare_sides(folder, models)
        model = next(m for m in models[case.models // 2 :] if m.materialized == "table")
        runs = {side.name: list(create_runs(side, model, repeat).items()) for side in sides}
    for turn in range(repeat):
        with console.status(f"{case.models} models: turn {turn + 1} of {repeat} …"):
            for side in sides if turn % 2 == 0 else sides[::-1]:
                case.add(LOAD, side.name, measured_load(side))
                case.add(RUN, side.name, measured_run(side, model, *runs[side.name][turn]))


def write_project(folder: Path, models: Sequence[Model]) -> None:
    """The dbt project that both sides read, and what each needs besides."""
    project = folder / "project"
    (project / "models").mkdir(parents=True)
    (project / "dbt_project.yml").write_text(_PROJECT)
    (project / "profiles.yml").write_text(_PROFILES)
    (folder / "environments.yaml").write_text(_ENVIRONMENTS)
    (folder / "plain_location.py").write_text(_PLAIN_LOCATION)
    (folder / "load.py").write_text(_LOAD_SCRIPT)
    (folder / "create.py").write_text(_CREATE_SCRIPT)
    for model in models:
        config = f"{{{{ config(materialized='{model.materialized}') }}}}\n"
        sql = config + model.select("{{{{ ref('{}') }}}}") + "\n"
        (project / "models" / f"{model.name}.sql").write_text(sql)
    # JSON is YAML.
    tested = [{"name": "id", "data_tests": ["not_null", "unique"]}]
    properties = [{"name": model.name, "columns": tested} for model in models]
    (project / "models" / "models.yml").write_text(
        json.dumps({"version": 2, "models": properties}, indent=1)
    )


def prepare_sides(folder: Path, models: Sequence[Model]) -> list[Side]:
    """A built warehouse and a parsed project for each, as after an earlier run and load."""
    ours = Side(
        OURS,
        folder,
        "dbt_orchestration.definitions",
        "prod",
        {
            PREFIX + "CONFIG": str(folder / "environments.yaml"),
            PREFIX + "PROJECT_DIR": str(folder / "project"),
            PREFIX + "STATE_DIR": str(folder / OURS),
            PREFIX + "LOAD_RAW": "false",
        },
    )
    plain = Side(PLAIN, folder, "plain_location", "definitions")
    for side in (ours, plain):
        side.home.mkdir()
        shutil.copy(INSTANCE, side.home)
        build_warehouse(side.warehouse, models)
    ours.python("-m", "dbt_orchestration.cli", "prepare")
    project = str(folder / "project")
    plain.execute(["dbt", "parse", "--project-dir", project, "--profiles-dir", project])
    return [ours, plain]


def build_warehouse(file: Path, models: Sequence[Model]) -> None:
    """What ``dbt run`` would have left behind, in a fraction of its time."""
    with duckdb.connect(str(file)) as connection:
        for model in models:
            query = model.select("main.{}")
            connection.execute(f"create {model.materialized} main.{model.name} as {query}")


def create_runs(side: Side, model: Model, count: int) -> dict[str, list[str]]:
    """Runs that build ``model`` and its tests: the command that executes each, by run id."""
    arguments = [side.module, side.attribute, model.name, str(count)]
    commands: dict[str, list[str]] = json.loads(side.python("create.py", *arguments))
    return commands


def measured_load(side: Side) -> Cost:
    """Load the code location in a fresh process."""
    return measured(side, [sys.executable, "load.py", side.module, side.attribute])


def measured_run(side: Side, model: Model, run_id: str, command: Sequence[str]) -> Cost:
    """Execute a run as a run launcher does.

    Raises:
        BrokenError: it did not build exactly the model and its tests.
    """
    before = side.built_at(model)
    cost = measured(side, command)
    if side.built_at(model) <= before:
        raise BrokenError(f"{side.name}: the run did not build {model.name}")
    check_recorded(side, model, run_id)
    return cost


def measured(side: Side, command: Sequence[str]) -> Cost:
    """Execute a command, and what it and all its children took.

    Raises:
        BrokenError: it failed.
    """
    before, started = children_cpu(), time.perf_counter()
    side.execute(command)
    return Cost(children_cpu() - before, time.perf_counter() - started)


def children_cpu() -> float:
    """User and system seconds of all children, and theirs, that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def check_recorded(side: Side, model: Model, run_id: str) -> None:
    """Dagster has one materialization and the tests' results, and nothing else.

    Raises:
        BrokenError: it has not.
    """
    types = (
        dg.DagsterEventType.ASSET_MATERIALIZATION,
        dg.DagsterEventType.ASSET_CHECK_EVALUATION,
    )
    with dg.DagsterInstance.from_config(str(side.home)) as instance:
        run = instance.get_run_by_id(run_id)
        found = [len(instance.all_logs(run_id, of_type=event_type)) for event_type in types]
    if run is None or not run.is_success or found != [1, TESTS]:
        status = run and run.status
        raise BrokenError(f"{side.name}: {model.name}: run is {status}, recorded {found}")


def rows(case: Case) -> Iterator[list[str]]:
    """The table's rows of a case."""
    for what, label in LABELS.items():
        cpu = [f"{case.median(what, side, 'cpu'):.2f}" for side in (OURS, PLAIN)]
        wall = [f"{case.median(what, side, 'wall'):.2f}" for side in (OURS, PLAIN)]
        ratio, target = case.ratio(what, "cpu"), case.target(what)
        colour = "green" if ratio <= target else "red"
        yield [
            f"{case.models:,}",
            label,
            *cpu,
            f"[{colour}]{ratio:.2f}[/]",
            f"≤ {target:.1f}",
            *wall,
            f"{case.ratio(what, 'wall'):.2f}",
        ]


def report(cases: Sequence[Case], repeat: int) -> Table:
    """Medians side by side."""
    table = Table(
        *("models", "what", "ours CPU s", "plain CPU s", "ratio", "target"),
        *("ours wall s", "plain wall s", "ratio"),
        title=f"Medians of {repeat}; ratio is ours / plain",
    )
    for column in (table.columns[0], *table.columns[2:]):
        column.justify = "right"
    for case in cases:
        for row in rows(case):
            table.add_row(*row)
        table.add_section()
    return table


def as_json(cases: Sequence[Case], repeat: int) -> dict[str, Any]:
    """Everything measured, for comparing over time."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: version(name) for name in VERSIONS},
        "cpus": os.cpu_count(),
        "repeat": repeat,
        "results": [
            {
                "models": case.models,
                "what": what,
                "target": case.target(what),
                "ratio": {unit: case.ratio(what, unit) for unit in ("cpu", "wall")},
                **{
                    side: {
                        unit: [getattr(cost, unit) for cost in case.costs[what, side]]
                        for unit in ("cpu", "wall")
                    }
                    for side in (OURS, PLAIN)
                },
            }
            for case in cases
            for what in LABELS
        ],
    }


def main(
    models: Annotated[
        list[int] | None, typer.Option(help="Models in the project; repeatable. [100, 1000]", min=2)
    ] = None,
    repeat: Annotated[int, typer.Option(help="How often each is measured.", min=1)] = 3,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Also write every figure to this file.")
    ] = None,
    keep: Annotated[
        Path | None, typer.Option(help="Generate into this new folder and leave it there.")
    ] = None,
) -> None:
    """CPU and wall seconds of loading and of building one model, ours next to plain dagster-dbt."""
    console = Console(highlight=False)
    cases = [Case(count) for count in models or [100, 1000]]
    with tempfile.TemporaryDirectory(prefix="one_model_") as temporary:
        for case in cases:
            folder = (keep or Path(temporary)).resolve() / str(case.models)
            folder.mkdir(parents=True)
            try:
                measure(case, repeat, folder, console)
            except BrokenError as error:
                console.print(f"broken: {error}", style="red", markup=False)
                raise typer.Exit(1) from None
    console.print(report(cases, repeat))
    if json_file:
        json_file.write_text(json.dumps(as_json(cases, repeat), indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
