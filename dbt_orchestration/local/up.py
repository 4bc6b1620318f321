"""``make up``: everything on one machine, from nothing."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from dagster_graphql import DagsterGraphQLClient
from filelock import FileLock, Timeout
from rich.console import Console

from dbt_orchestration import dagster_internals
from dbt_orchestration.dbt.invocation import DbtError, DbtTarget
from dbt_orchestration.dbt.parse import PrepareError, Revision
from dbt_orchestration.doctor import built_twice, find_profile, missing_credentials
from dbt_orchestration.ledger.attempts import unfinished_runs
from dbt_orchestration.ledger.built import read_built
from dbt_orchestration.ledger.inspection import inspect, ours
from dbt_orchestration.ledger.provenance import PUSH_TAG, RAW_TAG
from dbt_orchestration.local.dagster_process import (
    HOST,
    Home,
    LaptopError,
    dagster_dev,
    interruptible,
    stop_if_interrupted,
    wait_until_loaded,
    watch,
)
from dbt_orchestration.location.assets import dbt_assets
from dbt_orchestration.location.definitions import check_revision, warehouse_pool
from dbt_orchestration.revisions.commits import is_current, prepare_followed
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.store import open_commit, publish, published
from dbt_orchestration.revisions.warehouse import Seen, look_without_waiting
from dbt_orchestration.revisions.working_tree import prepare
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.types import named

_LOAD_RAW, _FULL_BUILD = "load_raw", "full_build"
# Dagster that stops by itself is started again, unless it does not live for so long so many times.
_LIVED_SECONDS = 60
_GIVES_UP = 3
# How long the push sensor may take to look again.
_TICK_SECONDS = 60


def up(settings: Settings, port: int, console: Console) -> None:
    """Prepare, serve, build what was never built, and stay until Ctrl-C.

    Raises:
        LaptopError: the port is taken, the project does not parse, Dagster does not start.
    """
    settings.make_state_dir()
    lock = FileLock(settings.state_dir / "up.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise LaptopError(f"up is running on {settings.state_dir} already: use that one") from None
    try:
        with interruptible():
            _serve(settings, port, console)
    except KeyboardInterrupt:
        console.print("Stopped.")
    finally:
        lock.release()


def _serve(settings: Settings, port: int, console: Console) -> None:
    quickly = 0
    while True:
        started = time.monotonic()
        with running(settings, port, console, {}) as dagster:
            schedule = named(next(iter(settings.environments)), "full_build_schedule")
            console.print(_WELCOME.format(port=port, schedule=schedule))
            dagster.first_build()
            watch(dagster.process, port)
        quickly = quickly + 1 if time.monotonic() - started < _LIVED_SECONDS else 0
        if quickly == _GIVES_UP:
            raise LaptopError(f"Dagster stopped by itself, again and again: see {dagster.log}")
        console.print(f"Dagster stopped by itself (see {dagster.log}): starting it again.")


@dataclass(frozen=True)
class Running:
    """Dagster, as it runs on this machine.

    Attributes:
        revisions: what each environment was when it started.
    """

    settings: Settings
    port: int
    console: Console
    instance: dg.DagsterInstance
    revisions: Mapping[str, Revision | None]
    process: subprocess.Popen[bytes]
    log: Path

    def first_build(self) -> None:
        """Have built what the first environment that has code lacks; say what it took."""
        _first_build(self)

    def ticks(self, environment: str, limit: int) -> Sequence[Any]:
        """The last ticks of an environment's push sensor, the newest first."""
        for state in self.instance.all_instigator_state():
            place = state.origin.repository_origin.code_location_origin.location_name
            if (state.name, place) == (named(environment, "push"), environment):
                return self.instance.get_ticks(
                    state.instigator_origin_id, state.selector_id, limit=limit
                )
        return ()

    def follow(self, run_id: str, label: str) -> dg.DagsterRunStatus:
        """Show how a run gets on, until it has ended."""
        return _follow(self.instance, run_id, label, self.console)


