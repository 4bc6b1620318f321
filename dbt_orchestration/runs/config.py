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
    rebuild: list[str] = Field(
        default=[], description="Incremental models to rebuild from nothing, by name or unique id."
    )
    partitions: dict[str, list[str]] = Field(
        default={},
        description="Partitions to build of incremental models, by name or unique id: keys, or"
        " ranges `first..last`. Of others the newest are built.",
    )
    reasons: dict[str, str] = Field(
        default={}, description="Set by the push sensor: why each is built."
    )
    left_alone: int = Field(
        default=0, description="Set by the push sensor: how many nodes are not due."
    )
    seconds_saved: float = Field(
        default=0.0, description="Set by the push sensor: what those would take."
    )
