"""One dbt command in this process, and its events as they happen.

dbt runs in a thread of the run's own process, through its documented ``dbtRunner``: no second
interpreter, no ``dbt --version``, no second parse. Cancelling interrupts dbt as Ctrl-C does,
cancels its queries in the warehouse, and waits; the thread is a daemon, so that even a query which
ignores all that ends with the run's process.
"""

from __future__ import annotations

import contextlib
import json
import os
import queue
import re
import shlex
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dbt_orchestration.dbt.internals import adapters, sessions
from dbt_orchestration.dbt.outcomes import Outcomes, Sample
from dbt_orchestration.dbt.snowflake_errors import in_one_line
from dbt_orchestration.settings.found import PROFILES, PROJECT
from dbt_orchestration.settings.models import Settings

CANCEL_SECONDS = 30.0
_BAD = ("error", "fail", "partial success")
# What one of our own macros logs before its answer.
_ANSWER = "dbt_orchestration: "
_FROM_JINJA = ("JinjaLogInfo", "JinjaLogWarning", "PrintEvent")
_DATABASE_SAID = re.compile(r"returned the following error:\s*>?(.*?)\n\nCheck your", re.DOTALL)
# And what of a project's own `flags` is ours to say: docs/dbt.md.
_QUIET = (
    "--no-send-anonymous-usage-stats",
    "--no-version-check",
    "--no-use-colors",
    "--log-level-file=none",
    "--no-fail-fast",
    "--no-upload-to-artifacts-ingest-api",
)

# dbt keeps its flags, adapters and loggers in module globals.
_one_at_a_time = threading.Lock()


class DbtError(RuntimeError):
    """dbt could not run, or nodes failed. The message is dbt's own, and short."""


