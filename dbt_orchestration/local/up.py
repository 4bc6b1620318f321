"""``make up``: everything on one machine, from nothing."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from filelock import FileLock, Timeout
from rich.console import Console

from dbt_orchestration import dagster_internals
from dbt_orchestration.dbt.parse import PrepareError, Revision
from dbt_orchestration.doctor import built_twice, find_profile, missing_credentials
from dbt_orchestration.ledger.held import held
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
from dbt_orchestration.revisions.commits import is_current, not_followed, prepare_followed
from dbt_orchestration.revisions.current import as_it_lies
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.storage import StorageError
from dbt_orchestration.revisions.store import open_commit, publish, published
from dbt_orchestration.revisions.working_tree import prepare
from dbt_orchestration.settings import postgres
from dbt_orchestration.settings.models import Settings
from dbt_orchestration.settings.types import named

# Dagster that stops by itself is started again, unless it does not live for so long so many times.
_LIVED_SECONDS = 60
_GIVES_UP = 3


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
    if said := not_followed(settings):
        console.print(said)
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
        loaded_before: they were prepared by an earlier start, and nothing was checked yet.
    """

    settings: Settings
    port: int
    console: Console
    instance: dg.DagsterInstance
    revisions: Mapping[str, Revision | None]
    loaded_before: bool
    process: subprocess.Popen[bytes]
    log: Path

    def first_build(self) -> None:
        """Have built what the first environment that has code lacks; say what it took.

        Raises:
            LaptopError: what was prepared before cannot be built as things are now.
        """
        from dbt_orchestration.local.first_build import first_build

        if self.loaded_before:
            _refuse_missing_profile(self.settings)
            _refuse_built_twice(self.settings, self.revisions)
        with _dbt_errors():
            first_build(self)

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
    home = make_home(settings)
    with contextlib.ExitStack() as stack:
        dagster_home = stack.enter_context(Home.of(home, console))
        _refuse_taken(port)
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        dagster_internals.set_pool_limit(instance, settings.pool, settings.pool_limit)
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
        # What was prepared before is served at once: the push sensor asks git for what is newer,
        # and everything else is looked at while people can look, too.
        loaded_before = revisions is not None
        if revisions is None:
            _refuse_missing_profile(settings)  # before what takes long
            revisions = _prepared(settings, instance, console)
            _refuse_built_twice(settings, revisions)
        process = stack.enter_context(dagster)
        with console.status("Starting Dagster …"):
            wait_until_loaded(process, port, dagster_home.log)
        yield Running(
            settings, port, console, instance, revisions, loaded_before, process, dagster_home.log
        )


def _refuse_built_twice(settings: Settings, revisions: Mapping[str, Revision | None]) -> None:
    # Also of what has no branch yet: once it has one, what it builds is there.
    every = {name: each or _working_tree(settings, name) for name, each in revisions.items()}
    if wrong := built_twice(settings, every):
        raise LaptopError("; ".join(wrong))


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
        found[name] = revision or as_it_lies(settings, name)
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
  · Catalog, View lineage: every model, from raw tables to dashboards
  · choose a model and press Materialize; a partitioned one asks which days
  · Automation: the full build at 08:00 ({schedule})

Ctrl-C stops everything. Started again, it goes on where it was.
"""


def _prepare(settings: Settings, name: str, instance: dg.DagsterInstance) -> Revision | None:
    """The commit that the environment is to be, published; else the project as it lies."""
    from dbt_orchestration.location.definitions import check_revision

    hold = held(instance, name)
    try:
        revision = prepare_followed(settings, name, sha=hold.sha if hold else "")
    except GitError as error:
        raise LaptopError(str(error)) from None
    if revision:
        check_revision(settings, name, revision)
        if storage := instance.defs_state_storage:
            publish(name, revision, storage)
        return revision
    return as_it_lies(settings, name)


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
    except (PrepareError, StorageError, ValueError, yaml.YAMLError) as error:
        raise LaptopError(str(error)) from None


def home_of(settings: Settings) -> Path:
    """The ``DAGSTER_HOME`` of ``up``."""
    # What was built is true of one warehouse: another one has a memory of its own.
    return settings.state_dir / "dagster" / settings.profile


def make_home(settings: Settings) -> Path:
    """Make it: on SQLite, or where ``DAGSTER_POSTGRES_URL`` says.

    Raises:
        LaptopError: nobody can connect to that.
    """
    home = home_of(settings)
    home.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).parents[1] / "dagster.yaml", home / "dagster.yaml")
    with _dbt_errors():
        url = postgres.use_driver()
    if url:
        if problem := postgres.connection_problem(url):
            raise LaptopError(problem)
        with (home / "dagster.yaml").open("a", encoding="utf-8") as file:
            yaml.safe_dump({"storage": dict(postgres.STORAGE)}, file)
    return home


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
