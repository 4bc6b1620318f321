"""What the morning page costs where there are many models, and some days of daily builds.

The events are those of builds, without any dbt: it is reading them that is measured.

Dagster reads the annotations: they are no strings, as ``annotations`` of ``__future__`` would be.
"""

import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
import typer

from benchmarks.one_model import Model, write_project
from dbt_orchestration.assets.dbt_assets import DbtAssets
from dbt_orchestration.automation.morning.page import Page
from dbt_orchestration.automation.morning.read import Reader
from dbt_orchestration.automation.telling.texts import TEXTS
from dbt_orchestration.ledger.provenance import RELATION, SECONDS, UNIQUE_ID
from dbt_orchestration.ledger.run_tags import ENVIRONMENT_TAG
from dbt_orchestration.location.assets import dbt_assets
from dbt_orchestration.revisions.working_tree import prepare
from dbt_orchestration.settings.models import Environment, Push, Settings

_COLUMNS, _WARNS = 20, 10
_DAILY = {"dagster/schedule_name": "prod_full_build_schedule", ENVIRONMENT_TAG: "prod"}


def assets_of(folder: Path, models: int) -> tuple[Settings, DbtAssets]:
    """A parsed project of so many models, as assets."""
    write_project(folder, [Model(number) for number in range(models)])
    prod = Environment(branch="main", target="prod", push=Push(enabled=False))
    settings = Settings(
        project_dir=folder / "project",
        profiles_dir=folder / "project",
        profile="duckdb",
        state_dir=folder / "state",
        environments={"prod": prod},
    )
    return settings, dbt_assets(settings, "prod", prepare(settings, "prod"), settings.pool)


def build(instance: dg.DagsterInstance, dbt: DbtAssets) -> None:
    """A daily build, of which every tenth test warns."""
    columns = [dg.TableColumn(f"column_{number}", "varchar") for number in range(_COLUMNS)]

    @dg.op
    def work(context: dg.OpExecutionContext) -> None:
        for unique_id, key in dbt.nodes.items():
            metadata: dict[str, Any] = {
                SECONDS: 1.0,
                UNIQUE_ID: unique_id,
                RELATION: f"warehouse.main.{key.path[-1]}",
                "dagster/row_count": 10,
                "dagster/column_schema": dg.TableSchema(columns),
            }
            context.log_event(dg.AssetMaterialization(key, metadata=metadata))
        for number, check in enumerate(dbt.checks):
            found: Any = dg.AssetCheckEvaluation(
                asset_key=check.asset_key,
                check_name=check.name,
                passed=bool(number % _WARNS),
                metadata={"failed_rows": 1},
                severity=dg.AssetCheckSeverity.WARN,
            )
            context.log_event(found)

    @dg.job(tags=_DAILY)
    def daily() -> None:
        work()

    daily.execute_in_process(instance=instance)


def main(
    models: Annotated[int, typer.Option(help="Models in the project.", min=2)] = 1000,
    days: Annotated[int, typer.Option(help="Daily builds to write before.", min=1)] = 3,
) -> None:
    """CPU and wall seconds of one page."""
    with tempfile.TemporaryDirectory(prefix="morning_") as temporary:
        folder = Path(temporary).resolve()
        settings, dbt = assets_of(folder, models)
        with dg.DagsterInstance.local_temp(str(folder / "state")) as instance:
            for _ in range(days):
                build(instance, dbt)
            for _ in range(2):  # what is read for the first time is slower
                cpu, wall = time.process_time(), time.perf_counter()
                morning = Reader(settings, "prod", instance, dbt, (), 0.0, time.time()).morning()
                page = Page(TEXTS["en"], "UTC", "").write(morning)
                cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
                typer.echo(
                    f"{len(dbt.nodes):,} models, {len(dbt.checks):,} tests: {cpu:.2f} s CPU,"
                    f" {wall:.2f} s; {len(page):,} characters"
                )


if __name__ == "__main__":
    typer.run(main)
