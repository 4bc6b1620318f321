"""People and tools that are told about a site; ticks happen when they are asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteInstigatorOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import (
    InstigatorState,
    InstigatorStatus,
    InstigatorType,
    ScheduleInstigatorData,
    SensorInstigatorData,
)

from dbt_orchestration.dagster_internals import CheckStatus
from dbt_orchestration.settings.notify import Notify
from tests.automation.site import Site
from tests.automation.telling.stubs import (
    HOOK_TOKEN,
    PASSWORD,
    SECRET,
    TEAMS_SIGNATURE,
    TOKEN,
    Inbox,
    Mail,
    SlackStub,
)

CHECK = dg.AssetCheckKey(dg.AssetKey(["prod", "pushes"]), "people_can_be_told")


@dataclass
class Office:
    """Everybody who is told of a site.

    Attributes:
        now: what the clock on the wall says.
    """

    site: Site
    slack: SlackStub
    teams: Inbox
    hook: Inbox
    mail: Mail
    urls: Sequence[str]
    now: float = field(default_factory=time.time)
    cursor: str | None = None

    def slack_alone(self, **more: Any) -> dict[str, Any]:
        """Settings with nothing but Slack."""
        slack = {"token": TOKEN, "channel": "#data", "api_url": f"{self.urls[0]}/api"}
        return {"slack": slack, "dagster_url": "https://dagster.example.com", **more}

    def everything(self, **more: Any) -> dict[str, Any]:
        """Settings with every tool."""
        email = {
            **{"host": "localhost", "port": self.mail.port, "ca_file": str(self.mail.ca_file)},
            **{"username": "bot", "password": PASSWORD, "sender": "dagster@example.com"},
            **{"to": ["data@example.com"], "author_domains": ["example.com"]},
        }
        teams = {"url": f"{self.urls[1]}/workflows/1?{TEAMS_SIGNATURE}"}
        webhook = {"url": f"{self.urls[2]}/hook?token={HOOK_TOKEN}", "secret": SECRET}
        return {**self.slack_alone(), "email": email, "teams": teams, "webhook": webhook, **more}

    def told(self, settings: Mapping[str, Any]) -> None:
        """From now on people are told as the settings say."""
        notify = Notify.model_validate(settings)
        assert notify.problem() == ""
        self.site.settings = self.site.settings.model_copy(update={"notify": notify})
        self.site.load()

    def tick(self, later: float = 10.0) -> str:
        """One evaluation of the sensor, some seconds later; what it says."""
        self.now += later
        if cursor := self.site.cursors.get("prod"):
            keep_cursor(self.site.instance, "prod_push", cursor)
        definitions = self.site.loaded["prod"]
        with dg.build_sensor_context(
            self.site.instance, cursor=self.cursor, definitions=definitions
        ) as context:
            data = definitions.resolve_sensor_def("prod_tell").evaluate_tick(context)
        self.cursor = data.cursor
        for event in data.asset_events:
            self.site.instance.report_runless_asset_event(event)
        return data.skip_message or ""

    @property
    def check(self) -> str:
        """How the check stands: "green", or what it says."""
        storage = self.site.instance.event_log_storage
        record = storage.get_latest_asset_check_execution_by_key([CHECK])[CHECK]
        if record.status is CheckStatus.SUCCEEDED:
            return "green"
        assert record.event
        assert record.event.dagster_event
        return record.event.dagster_event.asset_check_evaluation_data.description or ""


def keep_cursor(instance: dg.DagsterInstance, name: str, cursor: str) -> None:
    """What Dagster's daemon does after a tick."""
    keep_state(instance, name, InstigatorStatus.RUNNING, SensorInstigatorData(cursor=cursor))


def keep_state(
    instance: dg.DagsterInstance,
    name: str,
    status: InstigatorStatus,
    data: SensorInstigatorData | ScheduleInstigatorData,
) -> None:
    """What Dagster keeps of a sensor or schedule of a code location."""
    location = GrpcServerCodeLocationOrigin("localhost", 4000, location_name="prod")
    origin = RemoteInstigatorOrigin(RemoteRepositoryOrigin(location, "__repository__"), name)
    is_sensor = isinstance(data, SensorInstigatorData)
    kind = InstigatorType.SENSOR if is_sensor else InstigatorType.SCHEDULE
    state = InstigatorState(origin, kind, status, data)
    known = instance.get_instigator_state(origin.get_id(), state.selector_id)
    (instance.update_instigator_state if known else instance.add_instigator_state)(state)