@contextlib.contextmanager
def running(
    settings: Settings, port: int, console: Console, variables: Mapping[str, str]
) -> Iterator[Running]:
    """Prepare every environment, and run Dagster with ``variables`` in its environment.

    Raises:
        LaptopError: the port is taken, the project does not parse, Dagster does not start.
    """
    home = _dagster_home(settings)
    with contextlib.ExitStack() as stack:
        dagster_home = stack.enter_context(Home.of(home, console))
        _refuse_taken(port)
        _refuse_missing_profile(settings)
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        dagster_internals.set_pool_limit(instance, warehouse_pool(settings), settings.pool_limit)
        dagster = dagster_dev(
            dagster_home,
            port,
            instance,
            console,
            environments=settings.environments,
            variables={**settings.dbt_environment, **variables},
        )
        with _dbt_errors():
            revisions = _loaded_before(settings, instance)
        if again := revisions is not None:  # the push sensor asks git for what is newer
            process = stack.enter_context(dagster)
        revisions = revisions or _prepared(settings, instance, console)
        if wrong := built_twice(settings, revisions):
            raise LaptopError("; ".join(wrong))
        for name, revision in revisions.items():
            if revision:
                with _dbt_errors():
                    _inspect(settings, name, revision, instance)
        if not again:
            process = stack.enter_context(dagster)
        with console.status("Starting Dagster …"):
            wait_until_loaded(process, port, dagster_home.log)
        yield Running(settings, port, console, instance, revisions, process, dagster_home.log)


def _loaded_before(
    settings: Settings, instance: dg.DagsterInstance
) -> Mapping[str, Revision | None] | None:
    """What the code locations load at once, where an environment was prepared before.

    None if there is none such, or if another version or other settings prepared it.
    """
    storage = instance.defs_state_storage
    followed = {name for name, each in settings.environments.items() if each.push.enabled}
    digests = {name: published(name, storage) for name in followed}
    if not any(digests.values()):
        return None
    found: dict[str, Revision | None] = {}
    for name in settings.environments:
        digest = digests.get(name)
        try:
            revision = open_commit(settings, name, digest, storage) if digest else None
        except PrepareError:
            return None
        if revision and not is_current(settings, name, revision):
            return None
        found[name] = revision or _working_tree(settings, name)
    return found


def _prepared(
    settings: Settings, instance: dg.DagsterInstance, console: Console
) -> Mapping[str, Revision | None]:
    revisions: dict[str, Revision | None] = {}
    for name in settings.environments:
        started = time.monotonic()
        with console.status(f"Preparing the dbt project for {name} …"), _dbt_errors():
            revisions[name] = _prepare(settings, name, instance)
        what = _what(settings, revisions[name])
        console.print(f"Prepared {name}, {what}, in {_seconds(started)}.")
    return revisions


def _refuse_missing_profile(settings: Settings) -> None:
    with _dbt_errors():
        profile = find_profile(settings)
    if not profile.ok:
        raise LaptopError(profile.message)
    for name in settings.environments:
        with _dbt_errors():
            missing = missing_credentials(settings, name)
        if missing:
            raise LaptopError(f"{name}: set {', '.join(missing)} (see docs/settings.md)")


_WELCOME = """
[bold green]Dagster is up: http://localhost:{port}[/]

Try first:
  · Assets, View lineage: every model, from raw tables to dashboards
  · choose a model and press Materialize; a partitioned one asks which days
  · Automation: the full build at 08:00 ({schedule})

Ctrl-C stops everything. Started again, it goes on where it was.
"""


def _prepare(settings: Settings, name: str, instance: dg.DagsterInstance) -> Revision | None:
    """The newest commit of the environment's branch, published; else the project as it lies."""
    try:
        revision = prepare_followed(settings, name, partial(check_revision, settings, name))
    except GitError as error:
        raise LaptopError(str(error)) from None
    if revision:
        if storage := instance.defs_state_storage:
            publish(name, revision, storage)
        return revision
    return _working_tree(settings, name)


def _working_tree(settings: Settings, name: str) -> Revision | None:
    if not (settings.project_dir / "dbt_project.yml").is_file():
        return None
    return prepare(settings, name)


def _what(settings: Settings, revision: Revision | None) -> str:
    if revision is None:
        return "whose branch is still to be pushed"
    if revision.commit is None:
        return f"the project in {settings.project_dir}"
    return f"{revision.commit.branch} at {revision.commit.short}"


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            raise LaptopError(
                f"port {port} is in use: stop what uses it, or choose another with --port (make up"
                " PORT=3001)"
            ) from None


@contextlib.contextmanager
def _dbt_errors() -> Iterator[None]:
    try:
        yield
    except (PrepareError, ValueError, yaml.YAMLError) as error:
        raise LaptopError(str(error)) from None


def _dagster_home(settings: Settings) -> Path:
    # What was built is true of one warehouse: another one has a memory of its own.
    home = settings.state_dir / "dagster" / settings.profile
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).parents[1] / "dagster.yaml", home / "dagster.yaml")
    return home


