"""The command line, for the platform engineer, the Makefile and CI. Running models needs none."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperGroup

from dbt_orchestration.settings.extras import missing
from dbt_orchestration.settings.models import (
    CONFIG_VARIABLE,
    PREFIX,
    Settings,
    SettingsError,
    config_file,
    load_settings,
)

# Dagster's of its own parts, which are contract-tested: a page of them would hide what matters.
warnings.filterwarnings("ignore", message=r".* is currently in (beta|preview)")


class _Commands(TyperGroup):
    """All of them. ``plan`` needs no Dagster, and so it need not be installed."""

    def invoke(self, ctx: Any) -> Any:
        """Call a command; one line, and no trace, where a part of the installation is missing."""
        try:
            return super().invoke(ctx)
        except ModuleNotFoundError as error:
            if said := missing(error.name or ""):
                raise _stop(said) from None
            raise


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

Port = Annotated[int, typer.Option(help="Port of the Dagster UI.", min=1, max=65535)]
ProfilesDir = Annotated[Path | None, typer.Option(help="Folder of profiles.yml.")]

OfEnvironment = Annotated[
    str | None, typer.Option("--environment", help="Of which environment. Default: the first.")
]


class Until(StrEnum):
    """What ends a hold."""

    released = "released"
    next_push = "next_push"


class Format(StrEnum):
    """How a plan is written."""

    table = "table"
    json = "json"
    markdown = "markdown"


def _settings(profiles_dir: Path | None = None) -> Settings:
    if profiles_dir:  # code locations and runs are processes that read the settings themselves
        os.environ[f"{PREFIX}PROFILES_DIR"] = str(profiles_dir.expanduser().resolve())
    if CONFIG_VARIABLE in os.environ:  # for processes that are started elsewhere
        os.environ[CONFIG_VARIABLE] = str(config_file())
    try:
        settings = load_settings()
    except SettingsError as error:
        raise _stop(error) from None
    settings.make_state_dir()
    return settings


def _stop(problem: object) -> typer.Exit:
    errors.print(f"[red]error:[/] {escape(str(problem))}")
    return typer.Exit(1)


@app.command()
def doctor(profiles_dir: ProfilesDir = None) -> None:
    """Check this machine, the settings, credentials, project and warehouse; say what to do."""
    from dbt_orchestration.doctor import examine

    problems = 0
    for finding in examine(_settings(profiles_dir)):
        problems += not finding.ok
        mark = "[green]ok [/]" if finding.ok else "[red]bad[/]"
        console.print(f"{mark} {finding.what}: {escape(finding.message)}")
    if problems:
        raise _stop(f"{problems} problem{'s' if problems > 1 else ''} found")


@app.command()
def init() -> None:
    """Write environments.yaml and workspace.yaml, to be changed; what is there stays."""
    from dbt_orchestration.local.begin import write_files

    for file, written in write_files(_settings()).items():
        console.print(f"{file}: {'written' if written else 'was there, and stays'}")


@app.command()
def prepare() -> None:
    """Parse the dbt project for every environment, as the code locations do when they load."""
    from dbt_orchestration.revisions.working_tree import PrepareError
    from dbt_orchestration.revisions.working_tree import prepare as prepare_revision

    settings = _settings()
    for name in settings.environments:
        try:
            revision = prepare_revision(settings, name)
        except PrepareError as error:
            raise _stop(error) from None
        console.print(f"{name}: {revision.directory}")


@app.command()
def plan(  # noqa: PLR0917 - typer passes by keyword
    base: Annotated[
        str | None,
        typer.Option(help="Revision to compare with. Default: where the branch left its upstream."),
    ] = None,
    head: Annotated[
        str | None, typer.Option(help="Revision to build. Default: the working tree.")
    ] = None,
    project_dir: Annotated[
        Path | None, typer.Option(help="Folder of dbt_project.yml. Default: this one or below.")
    ] = None,
    profiles_dir: ProfilesDir = None,
    profile: Annotated[str | None, typer.Option(help="Profile. Default: the project's.")] = None,
    target: Annotated[str | None, typer.Option(help="Target. Default: the profile's.")] = None,
    select: Annotated[str | None, typer.Option(help="Only these nodes: dbt's selection.")] = None,
    output: Annotated[Format, typer.Option("--format", help="How to write it.")] = Format.table,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 2 if something is due.")
    ] = False,
) -> None:
    """What a commit, or what you have not committed yet, would rebuild, and why."""
    with errors.status("starting") as status:
        from dbt_orchestration import report
        from dbt_orchestration.dbt.parse import PrepareError
        from dbt_orchestration.revisions.compare import Comparison, compare
        from dbt_orchestration.revisions.git import GitError
        from dbt_orchestration.settings.found import find_project

        try:
            folder = project_dir or find_project(Path.cwd())
            if folder is None:
                raise PrepareError(f"no dbt project in {Path.cwd()}: name one with --project-dir")
            comparison = Comparison(folder, base, head, profiles_dir, profile, target, select)
            made = compare(comparison, status.update)
        except (PrepareError, GitError, ValueError) as error:
            raise _stop(error) from None
    if output is Format.json:
        print(json.dumps(made.as_json(), indent=2, ensure_ascii=False))
    elif output is Format.markdown:
        print(report.markdown(made))
    else:
        if made:
            Console(highlight=False).print(report.table(made), "")
        for line in report.summary(made):
            console.print(escape(line))
    if made and exit_code:
        raise typer.Exit(2)


@app.command()
def notify(
    test: Annotated[
        bool, typer.Option("--test", help="Send one message of each kind to each address.")
    ] = False,
    environment: Annotated[
        str | None, typer.Option(help="Only as this environment has it. Default: each.")
    ] = None,
) -> None:
    """Who is told what goes wrong; with --test, tell each of them."""
    from dbt_orchestration.automation.telling.routing import everywhere
    from dbt_orchestration.automation.telling.trial import send_examples

    settings, problems, tested = _settings(), 0, []
    try:
        names = [environment] if environment else list(settings.environments)
        found = {name: settings.notify_of(name) for name in names if settings.environment(name)}
    except SettingsError as error:
        raise _stop(error) from None
    for name, told in found.items():
        if told is None:
            console.print(f"{name}: nobody is told: see docs/notifications.md")
        elif not test:
            console.print(f"{name}: {', '.join(map(str, sorted(everywhere(told))))}")
        elif told not in tested:
            tested.append(told)
            for address, problem in send_examples(name, told):
                problems += bool(problem)
                mark = "[red]bad[/]" if problem else "[green]ok [/]"
                console.print(
                    f"{mark} {name}: {escape(': '.join(filter(None, (address, problem))))}"
                )
    if problems:
        raise _stop(f"{problems} could not be told")


@app.command()
def rollback(
    to: Annotated[
        str,
        typer.Option(help="A SHA, its beginning, or a ticket. Default: show the recent commits."),
    ] = "",
    until: Annotated[Until, typer.Option(help="What ends it.")] = Until.released,
    reason: Annotated[str, typer.Option(help="Why. Everybody reads it.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Only show what it would build.")] = True,
    environment: OfEnvironment = None,
) -> None:
    """Roll an environment back to an older commit of its branch, and hold it there."""
    fields = {"commit": to, "until": until.value, "reason": reason, "dry_run": dry_run}
    _launch(environment, "roll_back", fields)


@app.command()
def roll_forward(
    reason: Annotated[str, typer.Option(help="Why.")] = "",
    dry_run: Annotated[bool, typer.Option(help="Only show what it would build.")] = False,
    environment: OfEnvironment = None,
) -> None:
    """Let an environment that is held follow its branch again."""
    _launch(environment, "roll_forward", {"reason": reason, "dry_run": dry_run})


@app.command()
def pause(
    reason: Annotated[str, typer.Option(help="Why. Everybody reads it.")] = "",
    environment: OfEnvironment = None,
) -> None:
    """Keep pushes and schedules of an environment from starting anything."""
    _launch(environment, "pause", {"reason": reason})


@app.command()
def resume(
    reason: Annotated[str, typer.Option(help="Why.")] = "", environment: OfEnvironment = None
) -> None:
    """Let pushes and schedules of an environment that is paused start again."""
    _launch(environment, "resume", {"reason": reason})


@app.command(
    context_settings={
        "ignore_unknown_options": True,
        "allow_extra_args": True,
        "help_option_names": [],
    }
)
def launch(
    context: typer.Context,
    form: Annotated[str, typer.Argument(help="Its name. Default: list them.")] = "",
    environment: OfEnvironment = None,
) -> None:
    """Launch any form that the UI has, with its fields as options: launch run_now --help."""
    if form and not form.startswith("-"):
        _launch(environment, form, context.args)
        return
    with errors.status("starting"):
        from dbt_orchestration.local.dagster_process import LaptopError
        from dbt_orchestration.local.forms import list_forms

        try:
            forms = list_forms(_settings(), environment)
        except LaptopError as error:
            raise _stop(error) from None
    for name, what in forms.items():
        console.print(f"[bold]{name}[/]: {escape(what)}")


def _launch(
    environment: str | None, form: str, fields: Mapping[str, object] | Sequence[str]
) -> None:
    """Launch a form, and show what it says.

    Args:
        fields: by name, or as options of the command line.
    """
    with errors.status("starting"):
        from rich.markdown import Markdown

        from dbt_orchestration.local.dagster_process import LaptopError
        from dbt_orchestration.local.forms import launch as launch_form

        try:
            plan, then = launch_form(_settings(), environment, form, fields)
        except LaptopError as error:
            raise _stop(error) from None
    Console(highlight=False).print(Markdown(plan), "")
    console.print(escape(then))


@app.command()
def up(port: Port = 3000, profiles_dir: ProfilesDir = None) -> None:
    """Serve the Dagster UI with everything running; build the warehouse first if it is empty."""
    from dbt_orchestration.local.dagster_process import LaptopError
    from dbt_orchestration.local.up import up as serve

    try:
        serve(_settings(profiles_dir), port, console)
    except LaptopError as error:
        raise _stop(error) from None


@app.command()
def demo() -> None:
    """What a push does, without the UI: a full build, two commits, and what they cost."""
    from dbt_orchestration.local.dagster_process import LaptopError
    from dbt_orchestration.local.demo import demo as show

    try:
        show(_settings(), console)
    except LaptopError as error:
        raise _stop(error) from None


if __name__ == "__main__":
    app()
