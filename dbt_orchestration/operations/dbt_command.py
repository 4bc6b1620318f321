"""A dbt command as a person fills it in, and what of it may be run. Pure functions.

Each command has a list of the options that it takes here. Whatever would leave the environment is
refused with the reason; so is what a field of the form is for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from dbt_orchestration.operations.at_commit import COMMIT
from dbt_orchestration.operations.form import DRY_RUN, RefusedError, only_shows
from dbt_orchestration.settings.types import named
from dbt_orchestration.settings.user_input import did_you_mean

LIST, SHOW, COMPILE, FRESHNESS = "list", "show", "compile", "source freshness"
DOCS, OPERATION, TEST = "docs generate", "run-operation", "test"
CLONE, RETRY = "clone", "retry"


class DbtForm(dg.Config):
    """A dbt command, without a terminal."""

    command: str = Field(
        default="",
        description="build, run, test, seed, snapshot, clone, retry, compile, show, list,"
        " source freshness, docs generate or run-operation.",
    )
    select: str = Field(
        default="", description="Names of models, or dbt's selection: fct_orders+ tag:finance"
    )
    exclude: str = Field(default="", description="But for these: likewise.")
    full_refresh: bool = Field(
        default=False,
        description="build, run, seed: whole tables of incremental models and seeds from nothing."
        " show, compile: as that would make them.",
    )
    vars: dict[str, Any] = Field(default={}, description="dbt vars, for example {days: 3}.")
    inline: str = Field(
        default="",
        description="show, compile: SQL with Jinja, for example select * from {{ ref('orders') }}",
    )
    macro: str = Field(default="", description="run-operation: the name of the macro.")
    args: dict[str, Any] = Field(default={}, description="run-operation: the macro's arguments.")
    run: str = Field(
        default="",
        description="retry: the run that did not succeed, its id or the beginning of it. Empty:"
        " the last build that did not.",
    )
    copy_from: str = Field(
        default="",
        description="clone: the environment whose tables are copied, for example prod. Empty: the"
        " one that defer_to names.",
    )
    arguments: list[str] = Field(
        default=[],
        description='More options of the command, one a line, for example "--limit 20".',
    )
    commit: str = Field(
        default="",
        description=f"{COMMIT} What builds another one needs an environment that is paused.",
    )
    reason: str = Field(
        default="",
        description="Why. Needed for what changes the warehouse; it stands on the run.",
    )
    dry_run: bool | None = Field(
        default=None, description=f"{DRY_RUN} a full refresh, and a macro that is to run."
    )

    @property
    def only_shows(self) -> bool:
        """Whether nothing is to be done."""
        costly = self.command == OPERATION or (self.command in BUILDS and self.full_refresh)
        return only_shows(self.dry_run, costly=costly)


# What builds nodes, and which; with their tests if it is `build`.
BUILDS: Mapping[str, Collection[str]] = {
    "build": ("model", "seed", "snapshot"),
    "run": ("model",),
    "seed": ("seed",),
    "snapshot": ("snapshot",),
    TEST: (),
}
_SELECTION = ("select", "exclude", "vars")
_FIELDS: Mapping[str, Collection[str]] = {
    "build": (*_SELECTION, "full_refresh"),
    "run": (*_SELECTION, "full_refresh"),
    "seed": (*_SELECTION, "full_refresh"),
    "snapshot": _SELECTION,
    TEST: _SELECTION,
    COMPILE: (*_SELECTION, "full_refresh", "inline"),
    SHOW: (*_SELECTION, "full_refresh", "inline"),
    LIST: _SELECTION,
    FRESHNESS: _SELECTION,
    DOCS: _SELECTION,
    OPERATION: ("macro", "args", "vars"),
    CLONE: ("select", "exclude", "copy_from"),
    RETRY: ("run",),
}
_ALWAYS = {"command", "arguments", "commit", "reason", "dry_run"}
# The values that an option takes: None if it takes none.
_WORD, _NUMBER = r"\w[\w.:*-]*", r"[1-9]\d{0,2}"
_THREADS = {"--threads": _NUMBER}
_OPTIONS: Mapping[str, Mapping[str, str | None]] = {
    COMPILE: {"--no-introspect": None, **_THREADS},
    SHOW: {"--limit": _NUMBER, **_THREADS},
    LIST: {
        "--output": "json|name|path|selector",
        "--output-keys": _WORD,
        "--resource-type": _WORD,
        "--exclude-resource-type": _WORD,
        "--indirect-selection": "eager|cautious|buildable|empty",
    },
    FRESHNESS: _THREADS,
    DOCS: {"--empty-catalog": None, "--static": None, **_THREADS},
    OPERATION: _THREADS,
}
_ENVIRONMENT = "an environment is one target of one profile: launch the form of another environment"
_FILES = "files are kept with the run"
_STATE = "what an environment reads of another one is what its setting defer_to says"
_ROWS = "tables would hold other rows than the commit says"
_WHY_NOT = {
    **dict.fromkeys(("--target", "-t", "--profile", "--profiles-dir"), _ENVIRONMENT),
    "--project-dir": "the project is that of the commit",
    **dict.fromkeys(("--target-path", "--log-path", "--output-path", "-o"), _FILES),
    **dict.fromkeys(("--state", "--defer", "--no-defer", "--defer-state"), _STATE),
    **dict.fromkeys(("--favor-state", "--no-favor-state"), _STATE),
    **dict.fromkeys(("--sample", "--empty"), _ROWS),
    "--sql": "SQL that stands in no commit cannot be found again: write a macro",
}
_IN_FIELDS = {
    **dict.fromkeys(("--select", "-s", "--models", "--model", "-m"), "select"),
    **dict.fromkeys(("--full-refresh", "-f"), "full_refresh"),
    **{f"--{name}": name for name in ("exclude", "vars", "inline", "args")},
}
_DATES = ("--event-time-start", "--event-time-end")


def check(environment: str, form: DbtForm) -> None:
    """Refuse what is no command, or not one that may be run here.

    Raises:
        RefusedError: says which field, and what to do.
    """
    command = form.command
    if command not in _FIELDS:
        near = did_you_mean(command, sorted(_FIELDS))
        raise RefusedError(f"command: {command!r} does not run here{near}")
    taken = {*_FIELDS[command], *_ALWAYS}
    for field, value in form.model_dump().items():
        if value and field not in taken:
            raise RefusedError(f"{field}: dbt {command} takes none: leave it empty")
    if command in (SHOW, COMPILE) and bool(form.select) == bool(form.inline):
        raise RefusedError(f"select: dbt {command} takes either select or inline")
    if form.commit and command in (CLONE, RETRY):
        raise RefusedError(f"commit: dbt {command} works with the newest commit: leave it empty")
    [*_options(environment, command, form.arguments)]


def argv(environment: str, form: DbtForm) -> Sequence[str]:
    """The command for dbt, without the environment's target and folders. It was checked."""
    words = form.command.split()
    words += [form.macro] if form.command == OPERATION else []
    words += ["--args", json.dumps(form.args)] if form.args else []
    words += ["--inline", form.inline] if form.inline else []
    words += ["--full-refresh"] if form.full_refresh else []
    words += ["--vars", json.dumps(form.vars)] if form.vars else []
    words += _options(environment, form.command, form.arguments)
    for field in ("select", "exclude"):
        if said := getattr(form, field).split():
            words += [f"--{field}", *said]
    return words


