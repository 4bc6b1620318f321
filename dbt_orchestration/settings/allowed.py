"""What the dbt project may say of itself in ``orchestration.yml``: the platform's own setting."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from dbt_orchestration.changes.policy import OnChange
from dbt_orchestration.settings import types as kinds

Topic = Literal["full_build", "on_change", "jobs", "routes"]
Domain = Annotated[str, Field(min_length=1)]
Channel = Annotated[str, Field(min_length=1)]


class ProjectFileRules(BaseModel):
    """What ``orchestration.yml`` of the dbt project may say, and how far it may go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow: list[Topic] = Field(
        ["full_build", "on_change", "jobs", "routes"],
        description="What the file may say. Default: all that it can. An empty list forbids it.",
    )
    on_change: list[OnChange] = Field(
        ["rebuild", "ask", "forward_only"],
        description="What it, or meta.dagster of a model, may choose for on_change.",
        min_length=1,
    )
    may_disable_full_build: bool = Field(
        True, description="Whether it may switch the daily build off."
    )
    most_jobs: int = Field(50, ge=0, le=1_000, description="How many jobs it may have.")
    least_minutes: int = Field(
        15, ge=1, le=1_440, description="How far apart two starts of a schedule must be."
    )
    email_domains: list[Domain] = Field(
        [], description="Routes may send e-mail there only. Default: anywhere."
    )
    slack_channels: list[Channel] = Field(
        [], description="Routes may write to these channels only. Default: to any."
    )
    other_environments: list[kinds.Name] = Field(
        [],
        description="Environments of other installations, of which it may speak as well.",
    )
