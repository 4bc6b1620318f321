"""``make demo``: the flights project on the real data, from nothing, and three pushes to it.

Then a fourth, which is the change that docs/incremental.md leads through, while somebody reads.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb
import pytest

from dbt_orchestration.settings.models import Environment, Git, Settings
from tests.automation.site import ALWAYS, Clone, Site, git, names
from tests.conftest import clean_environment
from tests.e2e.running import until

HISTORY = "dbt_project/models/marts/operations/fct_flights.sql"


@dataclass(frozen=True)
class Demo:
    done: subprocess.CompletedProcess[str]
    state: Path

    @property
    def warehouse(self) -> Path:
        return self.state / "warehouse.duckdb"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    home = tmp_path_factory.mktemp("demo")
    with pytest.MonkeyPatch.context() as patch:
        clean_environment(patch)
        done = subprocess.run(
            [sys.executable, "-m", "dbt_orchestration.cli", "demo"],
            env=os.environ | {"DBT_ORCHESTRATION_STATE_DIR": str(home), "COLUMNS": "160"},
            capture_output=True,
            text=True,
            check=False,
        )
    print(done.stdout)
    return Demo(done, home / "demo")


@pytest.mark.timeout(1800)
def test_the_demo_builds_every_flight_and_tells_what_pushes_do(demo: Demo) -> None:
    done = demo.done
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "First full build of prod: done" in done.stdout
    first, second, third = done.stdout.split("git commit ")[1:]
    assert first.startswith("models/marts/reference/dim_routes.sql")
    assert "1 node of 39: dim_routes" in first
    assert "column_changed haul: dim_routes ← SQL" in first
    assert "1 built, 38 left alone" in first
    assert "nothing is due; all 39 nodes are as it says." in second
    assert "0 built, 39 left alone" in second
    assert "2 nodes (730 partitions rebuilt) of 39" in third
    assert "column_added hours: fct_flights ← SQL" in third
    assert "365 partitions, 2013-12-02 … 2013-01-05" in third  # the newest batch of 30 days first
    assert "success" in third
    with duckdb.connect(str(demo.warehouse)) as connection:

        def value(sql: str) -> object:
            [(found,)] = connection.execute(sql).fetchall()
            return found

        assert value("select count(*) from marts.fct_flights") == 336_776
        assert value("select count(distinct flight_date) from marts.fct_flights") == 365
        assert value("select count(*) from marts.fct_weather_hourly") == 26_115
        unfilled = "hours is distinct from air_minutes / 60"
        assert value(f"select count(*) from marts.fct_flights where {unfilled}") == 0


@pytest.mark.timeout(1800)
def test_a_column_fills_from_the_newest_day_while_a_dashboard_goes_on_reading(demo: Demo) -> None:
    with dg.DagsterInstance.from_config(str(demo.state / "dagster" / "duckdb")) as instance:
        site = pushed_to(demo, instance)
        assert "nothing is due" in site.says()
        model = site.clone.folder / HISTORY
        text = model.read_text()
        last = "    air_minutes / 60 as hours\n"
        assert last in text
        added = "    air_minutes / 60 as hours,\n    distance_miles * 1.609344 as distance_km\n"
        model.write_text(text.replace(last, added))
        site.clone.push("kilometres, too")
        request = site.request()
        assert names(request) == ["fct_flights", "fct_route_performance_daily"]
        with Dashboard(demo.warehouse).kept_open() as seen:
            assert site.run(request).success
        assert "nothing is due" in site.says()
    assert len(set(seen.answers)) == 1
    assert seen.answers[0][:2] == (336_776, 365)
    assert len(seen.answers) > 20
    filled = seen.filled_days
    assert filled[-1][1] == 365
    # Whole days, the newest first, but for those of the four batches that run at once.
    assert all(since < days + 4 * 30 and halves == 0 for since, days, halves in filled)
    assert len({days for _, days, _ in filled}) > 3


def pushed_to(demo: Demo, instance: dg.DagsterInstance) -> Site:
    """The demo, of which somebody has a clone to push from."""
    home = demo.state.parent
    git(home, "clone", "--quiet", "--bare", str(demo.state / "repository"), "remote.git")
    git(home, "clone", "--quiet", "remote.git", "clone")
    clone = Clone(home)
    settings = Settings(
        project_dir=home / "nowhere",
        profiles_dir=clone.folder / "dbt_project",
        profile="duckdb",
        load_raw=True,
        state_dir=demo.state,
        duckdb_path=demo.warehouse,
        git=Git(remote=str(clone.remote), project_path="dbt_project"),
        environments={"prod": Environment(branch="main", target="prod", push=ALWAYS)},
    )
    return Site(clone, instance, settings)


@dataclass
class Dashboard:
    """Somebody who asks all the time, and may not meet an error.

    Attributes:
        answers: rows, days and the sum of delays, one for each question.
        filled_days: days from the first that has the new column to the last of all, days that have
            it, and days in which only some rows do.
    """

    warehouse: Path
    answers: list[tuple[Any, ...]] = field(default_factory=list)
    filled_days: list[tuple[Any, ...]] = field(default_factory=list)

    @contextmanager
    def kept_open(self) -> Iterator[Dashboard]:
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            reading = pool.submit(self._read, stop.is_set)
            try:
                yield self
            finally:
                stop.set()
            reading.result()

    def _read(self, stopped: Callable[[], bool]) -> None:
        with duckdb.connect(str(self.warehouse)) as connection:

            def ask(sql: str) -> Sequence[tuple[Any, ...]]:
                return connection.execute(sql).fetchall()

            last = False
            while not last:
                last = stopped()
                self.answers += ask(
                    "select count(*), count(distinct flight_date), sum(arrival_delay_minutes)"
                    " from marts.fct_flights"
                )
                if ask(
                    "from duckdb_columns()"
                    " where (table_name, column_name) = ('fct_flights', 'distance_km')"
                ):
                    self.filled_days += ask(
                        "with days as (select flight_date, count(*) as n, count(distance_km) as km"
                        " from marts.fct_flights group by 1)"
                        " select coalesce(date_diff('day', min(flight_date) filter (km > 0),"
                        "   max(flight_date)) + 1, 0),"
                        " count(*) filter (km > 0), count(*) filter (km not in (0, n)) from days"
                    )


@pytest.mark.timeout(1800)
def test_stopped_it_leaves_no_dagster_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "dbt_orchestration.cli", "demo"],
        env=os.environ | {"DBT_ORCHESTRATION_STATE_DIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    lock = tmp_path / "demo" / "dagster" / "duckdb" / "dagster.lock"
    until(lambda: (lock.is_file() and lock.read_text()) or None)  # the process that runs Dagster
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate()
    assert process.returncode == 1
    assert said == "error: stopped before its end\n"
    with lock.open() as held:  # whatever is left of Dagster has this lock
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
