"""The command line, for the platform engineer, the Makefile and CI. Running models needs none."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from dbt_orchestration.settings import Settings, SettingsError, load_settings

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
console = Console(highlight=False, soft_wrap=True)
errors = Console(stderr=True, highlight=False, soft_wrap=True)

Port = Annotated[int, typer.Option(help="Port of the Dagster UI.", min=1, max=65535)]


def _settings() -> Settings:
    try:
        return load_settings()
    except SettingsError as error:
        raise _stop(error) from None


def _stop(problem: object) -> typer.Exit:
    errors.print(f"[red]error:[/] {escape(str(problem))}")
    return typer.Exit(1)


@app.command()
def doctor() -> None:
    """Check this machine, the settings, credentials, project and warehouse; say what to do."""
    from dbt_orchestration.doctor import examine

    problems = 0
    for finding in examine(_settings()):
        problems += not finding.ok
        mark = "[green]ok [/]" if finding.ok else "[red]bad[/]"
        console.print(f"{mark} {finding.what}: {escape(finding.message)}")
    if problems:
        raise _stop(f"{problems} problem{'s' if problems > 1 else ''} found")


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
def up(port: Port = 3000) -> None:
    """Serve the Dagster UI with everything running; build the warehouse first if it is empty."""
    from dbt_orchestration.laptop import LaptopError
    from dbt_orchestration.laptop import up as serve

    try:
        serve(_settings(), port, console)
    except LaptopError as error:
        raise _stop(error) from None


@app.command()
def demo() -> None:
    """The main job without the UI: load the raw data, build everything, show what it took."""
    from dbt_orchestration.laptop import LaptopError
    from dbt_orchestration.laptop import demo as show

    try:
        show(_settings(), console)
    except LaptopError as error:
        raise _stop(error) from None


if __name__ == "__main__":
    app()
