"""The kinds of values that a setting can have, each with what is said of a wrong one."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, SecretStr

CONFIG_VARIABLE = "DBT_ORCHESTRATION_CONFIG"
# The job that builds everything each day.
FULL_BUILD = "full_build"
# Jobs of every environment, which are not chosen by selection.
OUR_JOBS = (
    *(FULL_BUILD, "load_raw", "nothing", "rebuild", "rebuild_history", "adopt", "drop_orphans"),
    *("run_now", "resume_daily_build", "dbt", "docs"),
    *("tell_lightdash", "credits", "roll_back", "roll_forward", "pause", "resume"),
)

# What the fields of their forms stand under, which no job may be called either.
_OUR_OPS = (
    *("approve", "command", "docs_of", "form", "go_on", "hold", "left_over", "now", "release"),
    *("resume_build", "stop", "wait_for_the_first_commit", "what_is_there"),
)

_NAME = re.compile(r"[a-z][a-z0-9_]*")
# What `git check-ref-format --branch` refuses.
_NO_BRANCH = re.compile(
    r"^$|^-|^HEAD$|^/|/$|//|\.\.|\.$|@\{|(^|/)\.|\.lock(/|$)|[\x00-\x20\x7f~^:?*\[\\]"
)
# dbt writes it into `use warehouse …` as it is.
_IDENTIFIER = re.compile(r'[A-Za-z_][A-Za-z0-9_$]*|"[^"]+"')
_PASSWORD = re.compile(r"(?i)https?://[^/]*@|[a-z+]+://[^/@]*:[^/@]*@")
_UUID = re.compile(r"(?i)[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_TOKEN = re.compile(r"[\x21-\x7e]+")
# What is sent there stays on this machine.
_HERE = ("localhost", "127.0.0.1", "::1")


def named(environment: str, what: str) -> str:
    """What a job, schedule or sensor of an environment is called, beside those of others."""
    return f"{environment}_{what}"


def root() -> Path:
    """Where relative paths start: the folder of the settings file, or else the current folder."""
    file = os.environ.get(CONFIG_VARIABLE)
    return Path(file).expanduser().resolve().parent if file else Path.cwd()


def _check_cron(value: str) -> str:
    try:
        import dagster as dg
    except ImportError:
        return value  # for a plan alone, which runs nothing

    try:
        dg.ScheduleDefinition(job_name="any", cron_schedule=value)
    except dg.DagsterInvalidDefinitionError as error:
        raise ValueError(f"{value!r} is not a cron expression, for example '0 8 * * *'") from error
    return value


def _check_timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"{value!r} is not an IANA time zone, for example 'Asia/Seoul'") from error
    return value


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError(f"{value!r} must be lower-case letters, digits and '_', a letter first")
    return value


def _check_identifier(value: str) -> str:
    if not _IDENTIFIER.fullmatch(value):
        raise ValueError(f"{value!r} is no name of a warehouse: letters, digits, '_' and '$'")
    return value


def _check_job_name(value: str) -> str:
    if value in OUR_JOBS or value in _OUR_OPS:
        raise ValueError("the name is taken by a job that is there already: choose another")
    try:
        import dagster as dg
    except ImportError:
        return value  # for a plan alone, which runs nothing

    try:
        dg.GraphDefinition(name=value)
    except dg.DagsterInvalidDefinitionError:
        raise ValueError("Dagster reserves the name: choose another") from None
    return value


def _check_branch(value: str) -> str:
    if _NO_BRANCH.search(value):
        raise ValueError(f"{value!r} cannot be a git branch: write the name of one, such as 'main'")
    return value


def is_folder(remote: str) -> bool:
    """Whether git takes a remote for a folder of this machine, and not for a URL or host:path."""
    return "://" not in remote and ":" not in remote.partition("/")[0]


def _check_remote(value: str) -> str:
    if _PASSWORD.match(value):
        raise ValueError(
            "a remote with a user or a password in it is shown in logs: use git.username and"
            " git.token instead"
        )
    if value.startswith("-"):
        raise ValueError(f"{value!r} is no remote: write an https or ssh URL, or a folder")
    return str(root() / Path(value).expanduser()) if value and is_folder(value) else value


def is_web_address(value: str) -> bool:
    """Whether it is an address of http or https."""
    address = urlsplit(value)
    return address.scheme in ("http", "https") and bool(address.hostname)


def is_in_the_clear(address: str) -> bool:
    """Whether others can read what is sent to an ``is_web_address``."""
    parts = urlsplit(address)
    return parts.scheme == "http" and parts.hostname not in _HERE


def _check_address(value: str) -> str:
    if _PASSWORD.match(value):
        raise ValueError("an address with a user or a password in it is shown in logs: use token")
    if not is_web_address(value):
        raise ValueError(f"{value!r} is no address: write one such as https://lightdash.acme.com")
    if is_in_the_clear(value):
        raise ValueError(f"the token would be sent to {value} in the clear: write https")
    return value.rstrip("/")


def _check_pattern(value: str) -> str:
    try:
        pattern = re.compile(value)
    except re.error as error:
        raise ValueError(f"{value!r} is no regular expression: {error}") from None
    if pattern.search(""):
        raise ValueError(f"{value!r} finds a ticket where there is none: write what it must have")
    return value


def _check_ticket_url(value: str) -> str:
    if not is_web_address(value) or "{ticket}" not in value:
        raise ValueError(
            f"{value!r} is no address of a ticket: write one such as"
            " https://acme.atlassian.net/browse/{ticket}"
        )
    return value


def _check_uuid(value: str) -> str:
    if not _UUID.fullmatch(value):
        raise ValueError(
            f"{value!r} is no UUID: copy it from the address of a page of the project, where it"
            " stands after /projects/"
        )
    return value.lower()


def _check_token(value: SecretStr) -> SecretStr | None:
    token = value.get_secret_value().strip()
    if token and not _TOKEN.fullmatch(token):
        raise ValueError("it has characters that no token has: copy it again")
    return SecretStr(token) if token else None


def _check_inside(value: str) -> str:
    if Path(value).is_absolute() or ".." in Path(value).parts:
        raise ValueError(f"{value!r} is not inside the repository: write a path from its top")
    return value


def _check_folder(path: Path) -> Path:
    whole = root() / path
    if file := next((each for each in (whole, *whole.parents) if each.is_file()), None):
        raise ValueError(f"{file} is a file: name a folder")
    return whole


def _check_place(value: str) -> str:
    """A folder of this machine, from where relative paths start, or one that has a scheme."""
    return value if "://" in value else str(_check_folder(Path(value)))


def _check_not_folder(path: Path) -> Path:
    whole = root() / path
    if whole.is_dir():
        raise ValueError(f"{whole} is a folder: name a file")
    return whole


def _check_file(path: Path) -> Path:
    whole = root() / path.expanduser()
    if not whole.is_file():
        raise ValueError(f"there is no file {whole}")
    return whole


Cron = Annotated[str, AfterValidator(_check_cron)]
TimeZone = Annotated[str, AfterValidator(_check_timezone)]
Name = Annotated[str, AfterValidator(_check_name)]
JobName = Annotated[Name, AfterValidator(_check_job_name)]
Branch = Annotated[str, AfterValidator(_check_branch)]
GitRemote = Annotated[str, AfterValidator(_check_remote)]
WebAddress = Annotated[str, AfterValidator(_check_address)]
Pattern = Annotated[str, AfterValidator(_check_pattern)]
TicketUrl = Annotated[str, AfterValidator(_check_ticket_url)]
Uuid = Annotated[str, AfterValidator(_check_uuid)]
Token = Annotated[SecretStr, AfterValidator(_check_token)]
InRepository = Annotated[str, AfterValidator(_check_inside)]
RootPath = Annotated[Path, AfterValidator(lambda path: root() / path)]
Folder = Annotated[Path, AfterValidator(_check_folder)]
Place = Annotated[str, AfterValidator(_check_place)]
File = Annotated[Path, AfterValidator(_check_not_folder)]
ExistingFile = Annotated[Path, AfterValidator(_check_file)]
SnowflakeWarehouse = Annotated[str, AfterValidator(_check_identifier)]
