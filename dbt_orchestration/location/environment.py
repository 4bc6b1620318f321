"""What a Dagster project says of a dbt project: the argument of ``build_defs``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource

from dbt_orchestration.settings import found
from dbt_orchestration.settings import models as installation
from dbt_orchestration.settings import types as kinds
from dbt_orchestration.settings.models import EnvironmentOptions, Git, Push, Settings, SettingsError
from dbt_orchestration.settings.user_input import problems


class Environment(EnvironmentOptions):
    """A dbt project at a branch of git, built into a dbt target.

    Only ``project_dir`` has to be said: dbt's own files and git say the rest. Environment variables
    and ``environments.yaml`` say nothing here.

    Attributes:
        name: begins the names of the environment's jobs, schedules and sensors, and its asset keys.
        project_dir: the folder of dbt_project.yml.
        branch: what is followed. Default: the branch that is checked out, or the remote's default.
        target: of the profile. Default: the profile's own.
        state_dir: where prepared commits are kept. Default: ``.dbt-orchestration`` in project_dir.
        push: on by default if there is a branch.
        defer_to: the name of another environment of the same Dagster instance and state_dir.

    Raises:
        SettingsError: names each value that is wrong, and each argument that there is not.
    """

    name: kinds.Name = "prod"
    project_dir: Path
    profiles_dir: Path | None = None
    profile: str | None = None
    branch: kinds.Branch | None = None
    target: str | None = Field(None, min_length=1)
    push: Push | None = None
    state_dir: Path | None = None
    git: Git = Git()
    keep_revisions: int = Field(10, ge=1)

    if not TYPE_CHECKING:  # editors and type checkers know the arguments from the attributes

        def __init__(self, **said: Any) -> None:
            try:
                super().__init__(**said)
            except ValidationError as error:
                wrong = problems(error, Environment, "setting")
                raise SettingsError(f"environment {said.get('name', 'prod')}: {wrong}") from None

    def as_settings(self) -> Settings:
        """As the only environment of an installation, with everything found.

        Raises:
            SettingsError: names each wrong setting, and what is wrong with it.
        """
        project_dir = self.project_dir.expanduser().resolve()
        profiles_dir = self.profiles_dir or found.find_profiles(project_dir)
        profile = self.profile or found.profile_of(project_dir, profiles_dir)
        branch = self.branch or found.branch_of(project_dir, self.git.remote)
        options = {name: getattr(self, name) for name in EnvironmentOptions.model_fields}
        try:
            return _Said(
                project_dir=project_dir,
                profiles_dir=profiles_dir,
                profile=profile,
                state_dir=self.state_dir or project_dir / found.STATE,
                git=self.git,
                keep_revisions=self.keep_revisions,
                environments={
                    self.name: installation.Environment(
                        branch=branch or "main",
                        target=self.target or found.target_of(profiles_dir, profile),
                        push=self.push or Push(enabled=branch is not None),
                        **options,
                    )
                },
            )
        except ValidationError as error:
            said = problems(error, Settings, "setting")
            raise SettingsError(f"environment {self.name}: {said}") from None


class _Said(Settings):
    """Settings that are what they are called with, wherever the process runs."""

    @property
    def is_whole(self) -> bool:
        return False

    def _refuse_circle_of(self, name: str) -> None:
        """Others are described elsewhere, perhaps for another code location."""
        if self.environments[name].defer_to == name:
            raise ValueError(f"defer_to: {name} is this environment itself: name another one")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003
        init_settings: PydanticBaseSettingsSource,
        *_: Any,
        **__: Any,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (init_settings,)
