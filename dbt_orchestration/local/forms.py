"""Forms from the command line: the jobs that the Launchpad has, in this process."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg

from dbt_orchestration.dbt.parse import PrepareError
from dbt_orchestration.ledger.run_tags import USER_TAG
from dbt_orchestration.local.dagster_process import LaptopError
from dbt_orchestration.local.up import home_of
from dbt_orchestration.location.definitions import build_definitions
from dbt_orchestration.settings.models import Settings, SettingsError
from dbt_orchestration.settings.types import named

_QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}


def launch(
    settings: Settings, environment: str | None, form: str, fields: Mapping[str, Any]
) -> tuple[str, str]:
    """Launch a form of an environment, and wait for what it says.

    Args:
        environment: its name; None for the first one.
        form: the job's name, after the environment's.

    Returns:
        Its plan, in Markdown, and what happens now.

    Raises:
        LaptopError: it refuses, or cannot be launched here.
    """
    name = environment or next(iter(settings.environments))
    home = os.environ.get("DAGSTER_HOME") or str(home_of(settings))
    if not (Path(home) / "dagster.yaml").is_file():
        raise LaptopError(
            f"there is no dagster.yaml in {home}: start Dagster with dbt-orchestration up, or set"
            " DAGSTER_HOME to the folder of the one that works"
        )
    os.environ.update({**settings.dbt_environment, "DAGSTER_HOME": home})
    try:
        settings.environment(name)
        with dg.DagsterInstance.get() as instance:
            return _launch(settings, name, form, fields, instance)
    except (SettingsError, PrepareError) as error:
        raise LaptopError(str(error)) from None


def _launch(
    settings: Settings,
    name: str,
    form: str,
    fields: Mapping[str, Any],
    instance: dg.DagsterInstance,
) -> tuple[str, str]:
    jobs = {job.name: job for job in build_definitions(settings, name).jobs or ()}
    job = jobs.get(named(name, form))
    if not isinstance(job, dg.JobDefinition):
        raise LaptopError(
            f"{name} has no {form}: it follows no branch, or no commit of it was prepared yet"
        )
    [op] = job.nodes
    result = job.execute_in_process(
        instance=instance,
        run_config={"ops": {op.name: {"config": dict(fields)}}, "loggers": _QUIET},
        tags=_user(),
        raise_on_error=False,
    )
    for event in result.all_events:
        if event.is_successful_output:
            said = event.step_output_data.metadata
            return str(said["plan"].value), str(said["next"].value)
    for event in result.all_events:
        if event.is_step_failure:
            failed = event.step_failure_data
            words = failed.user_failure_data and failed.user_failure_data.description
            raise LaptopError(words or str(failed.error and failed.error.message))
    raise LaptopError(f"run {result.run_id} of {job.name} ended without a word: see it in Dagster")


def _user() -> Mapping[str, str]:
    try:
        return {USER_TAG: getpass.getuser()}
    except (KeyError, OSError):  # of a container that knows no users
        return {}
