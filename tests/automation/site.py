"""A remote, a clone of it, and environments that follow it: everything but Dagster's daemon."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import dagster as dg
import duckdb
from dagster._core.definitions.metadata.metadata_value import (
    CodeLocationReconstructionMetadataValue,
)
from dagster._core.definitions.repository_definition.repository_definition import (
    RepositoryLoadData,
)
from dagster._core.execution.api import create_execution_plan

from dbt_orchestration.automation.outcome import BY_ITSELF, Outcome, findings
from dbt_orchestration.dbt.internals import adapters
from dbt_orchestration.location.definitions import build_definitions, check_revision
from dbt_orchestration.revisions.explanation import Recorded
from dbt_orchestration.revisions.follow import Follower
from dbt_orchestration.settings.models import Environment, Git, Push, Schedule, Settings
from tests.conftest import PROJECTS

SHOP = PROJECTS / "shop"
# A tick asks git if the last one that did is a second ago or more.
ALWAYS = Push(interval_seconds=1)
_MOST_RUNS = 5
_GIT = {
    "GIT_AUTHOR_NAME": "Ann",
    "GIT_AUTHOR_EMAIL": "ann@example.com",
    "GIT_COMMITTER_NAME": "Ann",
    "GIT_COMMITTER_EMAIL": "ann@example.com",
    "GIT_CONFIG_GLOBAL": os.devnull,
}


def git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=folder,
        env={**os.environ, **_GIT},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()


@dataclass
class Clone:
    """A bare remote whose project is in the folder ``dbt``, and a person's clone of it."""

    home: Path
    project: Path = SHOP

    def __post_init__(self) -> None:
        if self.remote.is_dir():  # a copy of another one
            git(self.folder, "remote", "set-url", "origin", str(self.remote))
            return
        git(self.home, "init", "--quiet", "--bare", "--initial-branch=main", str(self.remote))
        git(self.home, "clone", "--quiet", str(self.remote), str(self.folder))
        git(self.folder, "checkout", "-q", "-B", "main")
        shutil.copytree(self.project, self.folder / "dbt")
        self.push("first")

    @property
    def remote(self) -> Path:
        return self.home / "remote.git"

    @property
    def folder(self) -> Path:
        return self.home / "clone"

    def edit(self, path: str, old: str, new: str) -> None:
        file = self.folder / "dbt" / path
        text = file.read_text()
        assert old in text, f"{path} has no {old!r}"
        file.write_text(text.replace(old, new))

    def write(self, path: str, text: str) -> None:
        (self.folder / "dbt" / path).write_text(text)

    def commit(self, message: str) -> str:
        git(self.folder, "add", "--all")
        git(self.folder, "commit", "--quiet", "--allow-empty", "-m", message)
        return self.head()

    def head(self, before: int = 0) -> str:
        """The newest commit, or that so many before it."""
        return git(self.folder, "rev-parse", f"HEAD~{before}")

    def push(self, message: str, branch: str = "main") -> str:
        sha = self.commit(message)
        git(self.folder, "push", "--quiet", "--force", "origin", f"HEAD:{branch}")
        return sha


