"""``orchestration.yml`` beside ``dbt_project.yml``: what analysts say of their environments.

It comes with a commit, is reviewed like one, and takes effect when the commit is loaded. Where code
comes from, where it is built and with which credentials is not for it to say.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dbt_orchestration.changes.policy import OnChange
from dbt_orchestration.settings import types as kinds
from dbt_orchestration.settings.models import Job, Schedule, SettingsError
from dbt_orchestration.settings.notify import EmailAddress, Text
from dbt_orchestration.settings.user_input import problems, read_yaml

FILE = "orchestration.yml"
_MISNAMED = "orchestration.yaml"


class ProjectFileError(SettingsError):
    """The file is wrong, or says what it may not: a commit's fault, and not the platform's."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ProjectRoute(_Model):
    """Where news of some models goes. Addresses that are secrets stand in the settings only."""

    groups: list[Text] = Field([], description="dbt groups, or else folders: asset groups.")
    owners: list[Text] = Field([], description="Owners of models, as the asset shows them.")
    slack: Text | None = None
    email: list[EmailAddress] = []


class Said(_Model):
    """What the file says, of every environment or of one."""

    full_build: Schedule | None = None
    on_change: OnChange | None = None
    jobs: dict[kinds.JobName, Job] = {}
    routes: dict[kinds.Name, ProjectRoute] = {}


class ProjectFile(Said):
    """The whole file."""

    environments: dict[kinds.Name, Said] = Field(
        {}, description="What is otherwise in an environment, or is there only."
    )


def read_project_file(project_dir: Path) -> ProjectFile:
    """The file of a dbt project; an empty one if it has none.

    Raises:
        ProjectFileError: names the file, the key and what to write.
    """
    if (project_dir / _MISNAMED).exists():
        raise ProjectFileError(f"{_MISNAMED} is not read: rename it to {FILE}")
    try:
        return ProjectFile.model_validate(read_yaml(project_dir / FILE))
    except ValidationError as error:
        raise ProjectFileError(f"{FILE}: {problems(error, ProjectFile)}") from None
    except ValueError as error:
        raise ProjectFileError(str(error).replace(f"{project_dir}/", "")) from None
