"""What a person may set for any materialization, in the Launchpad."""

from typing import Any

import dagster as dg
from pydantic import Field


class BuildConfig(dg.Config):
    """What a person may set for any materialization, in the Launchpad."""

    full_refresh: bool = Field(
        False, description="Rebuild whole tables of incremental models and seeds from nothing."
    )
    vars: dict[str, Any] = Field({}, description="dbt vars for this run, for example {days: 3}.")
    exclude_tests: bool = Field(False, description="Build without running any test.")
    rebuild: list[str] = Field(
        [], description="Incremental models to rebuild from nothing, by name or unique id."
    )
    partitions: dict[str, list[str]] = Field(
        {},
        description="Partitions to build of incremental models, by name or unique id: keys, or"
        " ranges `first..last`. Of others the newest are built.",
    )
    reasons: dict[str, str] = Field({}, description="Set by the push sensor: why each is built.")
    left_alone: int = Field(0, description="Set by the push sensor: how many nodes are not due.")
    seconds_saved: float = Field(0.0, description="Set by the push sensor: what those would take.")
