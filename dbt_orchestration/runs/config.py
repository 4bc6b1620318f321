"""What a person may set for any materialization, in the Launchpad."""

from typing import Any

import dagster as dg
from pydantic import Field


class BuildConfig(dg.Config):
    """What a person may set for any materialization, in the Launchpad."""

    full_refresh: bool = Field(
        default=False,
        description="Rebuild whole tables of incremental models and seeds from nothing.",
    )
    vars: dict[str, Any] = Field(
        default={}, description="dbt vars for this run, for example {days: 3}."
    )
    exclude_tests: bool = Field(default=False, description="Build without running any test.")
