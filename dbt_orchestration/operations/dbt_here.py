"""A dbt command that the run of a form does itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg

from dbt_orchestration.dagster_internals import PlainFailure
from dbt_orchestration.dbt.invocation import DbtError, DbtInvocation, DbtTarget
from dbt_orchestration.dbt.parse import Revision
from dbt_orchestration.ledger.deferral import deferral_options
from dbt_orchestration.operations.dbt_command import FRESHNESS, LIST, DbtForm, argv
from dbt_orchestration.operations.loaded import Loaded
from dbt_orchestration.runs.artifacts import artifacts_folder
from dbt_orchestration.runs.table_locks import wait_for_file


@dataclass(frozen=True)
class Done:
    """What a command has left.

    Attributes:
        result: what dbt's ``dbtRunner`` returns.
        logged: what the project's Jinja has logged.
        folder: what dbt has written.
    """

    result: Any
    logged: Sequence[str]
    folder: Path


@dataclass(frozen=True)
class Here:
    """A command, on the environment's target, with the project of a revision.

    Attributes:
        form: was checked.
    """

    at: Loaded
    revision: Revision
    form: DbtForm

    @property
    def command(self) -> str:
        """The same for a terminal."""
        return str(DbtInvocation(self._target, argv(self.at.name, self.form)))

    def run(self, context: dg.OpExecutionContext) -> Done:
        """Run it, and keep what dbt writes with the run.

        Raises:
            dagster.Failure: dbt says why.
        """
        form, at = self.form, self.at
        folder = artifacts_folder(context.instance, context.run.run_id)
        # What dbt prints may be rows, which are not to be in the logs of a process.
        options = ["--target-path", str(folder), "--log-level", "none"]
        options += deferral_options(at.settings, at.name, context.instance, context.log)
        if form.command != LIST:
            wait_for_file(context.log, self._target)
        invocation = DbtInvocation(
            self._target,
            [*argv(at.name, form), *options],
            # Vars may decide configs and which nodes there are, so dbt has to parse again.
            None if form.vars else self.revision.load_parsed(),
            {"DAGSTER_RUN_ID": context.run.run_id},
        )
        for _ in invocation.events():
            pass
        result = getattr(invocation.result, "result", None)
        try:
            # What is not fresh is an answer, and no failure of the command.
            if form.command != FRESHNESS or not getattr(result, "results", None):
                invocation.raise_on_failure()
        except DbtError as error:
            raise PlainFailure(f"dbt {form.command} failed: {error}", allow_retries=False) from None
        return Done(result, invocation.logged, folder)

    @property
    def _target(self) -> DbtTarget:
        return DbtTarget.of(self.at.settings, self.at.name, self.revision.project_dir)