@contextmanager
def _set(variables: Mapping[str, str]) -> Iterator[None]:
    """Set environment variables of this process, for a while."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@dataclass(frozen=True)
class DbtTarget:
    """A dbt project and the target of its profile to run against.

    Attributes:
        profiles_dir: where ``profiles.yml`` is; None leaves that to dbt, as ``profile`` and
            ``target`` of None do.
        log_dir: dbt's log files.
        variables: environment variables for dbt.
    """

    project_dir: Path
    log_dir: Path
    profiles_dir: Path | None = None
    profile: str | None = None
    target: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, settings: Settings, environment: str, project_dir: Path | None = None) -> DbtTarget:
        """The target of an environment, for the project in ``project_dir`` if not its own.

        A project that brings its profile is read with its own, whichever commit it is of. A profile
        beside the settings, where no project is, is that of every commit.
        """
        project, folder = project_dir or settings.project_dir, settings.profiles_dir
        own = folder == settings.project_dir and (
            (folder / PROJECT).is_file() or not (folder / PROFILES).is_file()
        )
        return cls(
            project,
            settings.state_dir / "logs",
            project if own else folder,
            settings.profile,
            settings.environment(environment).target,
            settings.dbt_environment,
        )

    def credentials(self) -> Any:
        """dbt's credentials of it. They are read in this process, which gets its variables.

        Raises:
            dbt_common.exceptions.DbtBaseException: as ``sessions.load_credentials``.
        """
        with _set(self.variables):
            return sessions.load_credentials(
                self.project_dir, self.profiles_dir, self.profile, self.target
            )

    @property
    def target_options(self) -> list[str]:
        named = {"--profile": self.profile, "--target": self.target}
        return [part for name, value in named.items() if value for part in (name, value)]

    @property
    def folder_options(self) -> list[str]:
        folders = {"--project-dir": self.project_dir, "--log-path": self.log_dir}
        if self.profiles_dir:
            folders["--profiles-dir"] = self.profiles_dir
        return [part for name, path in folders.items() for part in (name, str(path))]


@contextmanager
def dbt_session(
    target: DbtTarget, command: Sequence[str], manifest: Any | None = None
) -> Iterator[sessions.Session]:
    """What ``dbt <command>`` has when it begins: see ``sessions.session``.

    Raises:
        DbtError: the project cannot be loaded; the message is dbt's own.
    """
    from click import ClickException
    from dbt_common.exceptions import DbtBaseException

    with _one_at_a_time, _set(target.variables):
        quiet = [*_QUIET, *sessions.parser_options(), "--log-level=none"]
        arguments = [*command, *target.folder_options, *target.target_options, *quiet]
        try:
            with sessions.session(arguments, manifest) as session:
                yield session
        except DbtBaseException as error:
            raise DbtError(str(error).strip()) from None
        except ClickException as error:
            raise DbtError(error.format_message()) from None


class DbtInvocation:
    """``dbt <command>`` on a target; without a manifest dbt parses first.

    Args:
        sampled: which query shows rows that a failed test has found, by its unique id, its seconds
            and its compiled SQL; "" if none is to be asked. It is asked in dbt's own thread, while
            the test is being done.
    """

    def __init__(
        self,
        target: DbtTarget,
        command: Sequence[str],
        manifest: Any | None = None,
        variables: Mapping[str, str] | None = None,
        sampled: Callable[[str, float, str], str] = lambda *_: "",
    ) -> None:
        self.command = list(command)
        self._target = target.target_options
        self._folders = target.folder_options
        self._variables = {**target.variables, **(variables or {})}
        self._manifest = manifest
        self._sampled = sampled
        self._items: queue.SimpleQueue[dict[str, Any] | None] = queue.SimpleQueue()
        self._outcomes = Outcomes(self._hand_over)
        self._errors: dict[str, list[str]] = {}
        self._connection_error = ""
        self._operation_error = ""
        self._inline_error = ""
        self._hidden: Mapping[str, str] = {}
        self._thread = threading.Thread(target=self._run, name="dbt", daemon=True)
        self.answer: Any = None  # of one of our own macros
        self.logged: list[str] = []  # by the project's Jinja, to be shown
        self.result: Any = None  # dbt.cli.main.dbtRunnerResult, once dbt has ended

    def events(self) -> Iterator[dict[str, Any]]:
        """Run, yielding each result event as ``Outcomes`` hands it over, with the compiled SQL.

        Whatever interrupts the caller (a cancelled run raises here) stops dbt first.
        """
        with _one_at_a_time:
            self._thread.start()
            try:
                while (event := self._items.get()) is not None:
                    yield event
            except BaseException:
                self._cancel()
                raise
            self._thread.join()

    def finish(self) -> Any:
        """Run to the end and return what dbt returns, for commands whose events nobody needs.

        Raises:
            DbtError: as ``raise_on_failure``.
        """
        for _ in self.events():
            pass
        self.raise_on_failure()
        return self.result.result

    def __str__(self) -> str:
        """The same command for a terminal."""
        return shlex.join(["dbt", *self.command, *self._target])

    def raise_on_failure(self) -> None:
        """Raises:
        DbtError: dbt failed; says which nodes and why, or what stopped dbt from starting.
        """
        if self.result is None:
            raise DbtError(f"`{self}` ended without a result")
        if self.result.success:
            return
        if self._inline_error:
            raise DbtError(self._inline_error)
        if self.result.exception is not None:
            raise DbtError(_plain(str(self.result.exception).strip()))
        results = getattr(self.result.result, "results", None)
        if not results:
            said = _plain(self._connection_error)
            raise DbtError(said or f"`{self}` failed; its output says why")
        raise DbtError(self._explain(results))

    @property
    def failed(self) -> Mapping[str, str]:
        """Why each node or test that failed did, by unique id."""
        results = getattr(self.result.result, "results", None) if self.result else None
        return {
            result.node.unique_id: "\n".join(self._reasons(result))
            for result in results or ()
            if result.status in _BAD and hasattr(result, "node")
        }

    def left_out(self, unique_ids: Collection[str]) -> set[str]:
        """Those of the nodes and tests that dbt neither did nor skipped because others failed.

        Empty if it did not come to build anything, and so failed as a whole.
        """
        results = getattr(self.result.result, "results", None)
        if results is None:
            return set()
        excused = not self.result.success
        done = {r.node.unique_id for r in results if r.status != "skipped" or excused}
        return set(unique_ids) - done

    def _explain(self, results: Sequence[Any]) -> str:
        bad = [r for r in results if r.status in _BAD]
        skipped = sum(1 for r in results if r.status == "skipped")
        if not all(hasattr(result, "node") for result in bad):  # of an operation
            return _plain(self._operation_error)
        lines = [f"{len(bad)} of {len(results)} dbt nodes failed, {skipped} were skipped."]
        for result in bad:
            node = result.node
            lines.append(f"{node.resource_type} {node.name} ({node.original_file_path}):")
            reasons = list(self._reasons(result))
            refused = in_one_line("\n".join(reasons), adapters.snowflake_login())
            lines += [f"  {line}" for line in ([refused] if refused else reasons)]
        return "\n".join(lines)

    def _reasons(self, result: Any) -> Iterable[str]:
        """The lines that say why a node failed."""
        reasons = self._errors.get(result.node.unique_id) or [result.message or result.status]
        return dict.fromkeys("\n".join(reasons).splitlines())

    def _run(self) -> None:
        try:
            # Loading a code location needs no dbt, and dbt takes a while to import.
            from dbt.cli.main import dbtRunner

            adapters.adjust_adapters()
            runner = dbtRunner(manifest=self._manifest, callbacks=[self._on_event])
            command = [*self.command, *self._folders, *self._target, *_QUIET]
            command += sessions.parser_options()
            try:
                with _set(self._variables), sessions.without_our_variables() as self._hidden:
                    self.result = runner.invoke(command)
            finally:
                self._outcomes.end()
        finally:
            self._items.put(None)

    def _on_event(self, event: Any) -> None:
        self._outcomes.see(event)
        if event.info.name == "LogTestResult" and event.data.status in ("fail", "warn"):
            self._take_sample(event.data.node_info.unique_id, event.data.execution_time)
        elif event.info.name == "MainReportVersion":  # the first one
            sessions.limit_jinja(self._hidden)
        elif event.info.name in ("GenericExceptionOnRun", "CatchableExceptionOnRun"):
            # What a batch failed of stands only here: its model's own result says "1 of 3 failed",
            # or "ERROR" where the first one did not compile.
            errors = self._errors.setdefault(event.data.node_info.unique_id, [])
            errors.append(event.data.exc.removeprefix("Exception on worker thread. "))
        elif event.info.name == "JinjaLogDebug" and event.data.msg.startswith(_ANSWER):
            self.answer = json.loads(event.data.msg.removeprefix(_ANSWER))
        elif event.info.name in _FROM_JINJA:
            self.logged.append(event.data.msg)
        elif event.info.name == "RunningOperationCaughtError":
            self._operation_error = " ".join(event.data.exc.split())
        elif (
            event.info.name == "ParseInlineNodeError"
        ):  # the exception says only that there was one
            self._inline_error = " ".join(event.data.exc.split())
        elif event.info.name == "DebugCmdResult" and (
            said := _DATABASE_SAID.search(event.info.msg)
        ):
            # `dbt debug` says it nowhere else, and not at all with --quiet.
            self._connection_error = " ".join(said[1].split())

    def _hand_over(self, event: dict[str, Any]) -> None:
        data = event["data"]
        data["outcome"]["compiled"] = self._compiled(data["node_info"]["unique_id"])
        self._items.put(event)

    def _compiled(self, unique_id: str) -> str:
        sql = sessions.compiled_code(self._manifest, unique_id) if self._manifest else None
        return sql or ""

    def _take_sample(self, unique_id: str, seconds: float) -> None:
        sql = self._compiled(unique_id)
        if sql and (query := self._sampled(unique_id, seconds, sql)):
            try:
                sample = Sample(*adapters.answer(unique_id, query))
            except Exception as error:  # whatever it is, the test has failed already
                sample = Sample(error=str(error).strip())
            self._outcomes.add("sample", sample)

    def _cancel(self) -> None:
        # A thread that waits for a query sees the interrupt only when the query returns, hence
        # both; and again, because a node may just have been about to send its next statement.
        sessions.interrupt(self._thread)
        deadline = time.monotonic() + CANCEL_SECONDS
        while self._thread.is_alive() and time.monotonic() < deadline:
            with contextlib.suppress(Exception):  # a warehouse that is gone cannot hold us up
                sessions.cancel_queries()
            self._thread.join(0.2)


def _plain(message: str) -> str:
    """What stopped dbt as a whole; with what to do, if Snowflake did."""
    return in_one_line(message, adapters.snowflake_login()) or message
