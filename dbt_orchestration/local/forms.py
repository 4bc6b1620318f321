"""Forms from the command line: the jobs that the Launchpad has, in this process."""

from __future__ import annotations

import getpass
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import dagster as dg
import yaml

from dbt_orchestration import dagster_internals
from dbt_orchestration.dbt.parse import PrepareError
from dbt_orchestration.ledger.run_tags import FORM_TAG, USER_TAG
from dbt_orchestration.local.dagster_process import LaptopError
from dbt_orchestration.local.up import home_of, make_home
from dbt_orchestration.location.definitions import build_definitions
from dbt_orchestration.settings import postgres
from dbt_orchestration.settings.models import Settings, SettingsError
from dbt_orchestration.settings.types import named

_QUIET = {"console": {"config": {"log_level": "CRITICAL"}}}


def launch(
    settings: Settings,
    environment: str | None,
    form: str,
    fields: Mapping[str, Any] | Sequence[str],
) -> tuple[str, str]:
    """Launch a form of an environment, and wait for what it says.

    Args:
        environment: its name; None for the first one.
        form: the job's name, with or without the environment's before it.
        fields: by name; or as options: ``--dry-run``, ``--select orders+``, ``--help``.

    Returns:
        Its plan, in Markdown, and what happens now.

    Raises:
        LaptopError: it refuses, or cannot be launched here.
        SystemExit: the options ask for help.
    """
    with _forms(settings, environment) as (name, forms, instance):
        wanted = form.replace("-", "_").removeprefix(named(name, ""))
        if wanted not in forms:
            raise LaptopError(
                f"no form is called {form!r}; {name} has {', '.join(sorted(forms))}:"
                " write dbt-orchestration launch FORM"
                if forms
                else f"{name} has no form {form!r}: it follows no branch, or no commit was prepared"
                " yet"
            )
        job = forms[wanted]
        said = fields if isinstance(fields, Mapping) else _parse(wanted, job, fields)
        return _launch(job, said, instance)


def list_forms(settings: Settings, environment: str | None) -> Mapping[str, str]:
    """What each form of an environment is for, by name.

    Raises:
        LaptopError: as ``launch``.
    """
    with _forms(settings, environment) as (_, forms, _):
        return {name: job.description or "" for name, job in sorted(forms.items())}


@contextmanager
def _forms(
    settings: Settings, environment: str | None
) -> Iterator[tuple[str, Mapping[str, dg.JobDefinition], dg.DagsterInstance]]:
    """The environment's name, its forms and the instance of Dagster that has it."""
    name = environment or next(iter(settings.environments))
    home = _home(settings)
    os.environ.update({**settings.dbt_environment, "DAGSTER_HOME": str(home)})
    try:
        settings.environment(name)
        with dg.DagsterInstance.get() as instance:
            jobs = build_definitions(settings, name).jobs or ()
            forms = {
                job.name.removeprefix(named(name, "")): job
                for job in jobs
                if isinstance(job, dg.JobDefinition) and FORM_TAG in job.tags
            }
            yield name, forms, instance
    except (SettingsError, PrepareError) as error:
        raise LaptopError(str(error)) from None
    except dg.DagsterInvalidConfigError as error:
        said = " ".join(error.errors[0].message.split())
        raise LaptopError(f"{home / 'dagster.yaml'}: {said}") from None


def _home(settings: Settings) -> Path:
    """The folder of the Dagster that works; that of ``up`` may be started later."""
    named = os.environ.get("DAGSTER_HOME")
    home = Path(named) if named else home_of(settings)
    if not (home / "dagster.yaml").is_file():
        if named:
            raise LaptopError(
                f"there is no dagster.yaml in {home}: set DAGSTER_HOME to the folder of the Dagster"
                " that works"
            )
        make_home(settings)
    try:
        postgres.use_driver()
    except ValueError as error:
        raise LaptopError(str(error)) from None
    return home


def _parse(name: str, job: dg.JobDefinition, options: Sequence[str]) -> Mapping[str, Any]:
    command = click.Command(name, params=_options(job), help=job.description)
    try:
        with command.make_context(name, list(options)) as context:
            given = context.params
    except click.ClickException as error:
        raise LaptopError(f"{name}: {error.format_message()}") from None
    except click.exceptions.Exit as shown:  # its help
        raise SystemExit(shown.exit_code) from None
    return {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}


def _options(job: dg.JobDefinition) -> list[click.Parameter]:
    """A form's fields as options; of what type they are is told by what the form begins with."""
    [op] = job.nodes
    begins: Mapping[str, Any] = (job.run_config or {})["ops"][op.name]["config"]
    described = dagster_internals.field_descriptions(op.definition)
    options: list[click.Parameter] = []
    for name, value in begins.items():
        flag, kind = f"--{name.replace('_', '-')}", dict[str, Any]()
        if value is None or isinstance(value, bool):
            flag += f"/--no-{name.replace('_', '-')}"
        elif isinstance(value, list):
            kind = {"multiple": True}
        elif isinstance(value, dict):
            kind = {"type": _mapping}
        options.append(click.Option([flag], default=value, help=described.get(name), **kind))
    return options


def _mapping(value: object) -> Mapping[str, Any]:
    try:
        found = value if isinstance(value, dict) else yaml.safe_load(str(value))
    except yaml.YAMLError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(value)  # noqa: TRY004 (what click takes for wrong input)
    return found


def _launch(
    job: dg.JobDefinition, fields: Mapping[str, Any], instance: dg.DagsterInstance
) -> tuple[str, str]:
    [op] = job.nodes
    try:
        result = job.execute_in_process(
            instance=instance,
            run_config={"ops": {op.name: {"config": dict(fields)}}, "loggers": _QUIET},
            tags=_user(),
            raise_on_error=False,
        )
    except dg.DagsterInvalidConfigError as error:
        raise LaptopError(" ".join(error.errors[0].message.split())) from None
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
