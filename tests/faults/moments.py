"""When a process of a test kills itself with SIGKILL, and what Dagster does about its run then."""

from __future__ import annotations

import logging
import multiprocessing
import multiprocessing.util
import os
import re
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import dagster as dg
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from dbt_orchestration.dbt.invocation import DbtInvocation
from dbt_orchestration.runs.landing import Landing
from dbt_orchestration.runs.plan import RunPlan

# Its processes are forks of one that has loaded dbt and Dagster, and has no threads.
FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["tests.faults.moments", "tests.automation.site", "dbt.cli.main"])
# Its socket lies there, and a socket's path has to be short: not in a folder of a test's own.
multiprocessing.util.get_temp_dir()


@dataclass(frozen=True)
class Sql:
    """When dbt is about to send a statement that matches, the ``time``-th time."""

    pattern: str
    time: int = 1

    def kill(self) -> None:
        before, left = DbtInvocation._on_event, [self.time]

        def on_event(self_: DbtInvocation, event: Any) -> None:
            if event.info.name == "SQLQuery" and re.search(
                self.pattern, " ".join(event.info.msg.split())
            ):
                left[0] -= 1
                if not left[0]:
                    die()
            before(self_, event)

        patch.object(DbtInvocation, "_on_event", on_event).start()


@dataclass(frozen=True)
class Built:
    """When dbt has built the node, and nothing says so yet."""

    name: str

    def kill(self) -> None:
        before = Landing.results

        def results(self_: Landing, work: RunPlan, event: Any) -> Iterator[Any]:
            if event["data"]["node_info"]["node_name"] == self.name:
                die()
            return before(self_, work, event)

        patch.object(Landing, "results", results).start()


@dataclass(frozen=True)
class Call:
    """When this function of ours is called, in this process: one that only the test has started."""

    function: str

    def kill(self) -> None:
        patch(f"dbt_orchestration.{self.function}", lambda *_, **__: die()).start()


@dataclass(frozen=True)
class Tagged:
    """When a run is about to be given this tag, with a value."""

    tag: str

    def kill(self) -> None:
        before = dg.DagsterInstance.add_run_tags

        def add_run_tags(
            self_: dg.DagsterInstance, run_id: str, new_tags: Mapping[str, str]
        ) -> None:
            if new_tags.get(self.tag):
                die()
            before(self_, run_id, new_tags)

        patch.object(dg.DagsterInstance, "add_run_tags", add_run_tags).start()


@dataclass(frozen=True)
class Said:
    """When Dagster is about to record an event of this type, the first one."""

    event: dg.DagsterEventType

    def kill(self) -> None:
        before = dg.DagsterInstance.handle_new_event

        def handle(self_: dg.DagsterInstance, event: dg.EventLogEntry, **options: Any) -> None:
            if event.dagster_event and event.dagster_event.event_type is self.event:
                die()
            before(self_, event, **options)

        patch.object(dg.DagsterInstance, "handle_new_event", handle).start()


Moment = Sql | Built | Call | Tagged | Said


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def ended(instance: dg.DagsterInstance) -> dg.DagsterRun | None:
    """The run that nobody works on any more, once Dagster's run monitoring has seen it, if any."""
    records = instance.get_run_records(dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED]))
    if not records:
        return None
    [record] = records
    workspace: Any = None  # only asked if the run's process could be started again
    monitor_started_run(instance, workspace, record, logging.getLogger("monitoring"))
    run = instance.get_run_by_id(record.dagster_run.run_id)
    assert run is not None
    assert run.status is dg.DagsterRunStatus.FAILURE
    return run
