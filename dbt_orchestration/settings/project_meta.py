"""What a dbt project says to Dagster: everything under ``meta.dagster`` of a node.

Read here once, so that a wrong key is refused with its file before anything is made of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from dbt_orchestration.changes.dates import BatchSize, moment
from dbt_orchestration.changes.policy import HistoryPolicy, OnChange, dagster_meta
from dbt_orchestration.settings.types import Cron, TimeZone
from dbt_orchestration.settings.user_input import problems

if TYPE_CHECKING:
    import dagster as dg

Lookback = Annotated[int, Field(ge=0, strict=True)]
# More than a year of hours in one statement is a slip of the pen.
Chunk = Annotated[int, Field(ge=1, le=10_000, strict=True)]
Moment = Annotated[datetime, BeforeValidator(moment)]
_Hours = Annotated[float, Field(gt=0, le=100_000)]


def _in_a_list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class ProjectError(ValueError):
    """Something in the dbt project cannot become an asset. The message names file and key."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Partitions(_Model):
    """``partitions``: see ``partitions.config``, which adds what dbt's own config says."""

    batch_size: BatchSize | None = None
    begin: Moment | None = None
    end: Moment | None = None
    chunk: Chunk | None = None
    mergeable: bool | None = None
    lookback: Lookback | None = None
    start_var: str | None = None
    end_var: str | None = None
    partial_full_refresh: bool | None = None


class Freshness(_Model):
    """``freshness``: when a model must have been built again, in hours or by a cron expression."""

    deadline_cron: Cron | None = None
    lower_bound_delta_hours: _Hours | None = None
    timezone: TimeZone | None = None
    fail_after_hours: _Hours | None = None
    warn_after_hours: _Hours | None = None

    @model_validator(mode="after")
    def _is_one_kind(self) -> Freshness:
        by_cron = {"deadline_cron", "lower_bound_delta_hours"}
        said = self.model_fields_set
        if not (by_cron <= said and not {"fail_after_hours", "warn_after_hours"} & said) and not (
            "fail_after_hours" in said and not {*by_cron, "timezone"} & said
        ):
            raise ValueError(
                "write deadline_cron and lower_bound_delta_hours, or fail_after_hours with an"
                " optional warn_after_hours"
            )
        try:
            self.policy("UTC")
        except Exception as error:  # Dagster's own check of an argument is no public class
            raise ValueError(str(error).rpartition("Description: ")[2]) from None
        return self

    def policy(self, timezone: str) -> dg.FreshnessPolicy:
        """As Dagster has it; the cron expression is read in ``timezone`` unless one is stated."""
        import dagster as dg

        if self.deadline_cron:
            return dg.FreshnessPolicy.cron(
                deadline_cron=self.deadline_cron,
                lower_bound_delta=timedelta(hours=self.lower_bound_delta_hours or 0),
                timezone=self.timezone or timezone,
            )
        warn = self.warn_after_hours
        return dg.FreshnessPolicy.time_window(
            timedelta(hours=self.fail_after_hours or 0), timedelta(hours=warn) if warn else None
        )


class TestedNode(_Model):
    """``ref`` of a test of several models: the one whose check it is."""

    name: str
    package: str | None = None
    version: str | int | None = None


class DagsterMeta(_Model):
    """``meta.dagster`` of a model, seed, snapshot, source or test."""

    owners: Annotated[list[Annotated[str, Field(min_length=1)]], BeforeValidator(_in_a_list)] = []
    group: Annotated[str, Field(min_length=1)] | None = None
    asset_key: Annotated[
        list[Annotated[str, Field(min_length=1)]], BeforeValidator(_in_a_list)
    ] = []
    on_change: OnChange | None = None
    partitions: Partitions | None = None
    freshness: Freshness | None = None
    ref: TestedNode | None = None
    # Nothing of ours: dagster-dbt reads them.
    auto_materialize_policy: dict[str, Any] | None = None
    freshness_check: dict[str, Any] | None = None
    has_self_dependency: bool | None = None


def read_meta(node: Mapping[str, Any]) -> DagsterMeta:
    """What a node of the manifest says to Dagster.

    Raises:
        ProjectError: it says something wrong; names the file, the node and the key.
    """
    try:
        return DagsterMeta.model_validate(dagster_meta(node))
    except ValidationError as error:
        raise wrong(node, problems(error, DagsterMeta)) from None


def wrong(node: Mapping[str, Any], what: str) -> ProjectError:
    """The error that says what is wrong under ``meta.dagster`` of a node."""
    file = node.get("original_file_path", node.get("unique_id"))
    return ProjectError(f"{file}: meta.dagster of {node.get('name')}: {what}")


def refuse_on_change(manifest: Mapping[str, Any], may: Collection[OnChange]) -> None:
    """Refuse a node that says of changes what the platform's settings do not allow.

    Raises:
        ProjectError: names the file, and what may be said.
    """
    for node in manifest["nodes"].values():
        if (said := HistoryPolicy.of(node).on_change) and said not in may:
            raise wrong(node, f"on_change: {said} is not allowed here: say {', '.join(may)}")
