"""What can be set of dbt's documentation."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from dbt_orchestration.settings import types as kinds


class Docs(BaseModel):
    """Where dbt docs are written, and where people read them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    folder: kinds.Place | None = Field(
        None,
        description="A folder, or a bucket such as s3://data-docs. Default: docs in state_dir.",
    )
    url: kinds.WebAddress | None = Field(
        None,
        description="Where that folder is served, for example https://docs.example.com. Every asset"
        " then links to its page.",
    )

    after_push: bool = Field(
        False,
        description="Write them of each commit once it is built, by the job docs of each"
        " environment that follows pushes. Else a person launches it.",
    )

    def page_of(self, environment: str) -> str:
        """The address of an environment's documentation; "" if nobody serves it."""
        return f"{self.url.rstrip('/')}/{environment}/index.html" if self.url else ""
