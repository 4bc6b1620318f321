"""``make demo``: a full build, three pushes, what they cost; the real Dagster, without the UI."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from dbt_orchestration.automation.outcome import Finding, Outcome, findings
from dbt_orchestration.ledger.provenance import SECONDS
from dbt_orchestration.ledger.pushes import pushes_key
from dbt_orchestration.ledger.run_tags import PUSH_TAG, SHA_TAG, WHY_TAG
from dbt_orchestration.local.dagster_process import LaptopError, interruptible
from dbt_orchestration.local.up import Running, running
from dbt_orchestration.settings.models import PREFIX, Git, Settings

_SECONDS = 180
_INTERVAL = 3
_MODEL = "models/marts/reference/dim_routes.sql"
_HISTORY = "models/marts/operations/fct_flights.sql"
_MACRO = "macros/great_circle_miles.sql"
_IDENTITY = ("-c", "user.name=You", "-c", "user.email=you@example.com")


def demo(settings: Settings, console: Console) -> None:
    """Show what a push does, in a folder of its own.

    Raises:
        LaptopError: the project does not parse, or a build failed.
    """
    if settings.warehouse_type != "duckdb":
        raise LaptopError("the demo builds into a DuckDB file: unset DBT_ORCHESTRATION_PROFILE")
    state = settings.state_dir / "demo"
    shutil.rmtree(state, ignore_errors=True)
    state.mkdir(parents=True)
    name, environment = next(iter(settings.environments.items()))
    story = _Story(state / "repository", environment.branch, console)
    story.begin(settings.project_dir)
    push = environment.push.model_copy(update={"enabled": True, "interval_seconds": _INTERVAL})
    settings = settings.model_copy(
        update={
            "project_dir": story.project,
            "profiles_dir": story.project,
            "state_dir": state,
            "duckdb_path": state / "warehouse.duckdb",
            "git": Git(),
            "environments": {name: environment.model_copy(update={"push": push})},
        }
    )
    variables = {
        f"{PREFIX}PROJECT_DIR": str(story.project),
        f"{PREFIX}PROFILES_DIR": str(story.project),
        f"{PREFIX}STATE_DIR": str(state),
        f"{PREFIX}DUCKDB_PATH": str(settings.duckdb_path),
        f"{PREFIX}GIT__REMOTE": "",
        f"{PREFIX}GIT__PROJECT_PATH": "",
        f"{PREFIX}ENVIRONMENTS__{name.upper()}__PUSH__INTERVAL_SECONDS": str(_INTERVAL),
    }
    try:
        with interruptible(), running(settings, _free_port(), console, variables) as dagster:
            dagster.first_build()
            story.tell(dagster, name)
    except KeyboardInterrupt:
        raise LaptopError("stopped before its end") from None


class _Story:
    def __init__(self, repository: Path, branch: str, console: Console) -> None:
        self.project = repository / "dbt_project"
        self._repository = repository
        self._branch = branch
        self._console = console

    def begin(self, project: Path) -> None:
        """A repository with the demo project as its first commit."""
        ignored = shutil.ignore_patterns("target", "logs", "dbt_packages", "*.duckdb*")
        shutil.copytree(project, self.project, ignore=ignored)
        self._git("init", "--quiet", f"--initial-branch={self._branch}")
        self._commit("The project as it is")

    def tell(self, dagster: Running, name: str) -> None:
        """Three commits, and what becomes of them."""
        sha = self._edit(_MODEL, "< 500 then 'short haul'", "< 600 then 'short haul'")
        self._wait(dagster, name, sha)
        sha = self._edit(_MACRO, "{% macro", "{# in statute miles #}\n{% macro")
        self._wait(dagster, name, sha)
        sha = self._edit(
            _HISTORY, "    loaded_at\n", "    loaded_at,\n    air_minutes / 60 as hours\n"
        )
        self._wait(dagster, name, sha)

    def _edit(self, path: str, old: str, new: str) -> str:
        file = self.project / path
        text = file.read_text()
        if old not in text:
            raise LaptopError(
                f"{path} is not the file that the demo edits: it does not contain {old!r}"
            )
        file.write_text(text.replace(old, new, 1))
        self._console.print(f"\n[bold]git commit[/] {path}:")
        for line in self._git("diff", "--unified=0", "--no-color").splitlines():
            if line[:1] in "+-" and line[:3] not in ("+++", "---"):
                color = "green" if line[0] == "+" else "red"
                self._console.print(f"  [{color}]{escape(line)}[/]")
        return self._commit(f"Edit {Path(path).stem}")

    def _commit(self, message: str) -> str:
        self._git("add", "--all")
        self._git(*_IDENTITY, "commit", "--quiet", "--message", message)
        return self._git("rev-parse", "HEAD").strip()

    def _git(self, *arguments: str) -> str:
        return subprocess.run(
            ["git", *arguments], cwd=self._repository, check=True, capture_output=True, text=True
        ).stdout

    def _wait(self, dagster: Running, name: str, sha: str) -> None:
        """Say what the sensor says, until nothing of the commit is due."""
        started, found = time.monotonic(), list[Finding]()
        tags = {PUSH_TAG: name, SHA_TAG: sha}
        while time.monotonic() < started + _SECONDS:
            for run in dagster.instance.get_runs(dg.RunsFilter(tags=tags), limit=1):
                self._say(f"{run.tags[WHY_TAG]}; run {run.run_id[:8]}", started)
                status = dagster.follow(run.run_id, "Building")
                self._console.print(_table(dagster.instance, run.run_id, name))
                self._say(f"run {run.run_id[:8]}: {status.value.lower()}", started)
                if status is not dg.DagsterRunStatus.SUCCESS:
                    raise LaptopError(f"the run failed: see {dagster.log}")
                return
            new = [each for tick in dagster.ticks(name, 1) for each in findings(tick.cursor)]
            if sha[:10] in "".join(map(str, new)) and new != found:
                found = new
                self._say(" ".join(map(str, found)), started)
                if found[-1].outcome is Outcome.NOTHING_DUE:
                    self._console.print(_savings(dagster.instance, name))
                    return
            time.sleep(0.2)
        raise LaptopError(f"nothing came of the commit in {_SECONDS} s: see {dagster.log}")

    def _say(self, what: str, started: float) -> None:
        self._console.print(f"  {time.monotonic() - started:5.1f} s  {escape(what)}")


def _table(instance: dg.DagsterInstance, run_id: str, name: str) -> Table:
    table = Table("built", "why", "seconds", title=None)
    table.columns[2].justify = "right"
    page = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION)
    built: dict[dg.AssetKey, list[dg.AssetMaterialization]] = {}
    for record in page.records:
        event = record.asset_materialization
        if event and event.asset_key != pushes_key(name):
            built.setdefault(event.asset_key, []).append(event)
    for key, events in built.items():
        seconds = sum(float(_values(event.metadata)[SECONDS]) for event in events)
        why = next((w for event in events if (w := _values(event.metadata).get("why"))), "")
        table.add_row(key.to_user_string() + _partitions(events), str(why), f"{seconds:.2f}")
    table.add_section()
    table.add_row(_savings(instance, name), "", "")
    return table


def _partitions(events: Sequence[dg.AssetMaterialization]) -> str:
    """The partitions that were built, in the order in which their batches succeeded."""
    keys = [event.partition for event in events if event.partition]
    return f"\n{len(keys)} partitions, {keys[0]} … {keys[-1]}" if keys else ""


def _savings(instance: dg.DagsterInstance, name: str) -> str:
    event = instance.get_latest_materialization_event(pushes_key(name))
    assert event is not None
    assert event.asset_materialization is not None
    values = _values(event.asset_materialization.metadata)
    return (
        f"{values['built']} built, {values['left alone']} left alone:"
        f" {values['seconds saved']} s of dbt saved"
    )


def _values(metadata: Mapping[str, dg.MetadataValue[Any]]) -> dict[str, Any]:
    return {key: value.value for key, value in metadata.items()}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
