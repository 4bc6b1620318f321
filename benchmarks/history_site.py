"""An environment that lives through history in one process: the real sensor, runs and warehouse.

Dagster's daemon and the process that prepares commits are played: a tick and a run happen when
they are asked for, and each leaves nothing behind in the process.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shutil
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import dagster as dg
import duckdb
from dagster._core.instance.runs.run_domain import RunDomain

from benchmarks.history_world import DATABASE, Content, Node, alone, read
from benchmarks.soundness_world import PROJECT, SOURCES, State
from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.automation.outcome import Finding, Outcome, findings
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.history.order import Order
from dbt_orchestration.ledger.due import Due, Ledger
from dbt_orchestration.location.assets import dbt_assets
from dbt_orchestration.revisions.current import current, open_revision
from dbt_orchestration.runs.landing import Landing
from dbt_orchestration.runs.plan import RunPlan
from dbt_orchestration.settings.models import Environment, Push
from tests.automation.site import Site, git, prepared_here
from tests.automation.test_rebuild import started
from tests.conftest import failure

NAME = "prod"
_RUNS = 5
_THREADS_SECONDS = 60
_FAILED = re.compile(r"^(model|seed|snapshot|test|unit_test) (\S+) \((.*)\):$", re.MULTILINE)


@dataclass(frozen=True)
class Ran:
    """One run: what it was to build, what it built, and what it said if it failed."""

    request: str
    asked: frozenset[str]
    built: frozenset[str]
    rebuilt: frozenset[str]
    success: bool
    failure: str = ""
    interrupted: bool = False

    @property
    def failed(self) -> Mapping[str, str]:
        """Name to kind, of the nodes that dbt says failed."""
        return {name: kind for kind, name, _ in _FAILED.findall(self.failure)}


@dataclass(frozen=True)
class Settled:
    """Where the sensor came to rest.

    Attributes:
        endless: the same commit made it start more runs than can be right.
    """

    said: str
    found: Sequence[Finding]
    runs: list[Ran]
    due: Due | None
    endless: bool = False

    @property
    def prepared(self) -> bool:
        return all(each.outcome is not Outcome.BROKEN for each in self.found)

    @property
    def is_good(self) -> bool:
        """Whether everything is as the commit says, but for what waits for a person."""
        outcomes = {each.outcome for each in self.found}
        return self.prepared and bool(outcomes & {Outcome.NOTHING_DUE, Outcome.WAITS_FOR_APPROVAL})


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """Prepare commits here, rather than in processes of their own, and be quiet."""
    with (
        prepared_here(),
        patch.object(logging.getLogger("dagster"), "level", logging.CRITICAL),
        patch.dict(os.environ),
    ):
        for name in list(os.environ):
            if name.startswith(("DBT_", "SNOWFLAKE_", "DAGSTER_HOME")):
                del os.environ[name]
        yield


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing that dbt and Dagster print is seen."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


@dataclass
class Living(Site):
    """The environment, and a clone to push to it from."""

    launched: set[str] = field(default_factory=set)
    revision: Revision | None = None
    _results: dict[str, dg.ExecuteInProcessResult] = field(default_factory=dict)

    def load(self, name: str = NAME) -> dg.Definitions:
        """What the code location is after it has reloaded."""
        loaded = super().load(name)
        digest = current(self.settings, name)
        self.revision = open_revision(self.settings, name, digest) if digest else None
        return loaded

    @property
    def dbt(self) -> DbtAssets | None:
        """The assets that are loaded."""
        if self.revision is None:
            return None
        return dbt_assets(self.settings, NAME, self.revision, self.settings.pool)

    @classmethod
    @contextlib.contextmanager
    def at(cls, home: Path) -> Iterator[Living]:
        """The site in ``home``; a new one, if nothing is there."""
        (home / "dagster").mkdir(parents=True, exist_ok=True)
        environment = Environment(
            branch="main", target="dev", push=Push(interval_seconds=1), keep_replaced=1
        )
        with dg.DagsterInstance.local_temp(str(home / "dagster")) as instance:
            site = cls.of(
                home,
                instance,
                PROJECT,
                profile="soundness",
                duckdb_path=home / "warehouse" / DATABASE,
                # The second is in environments.yaml, and may not have the same target.
                environments={NAME: environment, "dev": Environment(branch="dev", target="other")},
            )
            if not site.settings.duckdb_path.is_file():
                site.settings.duckdb_path.parent.mkdir()
                with duckdb.connect(str(site.settings.duckdb_path)) as connection:
                    connection.execute(SOURCES)
            yield site

    def commit(self, state: State, message: str) -> str:
        """Push the state as the newest commit of the branch."""
        folder = self.clone.folder / "dbt"
        shutil.rmtree(folder)
        for path, text in state.files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(text.encode())
        return self.clone.push(message)

    def force_push(self, sha: str) -> None:
        """Make an earlier commit the newest one of the branch."""
        git(self.clone.folder, "reset", "--quiet", "--hard", sha)
        git(self.clone.folder, "push", "--quiet", "--force", "origin", f"{sha}:main")

    def restart(self, environment: Mapping[str, str]) -> None:
        """Restart with these environment variables: what is loaded is loaded anew."""
        os.environ.update(environment)
        with quiet(), alone():
            self.load(NAME)

    def settle(self, interrupt_after: int | None = None) -> Settled:
        """Tick and run until there is nothing more to do for the newest commit.

        Args:
            interrupt_after: stop the first run after so many results of dbt.
        """
        runs: list[Ran] = []
        while True:
            with quiet(), alone():
                data = self._settled(NAME)
            found = findings(data.cursor)
            if not data.run_requests:
                return Settled(data.skip_message or "", found, runs, self.due())
            [request] = data.run_requests
            if request.run_key in self.launched or len(runs) >= _RUNS:
                return Settled(
                    f"starts a run again: {request.run_key}", found, runs, self.due(), True
                )
            self.launched.add(str(request.run_key))
            ran = self.start(request, interrupt_after)
            runs.append(ran)
            if interrupt_after is not None and ran.interrupted:
                return Settled("interrupted", found, runs, None)

    def start(
        self, request: dg.RunRequest, interrupt_after: int | None = None, job: str = ""
    ) -> Ran:
        """Run what was asked for, of the job of this name, or of all assets."""
        assets, checks = set(request.asset_selection or ()), set(request.asset_check_keys or ())
        interruption = _Interruption(interrupt_after)
        threads = set(threading.enumerate())
        with quiet(), alone():
            with interruption.ready():
                result = self._execute(assets, checks, request.run_config, request.tags, job)
            if interruption.happened:
                # They would have ended with the process.
                for thread in set(threading.enumerate()) - threads:
                    thread.join(_THREADS_SECONDS)
        return self._ran(result, interruption.happened)

    def _execute(
        self,
        assets: set[dg.AssetKey],
        checks: set[dg.AssetCheckKey],
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        name: str = "",
    ) -> dg.ExecuteInProcessResult:
        loaded = self.loaded[NAME]
        job = (
            loaded.resolve_job_def(name) if name else loaded.resolve_implicit_global_asset_job_def()
        )
        job = job.get_subset(asset_selection=assets, asset_check_selection=checks)
        create = RunDomain.create_run

        def create_run(domain: RunDomain, **known: Any) -> dg.DagsterRun:
            # What a run in another process is recorded with. In this one Dagster leaves it out.
            return create(
                domain, **{**known, "asset_selection": assets, "asset_check_selection": checks}
            )

        with patch.object(RunDomain, "create_run", create_run):
            return job.execute_in_process(
                instance=self.instance, run_config=config, tags=tags, raise_on_error=False
            )

    def resume(self, interrupted: dg.ExecuteInProcessResult) -> dg.ExecuteInProcessResult:
        """What Dagster does with a run whose process died, or a person with "from failure"."""
        run = interrupted.dagster_run
        succeeded = {
            event.materialization.asset_key
            for event in interrupted.get_asset_materialization_events()
        }
        checked = {
            dg.AssetCheckKey(e.asset_key, e.check_name)
            for e in interrupted.get_asset_check_evaluations()
        }
        assets = set(run.asset_selection or ()) - succeeded
        checks = set(run.asset_check_selection or ()) - checked
        tags = {
            **{k: v for k, v in run.tags.items() if not k.startswith("dagster/")},
            "dagster/parent_run_id": run.run_id,
            "dagster/root_run_id": run.root_run_id or run.run_id,
            "dagster/is_asset_resume_retry": "true",
        }
        return self._execute(assets, checks, run.run_config, tags)

    def go_on(self) -> Ran:
        """Resume the last run."""
        [record] = self.instance.get_run_records(limit=1)
        with quiet(), alone():
            return self._ran(self.resume(self._results[record.dagster_run.run_id]), False)

    def full_build(self, interrupt_after: int | None = None) -> Ran:
        """What the schedule of the morning does.

        Args:
            interrupt_after: stop it after so many results of dbt.
        """
        definitions = self.loaded[NAME]
        now = datetime.now(UTC)
        # Left open, it is closed at any time, and Dagster then looks for an instance that is gone.
        with quiet(), dg.build_schedule_context(self.instance, now) as context:
            schedule = definitions.resolve_schedule_def(f"{NAME}_full_build_schedule")
            [request] = schedule.evaluate_tick(context).run_requests or ()
        return self.start(request, interrupt_after, schedule.job_name)

    def click(self, names: Collection[str]) -> Ran:
        """Materialize these assets by hand."""
        with quiet(), alone():
            keys = {dg.AssetKey(name.split("/")) for name in names}
            graph = self.loaded[NAME].resolve_asset_graph()
            checks = {key for key in graph.asset_check_keys if key.asset_key in keys}
            return self._ran(self._execute(keys, checks), False)

    def order(self, form: str, **fields: Any) -> str:
        """Launch a form; why it was refused, or "" if it was not."""
        with quiet(), alone():
            result = self.launch(form, **fields)
        return "" if result.success else failure(result)

    def asked(self) -> list[dg.RunRequest]:
        """What forms ask for, and nobody has started yet."""
        with quiet(), alone():
            requests = started(self, NAME)
        new = [request for request in requests if request.run_key not in self.launched]
        self.launched |= {str(request.run_key) for request in new}
        return new

    def forget(self, relation: str) -> None:
        """Drop a table or view that no node has any more."""
        schema, name = relation.split(".", 1)
        with duckdb.connect(str(self.settings.duckdb_path)) as connection:
            for kind in ("view", "table"):
                with contextlib.suppress(duckdb.Error):
                    connection.execute(f'drop {kind} "{schema}"."{name}"')

    def relations(self) -> set[str]:
        """All tables and views of the warehouse."""
        with alone(), duckdb.connect(str(self.settings.duckdb_path), read_only=True) as connection:
            rows = connection.execute(
                "select lower(table_schema || '.' || table_name) from information_schema.tables"
            ).fetchall()
        return {name for (name,) in rows}

    def content(self, nodes: Mapping[str, Node]) -> Content:
        """What stands under the names of these nodes."""
        return read(self.settings.duckdb_path, nodes)

    def assets(self) -> list[str]:
        """All that a person could materialize."""
        key = self.loaded[NAME].resolve_asset_graph().materializable_asset_keys
        return sorted("/".join(k.path) for k in key if k.path[-1] != "pushes")

    def due(self) -> Due | None:
        """What the newest commit makes due; None if none was built yet."""
        dbt = self.dbt
        if dbt is None or self.revision is None:
            return None
        with quiet(), alone():
            ledger = Ledger(self.settings, NAME, self.instance, self.revision, dbt)
            return ledger.due(lambda _: True)

    def _ran(self, result: dg.ExecuteInProcessResult, interrupted: bool) -> Ran:
        self._results = {result.run_id: result}
        run = result.dagster_run
        failure = ""
        for event in result.all_events:
            if event.is_step_failure:
                data = event.step_failure_data
                said = data.user_failure_data and data.user_failure_data.description
                failure = said or str(data.error)[-2000:]
        built = result.get_asset_materialization_events()
        return Ran(
            run.run_id,
            frozenset("/".join(key.path) for key in run.asset_selection or ()),
            frozenset("/".join(e.materialization.asset_key.path) for e in built),
            frozenset(Order.of_tags(run.tags).rebuild),
            result.success,
            failure,
            interrupted,
        )


class _Interruption:
    def __init__(self, after: int | None) -> None:
        self._after = after
        self.happened = False

    @contextlib.contextmanager
    def ready(self) -> Iterator[None]:
        """Stop the run that is started inside after so many results of dbt."""
        if self._after is None:
            yield
            return
        results, left = Landing.results, [self._after]

        def interrupted(
            landing: Landing, work: RunPlan, event: Mapping[str, object]
        ) -> Iterator[object]:
            left[0] -= 1
            if left[0] < 0:
                self.happened = True
                raise dg.DagsterExecutionInterruptedError
            yield from results(landing, work, event)

        with patch.object(Landing, "results", interrupted):
            yield