def _inspect(
    settings: Settings, name: str, revision: Revision, instance: dg.DagsterInstance
) -> None:
    """Look whether what was built is still there. While nothing runs, nobody else would notice."""
    if not any(key.path[0] == name for key in instance.all_asset_keys()):
        return
    keys = dbt_assets(settings, name, revision, warehouse_pool(settings)).keys
    target = DbtTarget.of(settings, name, revision.project_dir)
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as scratch,
        contextlib.suppress(DbtError),
    ):

        def ask(nodes: Collection[str]) -> Mapping[str, Seen]:
            return look_without_waiting(target, revision, nodes, scratch)

        inspect(settings, name, instance, revision, keys, ask=ask)


def _first_build(dagster: Running) -> None:
    # On any other warehouse than a DuckDB file that is left to a person.
    settings, instance = dagster.settings, dagster.instance
    prepared = ((name, revision) for name, revision in dagster.revisions.items() if revision)
    name, revision = next(prepared, ("", None))
    if settings.warehouse_type != "duckdb" or revision is None:
        return
    steps = list(_steps(settings, name, revision, instance))
    if steps and revision.commit:
        _follow_sensor(dagster, name, {job: label for job, label, _ in steps})
        return
    client = DagsterGraphQLClient(HOST, port_number=dagster.port)
    # All at once: they wait for each other in the queue.
    runs = [
        (
            client.submit_job_execution(
                named(name, job),
                repository_location_name=name,
                repository_name="__repository__",
                asset_selection=selected,
            ),
            label,
        )
        for job, label, selected in steps
    ]
    for run_id, label in runs:
        if not _succeeds(dagster, run_id, f"{label} of {name}"):
            return


def _steps(
    settings: Settings, name: str, revision: Revision, instance: dg.DagsterInstance
) -> Iterator[tuple[str, str, Sequence[dg.AssetKey] | None]]:
    """Jobs that build what was never built or is not there, each with what to call it."""
    dbt = dbt_assets(settings, name, revision, warehouse_pool(settings))
    keys = ours(settings, revision, dbt.keys)
    missing = keys.keys() - read_built(instance, keys).keys()
    nodes = missing & dbt.nodes.keys()
    if missing - nodes:
        yield _LOAD_RAW, "Loading the raw data", None
    if nodes == dbt.nodes.keys():
        yield _FULL_BUILD, "First full build", None
    elif nodes:
        yield _FULL_BUILD, "Building what is not there", sorted(keys[u] for u in nodes)


def _follow_sensor(dagster: Running, name: str, labels: Mapping[str, str]) -> None:
    """Show what the push sensor builds first, until it has nothing to build."""
    tags = {RAW_TAG: labels.get(_LOAD_RAW, ""), PUSH_TAG: labels.get(_FULL_BUILD, "")}
    since, patience = time.time(), time.monotonic() + _TICK_SECONDS
    while time.monotonic() < patience:
        stop_if_interrupted()
        for run in unfinished_runs(dagster.instance):
            for tag, label in tags.items():
                if run.tags.get(tag) == name:
                    done = _succeeds(dagster, run.run_id, f"{label} of {name}")
                    if not done or tag == PUSH_TAG:
                        return
                    since, patience = time.time(), time.monotonic() + _TICK_SECONDS
        for tick in dagster.ticks(name, 1):
            if tick.timestamp >= since and tick.status.name in ("SKIPPED", "FAILURE"):
                return
        time.sleep(0.5)


def _succeeds(dagster: Running, run_id: str, label: str) -> bool:
    started = time.monotonic()
    status = dagster.follow(run_id, label)
    if status is not dg.DagsterRunStatus.SUCCESS:
        dagster.console.print(
            f"[red]{label}: {status.value.lower()}.[/]"
            f" See http://localhost:{dagster.port}/runs/{run_id}"
        )
        return False
    dagster.console.print(f"{label}: done in {_seconds(started)}.")
    return True


def _follow(
    instance: dg.DagsterInstance, run_id: str, label: str, console: Console
) -> dg.DagsterRunStatus:
    cursor: str | None = None
    assets: set[dg.AssetKey] = set()
    recorded = 0
    with console.status(f"{label} …") as line:
        while True:
            stop_if_interrupted()
            run = instance.get_run_by_id(run_id)
            page = instance.get_records_for_run(
                run_id, cursor=cursor, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION
            )
            cursor = page.cursor
            recorded += len(page.records)
            assets |= {record.asset_key for record in page.records if record.asset_key}
            line.update(f"{label} … {len(assets)} assets, {recorded:,} materializations")
            if run is None or run.is_finished:
                return run.status if run else dg.DagsterRunStatus.FAILURE
            time.sleep(0.5)


def _seconds(started: float) -> str:
    return f"{time.monotonic() - started:.1f} s"
