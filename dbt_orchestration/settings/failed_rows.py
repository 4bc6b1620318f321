"""Settings of the rows that are shown of a failed test."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FailedRows(BaseModel):
    """What is shown of the rows that a test failed for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    enabled: bool = Field(True, description="Show some of them, which takes a query per test.")
    rows: int = Field(10, ge=1, le=100, description="How many at most.")
    characters: int = Field(100, ge=10, le=1_000, description="How many of each value.")
    hidden_by: str = Field(
        "contains_pii",
        min_length=1,
        description="None of a test that has this key under `meta`, or this tag, or that reads a"
        " model or a source that has it, itself or on a column.",
    )
    max_seconds: float = Field(
        60, gt=0, description="None of a test that took longer: they would take as long again."
    )
