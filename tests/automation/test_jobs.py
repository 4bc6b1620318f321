"""What the schedules request, and when."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import dagster as dg
import pytest
from dagster._utils.schedules import schedule_execution_time_iterator

from dbt_orchestration.location.definitions import build_definitions
from dbt_orchestration.settings.models import Environment, Job, Schedule, Settings, SettingsError
from tests.assets.test_translator import BUILT
from tests.conftest import Warehouse


def schedule(definitions: dg.Definitions, name: str = "prod_full_build") -> dg.ScheduleDefinition:
    found = definitions.get_repository_def().get_schedule_def(f"{name}_schedule")
    assert isinstance(found, dg.ScheduleDefinition)
    return found


def tick(warehouse: Warehouse, at: datetime, name: str = "prod_full_build") -> Any:
    definitions = warehouse.definitions
    with dg.build_schedule_context(
        instance=warehouse.instance,
        scheduled_execution_time=at,
        repository_def=definitions.get_repository_def(),
    ) as context:
        return schedule(definitions, name).evaluate_tick(context)


def requested(ticked: Any) -> set[str]:
    [request] = ticked.run_requests
    return {"/".join(key.path[1:]) for key in request.asset_selection}


def with_jobs(settings: Settings, **jobs: Job) -> Settings:
    prod = Environment(branch="main", target="prod", jobs=jobs)
    return settings.model_copy(update={"environments": {"prod": prod}})


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """A schedule's context wants an instance that other processes could open."""
    with dg.DagsterInstance.local_temp(str(tmp_path)) as local:
        yield local


EIGHT = datetime(2024, 5, 1, 8, tzinfo=ZoneInfo("Asia/Seoul"))


def test_prod_builds_at_eight_in_seoul_and_dev_does_not(settings: Settings) -> None:
    prod = schedule(build_definitions(settings, "prod"))
    dev = schedule(build_definitions(settings, "dev"), "dev_full_build")
    assert (prod.cron_schedule, prod.execution_timezone) == ("0 8 * * *", "Asia/Seoul")
    assert prod.default_status is dg.DefaultScheduleStatus.RUNNING
    assert dev.default_status is dg.DefaultScheduleStatus.STOPPED


def test_the_full_build_requests_everything_once_a_day(warehouse: Warehouse) -> None:
    ticked = tick(warehouse, EIGHT)
    assert requested(ticked) == BUILT
    [request] = ticked.run_requests
    assert request.run_key == "2024-05-01T08:00:00+09:00"
    checks = warehouse.definitions.resolve_asset_graph().asset_check_keys
    assert set(request.asset_check_keys) == checks  # those on sources, too


def test_a_failed_full_build_retries_what_failed_once(warehouse: Warehouse) -> None:
    job = warehouse.definitions.resolve_job_def("prod_full_build")
    assert job.run_tags == {
        "dbt/environment": "prod",
        "dagster/max_retries": "1",
        "dagster/retry_strategy": "FROM_ASSET_FAILURE",
    }


def test_seeds_are_requested_only_when_their_content_changed(warehouse: Warehouse) -> None:
    warehouse.build("orders")
    assert requested(tick(warehouse, EIGHT)) == BUILT - {"orders"}


@pytest.mark.parametrize(
    ("day", "utc_hour"),
    [
        (datetime(2024, 3, 9), 13),  # New York, winter
        (datetime(2024, 3, 10), 12),  # the day clocks go forward
        (datetime(2024, 11, 2), 12),
        (datetime(2024, 11, 3), 13),  # the day they go back
    ],
)
def test_eight_stays_eight_across_daylight_saving(
    settings: Settings, day: datetime, utc_hour: int
) -> None:
    build = Schedule(timezone="America/New_York")
    prod = Environment(branch="main", target="prod", full_build=build)
    definitions = build_definitions(
        settings.model_copy(update={"environments": {"prod": prod}}), "prod"
    )
    midnight = day.replace(tzinfo=ZoneInfo("America/New_York"))
    found = schedule(definitions)
    first = next(
        schedule_execution_time_iterator(  # what the daemon walks along
            midnight.timestamp(), found.cron_schedule, found.execution_timezone
        )
    )
    utc = first.astimezone(ZoneInfo("UTC"))
    assert (utc.day, utc.hour, utc.minute) == (day.day, utc_hour, 0)


def test_a_job_by_selection_takes_its_part(
    settings: Settings, instance: dg.DagsterInstance
) -> None:
    finance = Job(select="tag:finance+", exclude="report", schedule=Schedule(cron="0 7 * * 1"))
    warehouse = Warehouse(with_jobs(settings, finance=finance), "prod", instance)
    monday = datetime(2024, 5, 6, 7, tzinfo=ZoneInfo("Asia/Seoul"))
    assert requested(tick(warehouse, monday, "prod_finance")) == BUILT - {
        *("orders", "report", "time_spine", "slow"),
    }


@pytest.mark.parametrize(
    ("select", "message"),
    [
        ("tag:finanec", r"environments\.prod\.jobs\.part\.select: 'tag:finanec' matches no model"),
        (
            "orders ordres",
            r"jobs\.part\.select: there is no model 'ordres': did you mean orders\?",
        ),
        (
            "orders tag:finanec",
            r"environments\.prod\.jobs\.part\.select: 'tag:finanec' matches nothing",
        ),
        ("nomethod:x", r"environments\.prod\.jobs\.part: dbt does not understand 'nomethod:x'"),
    ],
)
def test_a_job_that_selects_nothing_is_refused(
    settings: Settings, select: str, message: str
) -> None:
    with pytest.raises(SettingsError, match=message):
        build_definitions(with_jobs(settings, part=Job(select=select)), "prod")
