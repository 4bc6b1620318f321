"""What can be set of a project of Lightdash that shows an environment's tables."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from dbt_orchestration.settings import types as kinds


class Lightdash(BaseModel):
    """A project of Lightdash that is told of what was built. The token is in no URL and no log."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: kinds.WebAddress = Field(
        description="Where Lightdash is, for example https://app.lightdash.cloud."
    )
    project: kinds.Uuid = Field(
        description="The project's UUID: in the address of each of its pages, after /projects/."
    )
    token: kinds.Token | None = Field(
        None, description="A personal access token, or the token of a service account."
    )
    timeout_seconds: int = Field(
        900, ge=1, le=86_400, description="How long a job of Lightdash may take."
    )