@dataclass
class Site:
    """Environments that follow a clone's remote; ticks and runs happen when they are asked for."""

    clone: Clone
    instance: dg.DagsterInstance
    settings: Settings
    cursors: dict[str, str | None] = field(default_factory=dict)
    loaded: dict[str, dg.Definitions] = field(default_factory=dict)

    @classmethod
    def of(
        cls, home: Path, instance: dg.DagsterInstance, project: Path = SHOP, **changes: Any
    ) -> Self:
        """A site of ``project``, whose profile is taken for that of the installation."""
        clone = Clone(home, project)
        return cls(clone, instance, follow(home, str(clone.remote), project, **changes))

    def load(self, name: str = "prod") -> dg.Definitions:
        """What the code location is after it has reloaded."""
        self.loaded[name] = build_definitions(self.settings, name)
        return self.loaded[name]

    def tick(self, name: str = "prod") -> dg.SensorExecutionData:
        """One evaluation of the sensor as it was loaded last."""
        definitions = self.loaded.get(name) or self.load(name)
        with dg.build_sensor_context(
            self.instance, cursor=self.cursors.get(name), definitions=definitions
        ) as context:
            data = definitions.resolve_sensor_def(f"{name}_push").evaluate_tick(context)
        self.cursors[name] = data.cursor
        for event in data.asset_events:
            self.instance.report_runless_asset_event(event)
        return data

    def says(self, name: str = "prod") -> str:
        """Ticks and reloads until the newest commit is loaded; what a tick then says."""
        data = self._settled(name)
        assert not data.run_requests, data.run_requests
        return data.skip_message or ""

    def request(self, name: str = "prod") -> dg.RunRequest:
        """Ticks and reloads until a run is asked for."""
        data = self._settled(name)
        requests: Sequence[dg.RunRequest] = data.run_requests or ()
        assert len(requests) == 1, data.skip_message
        return requests[0]

    def build_all(self, name: str = "prod") -> str:
        """Build what is due, until no more runs are asked for; what a tick then says."""
        for _ in range(_MOST_RUNS):
            data = self._settled(name)
            if not data.run_requests:
                return data.skip_message or ""
            self.run(data.run_requests[0], name)
        raise AssertionError(f"still asks for runs after {_MOST_RUNS}")

    def launch(
        self, form: str, who: str = "", name: str = "prod", /, **fields: Any
    ) -> dg.ExecuteInProcessResult:
        """What a person does who launches a form of an environment from the Launchpad."""
        adapters.close_duckdb()  # the process of a form has not opened it
        job = (self.loaded.get(name) or self.load(name)).resolve_job_def(f"{name}_{form}")
        [op] = job.nodes
        return job.execute_in_process(
            instance=self.instance,
            run_config={"ops": {op.name: {"config": fields}}},
            tags={"user": who} if who else {},
            raise_on_error=False,
        )

    def _settled(self, name: str) -> dg.SensorExecutionData:
        """The first tick that is not about what has still to come by itself."""
        while True:
            data = self.tick(name)
            outcome = findings(data.cursor)[-1].outcome
            if outcome is Outcome.LOADING:
                self.load(name)
            elif outcome not in BY_ITSELF:
                return data

    def run(self, request: dg.RunRequest, name: str = "prod") -> dg.ExecuteInProcessResult:
        """What the run that was asked for does."""
        job = self.loaded[name].resolve_implicit_global_asset_job_def()
        selected, checks = set(request.asset_selection or ()), set(request.asset_check_keys or ())
        alone = any(check.asset_key not in selected for check in checks)
        if alone:
            job = job.get_subset(asset_selection=selected, asset_check_selection=checks)
        return job.execute_in_process(
            instance=self.instance,
            # What the run's record says it was to build; it cannot say that of checks alone.
            asset_selection=None if alone else sorted(selected),
            run_config=request.run_config,
            tags=dict(request.tags),
            raise_on_error=False,
        )

    def retry(self, request: dg.RunRequest, failed: str) -> dg.ExecuteInProcessResult:
        """What Dagster starts in the place of a run (its id) that failed."""
        tags = {
            **request.tags,
            "dagster/parent_run_id": failed,
            "dagster/root_run_id": request.tags.get("dagster/root_run_id", failed),
            "dagster/is_asset_resume_retry": "true",
        }
        return self.run(request.with_replaced_attrs(tags=tags))

    def build(self, name: str = "prod") -> dg.ExecuteInProcessResult:
        """Do what is due."""
        return self.run(self.request(name), name)

    def materialize(
        self, *names: str, name: str = "prod", config: Mapping[str, Any] | None = None
    ) -> dg.ExecuteInProcessResult:
        """What a person does who presses Materialize."""
        keys = {dg.AssetKey([name, *each.split("/")]) for each in names}
        job = self.loaded[name].resolve_implicit_global_asset_job_def()
        return job.get_subset(asset_selection=keys).execute_in_process(
            instance=self.instance,
            run_config={"ops": {f"dbt_{name}": {"config": dict(config)}}} if config else None,
            raise_on_error=False,
        )

    def query(self, sql: str) -> list[tuple[Any, ...]]:
        with duckdb.connect(str(self.settings.duckdb_path)) as connection:
            return connection.execute(sql).fetchall()


def follow(home: Path, remote: str, project: Path = SHOP, **changes: Any) -> Settings:
    """Settings of an installation whose project is nowhere but in the remote."""
    environments: Mapping[str, Environment] = changes.pop("environments", None) or {
        "prod": Environment(branch="main", target="prod", push=ALWAYS),
        "dev": Environment(
            branch="dev", target="dev", full_build=Schedule(enabled=False), push=ALWAYS
        ),
    }
    shutil.copytree(project, home / "profile", dirs_exist_ok=True)
    values = {
        "project_dir": home / "nowhere",
        "profiles_dir": home / "profile",
        "state_dir": home / "state",
        "git": Git(remote=remote, project_path="dbt"),
        "environments": environments,
        "load_raw": False,
        **changes,
    }
    return Settings(**values)


@dataclass
class _Ended:
    """A process that has ended."""

    status: int

    def poll(self) -> int:
        return self.status


def launched_by(
    instance: dg.DagsterInstance, job: dg.JobDefinition, digest: str, name: str = "prod"
) -> None:
    """A run that waits, of a code location that had loaded this revision of an environment."""
    # As the code server gives it to the daemon.
    pinned = CodeLocationReconstructionMetadataValue(digest)
    data = RepositoryLoadData(reconstruction_metadata={f"dbt_orchestration/{name}": pinned})
    plan = create_execution_plan(job)._replace(repository_load_data=data)
    instance.create_run_for_job(job, execution_plan=plan, status=dg.DagsterRunStatus.STARTING)


@contextlib.contextmanager
def prepared_here() -> Iterator[None]:
    """Commits are prepared in this process, rather than in processes of their own."""

    def start(self: Follower, sha: str, recorded: Collection[Recorded]) -> _Ended:
        adapters.close_duckdb()  # so has the process of a run that has ended
        return _Ended(self.work(sha, recorded, check_revision))

    # So does each run, and dbt takes a profile for another one then, and parses all files anew.
    adapters.adjust_adapters()
    with patch.object(Follower, "_start", start):
        yield


def names(request: dg.RunRequest) -> list[str]:
    """The assets that a run is asked to build."""
    return sorted(key.path[-1] for key in request.asset_selection or ())