def _options(environment: str, command: str, arguments: Sequence[str]) -> Iterator[str]:
    """The further options, word by word.

    Raises:
        RefusedError: the command does not take one of them here.
    """
    words = [word for line in arguments for word in line.replace("=", " ", 1).split()]
    allowed = _OPTIONS.get(command, {})
    while words:
        option = words.pop(0)
        if option not in allowed:
            raise RefusedError(f"arguments: {_refusal(environment, command, option)}")
        yield option
        pattern = allowed[option]
        if pattern is None:
            continue
        value = words.pop(0) if words else ""
        if not re.fullmatch(pattern, value):
            raise RefusedError(f"arguments: {option} takes {_in_words(pattern)}, not {value!r}")
        yield value


def _refusal(environment: str, command: str, option: str) -> str:
    if why := _WHY_NOT.get(option):
        return f"{option} is not taken here: {why}"
    if field := _IN_FIELDS.get(option):
        return f"{option} has a field of its own: fill in {field}"
    if option in _DATES:
        return f"{option}: choose days in the form {named(environment, 'rebuild')}"
    allowed = ", ".join(_OPTIONS.get(command, ())) or "no further options"
    return f"{option} is not on the list: dbt {command} takes {allowed} here"


def _in_words(pattern: str) -> str:
    if pattern == _WORD:
        return "a word"
    return "a number from 1 to 999" if pattern == _NUMBER else pattern.replace("|", ", ")
