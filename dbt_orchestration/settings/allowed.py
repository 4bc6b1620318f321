"""What the dbt project may say of itself in ``orchestration.yml``: the platform's own setting."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from dbt_orchestration.changes.policy import OnChange

Topic = Literal["full_build", "on_change", "jobs", "routes"]
Domain = Annotated[str, Field(min_length=1)]


class ProjectFileRules(BaseModel):
    """What ``orchestration.yml`` of the dbt project may say, and how far it may go."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    allow: list[Topic] = Field(
        ["full_build", "on_change", "jobs", "routes"],
        description="What the file may say. Default: all that it can. An empty list forbids it.",
    )
    on_change: list[OnChange] = Field(
        ["rebuild", "ask", "forward_only"],
        description="What it may choose for on_change.",
        min_length=1,
    )
    most_jobs: int = Field(50, ge=0, le=1_000, description="How many jobs it may have.")
    least_minutes: int = Field(
        15, ge=1, le=1_440, description="How far apart two starts of a schedule must be."
    )
    email_domains: list[Domain] = Field(
        [], description="Routes may send e-mail there only. Default: anywhere."
    )
