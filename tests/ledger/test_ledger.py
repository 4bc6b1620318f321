"""What Dagster says of each partition is what the table holds, whatever has happened to it."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from dbt_orchestration.assets.translator import PARTITIONS_CHECK
from dbt_orchestration.history.order import Order
from dbt_orchestration.ledger.built import read_built
from dbt_orchestration.revisions.working_tree import prepare
from dbt_orchestration.runs.landing import Landing
from dbt_orchestration.runs.plan import RunPlan
from tests.conftest import PROJECTS, Warehouse, make_settings
from tests.runs.test_build import resumed

DAYS = [f"2024-01-{day:02}" for day in range(1, 11)]
STEPS = 12


@pytest.fixture
def ledger(tmp_path: Path, instance: dg.DagsterInstance) -> Warehouse:
    settings = make_settings(tmp_path / "state", PROJECTS / "ledger")
    prepare(settings, "prod")
    warehouse = Warehouse(settings, "prod", instance)
    warehouse.execute("create table raw.step as select 0 as number")
    warehouse.execute(
        "create table raw.events as select timestamp '2024-01-01' + to_days(cast(range as int))"
        " + interval 7 hour as happened_at, false as broken from range(10)"
    )
    return warehouse


class History:
    """A random history of one model, and what its table must hold after each step."""

    def __init__(self, warehouse: Warehouse, chance: random.Random) -> None:
        self.warehouse = warehouse
        self.chance = chance
        self.steps: dict[str, set[int]] = {}  # of a run and of those it went on from
        self.cancelled: set[int] = set()
        self.failed: dg.ExecuteInProcessResult | None = None
        self.config: dict[str, bool] = {}
        self.tags: dict[str, str] = {}
        self.deck: list[str] = []

    def do(self, step: int) -> str:
        """One step; returns what it was."""
        self.warehouse.execute(f"update raw.step set number = {step}")
        broken = [day for day in DAYS if self.chance.random() < 0.15]
        self.warehouse.execute("update raw.events set broken = false")
        for day in broken:
            self.warehouse.execute(
                f"update raw.events set broken = true where happened_at::date = '{day}'"
            )
        if not self.deck:
            self.deck = ["range", "range", "newest", "anew", "retry", "cancel"]
            self.chance.shuffle(self.deck)
        what = self.deck.pop()
        config, partitions, tags = {}, None, {}
        if what in ("range", "cancel"):
            first, last = sorted(self.chance.sample(range(len(DAYS)), 2))
            partitions = DAYS[first], DAYS[last]
        elif what == "anew":
            config = {"full_refresh": True}
        elif what == "retry" and self.failed:
            config, tags = self.config, {**self.tags, **resumed(self.failed)}
        with pytest.MonkeyPatch.context() as patch:
            if what == "cancel":
                interrupt_after(patch, self.chance.randrange(1, 3))
            result = self.warehouse.build(
                "days", partitions=partitions, config=config or None, tags=tags
            )
        if what == "cancel":
            self.cancelled.add(step)
        before = self.steps[self.failed.run_id] if what == "retry" and self.failed else set()
        self.steps[result.run_id] = {step, *before}
        self.failed = None if result.success else result
        if what != "retry":
            self.config = config
            self.tags = dict(result.dagster_run.tags) if partitions else {}
        return f"{what} {partitions or ''} broken {broken}"

    def check(self) -> None:
        held = dict(
            self.warehouse.execute("select cast(happened_at::date as text), step from main.days")
            if self.warehouse.execute("from duckdb_tables() where table_name = 'days'")
            else []
        )
        recorded = self.recorded()
        for day in DAYS:
            if day not in held or held[day] not in recorded.get(day, ()):
                # A batch may have succeeded just before its run was cancelled, and not be recorded.
                unrecorded = day in held and held[day] in self.cancelled
                assert unrecorded or (day not in held and day not in recorded), (
                    day,
                    held.get(day),
                    recorded.get(day),
                )

    def recorded(self) -> dict[str, set[int]]:
        key = self.warehouse.key("days")
        found: dict[str, set[int]] = {}
        for record in self.records(key):
            assert record.partition_key is not None
            found.setdefault(record.partition_key, self.steps[record.run_id])
        assert found.keys() == self.warehouse.partitions("days")
        return found

    def records(self, key: dg.AssetKey) -> Iterator[dg.EventLogRecord]:
        """Materializations, the latest first."""
        yield from self.warehouse.instance.fetch_materializations(key, limit=5000).records


def interrupt_after(patch: pytest.MonkeyPatch, events: int) -> None:
    """Let the run be cancelled after so many results of dbt."""
    results = Landing.results
    seen: list[object] = []

    def interrupted(self: Landing, work: RunPlan, event: Mapping[str, Any]) -> Iterator[object]:
        seen.append(event)
        if len(seen) > events:
            raise dg.DagsterExecutionInterruptedError
        yield from results(self, work, event)

    patch.setattr(Landing, "results", interrupted)


def test_what_was_stopped_halfway_goes_on_from_there(
    ledger: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt_after(patch, 2)
        stopped = ledger.build("days")
    succeeded = ledger.partitions("days")
    assert 0 < len(succeeded) < len(DAYS)
    # The asset has partitions now, so all that Dagster finds unfinished is its check.
    check = dg.AssetCheckKey(ledger.key("days"), PARTITIONS_CHECK)
    job = ledger.definitions.resolve_implicit_global_asset_job_def()
    job = job.get_subset(asset_selection=set(), asset_check_selection={check})
    retry = job.execute_in_process(instance=ledger.instance, tags=resumed(stopped))
    built = [e.materialization.partition for e in retry.get_asset_materialization_events()]
    assert sorted(map(str, built)) == sorted(set(DAYS) - succeeded)
    assert [e.passed for e in retry.get_asset_check_evaluations()] == [True]


@pytest.mark.parametrize("seed", [1, 2])
def test_the_ledger_is_true(ledger: Warehouse, seed: int) -> None:
    history = History(ledger, random.Random(seed))
    told: list[str] = []
    for step in range(1, STEPS + 1):
        told.append(history.do(step))
        try:
            history.check()
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {'; '.join(told)}: {error}") from error


def test_what_was_loaded_again_is_rebuilt_when_somebody_asks(ledger: Warehouse) -> None:
    assert ledger.build("days").success
    for day in ("2024-01-03", "2024-01-07"):
        event = dg.AssetMaterialization(ledger.key("raw/events"), partition=day)
        ledger.instance.report_runless_asset_event(event)
    job = ledger.definitions.resolve_job_def("prod_rebuild")
    form = {"model": "days", "only_reloaded": True, "dry_run": False}
    asked = job.execute_in_process(
        instance=ledger.instance, run_config={"ops": {"prod_form": {"config": form}}}
    )
    assert asked.success
    with dg.build_sensor_context(ledger.instance, definitions=ledger.definitions) as context:
        data = ledger.definitions.resolve_sensor_def("prod_rebuild").evaluate_tick(context)
    [request] = data.run_requests or ()
    partitions = Order.of_tags(request.tags).partitions
    assert partitions == {"model.ledger.days": ["2024-01-03", "2024-01-07"]}


def test_what_a_build_took_is_in_seconds_and_that_of_dagster_dbt_counts(ledger: Warehouse) -> None:
    keys = {"model.ledger.days": ledger.key("days")}
    theirs = dg.AssetMaterialization(
        keys["model.ledger.days"], metadata={"Execution Duration": 86_400}
    )
    ledger.instance.report_runless_asset_event(theirs)
    assert read_built(ledger.instance, keys)["model.ledger.days"].seconds == 86_400
    [*_, ours] = ledger.build("days").get_asset_materialization_events()
    assert 0 < float(str(ours.materialization.metadata["seconds"].value)) < 86_400
    assert read_built(ledger.instance, keys)["model.ledger.days"].seconds < 86_400
