"""A shop that is pushed to and broken, and what has to be true of it at the end."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import duckdb

from dbt_orchestration.runs.scratch import remove_left
from tests import instances
from tests.automation.site import Site
from tests.conftest import INSTANCE

# Made anew beside its table by the push, which takes a column away.
_ANEW = """\
{{ config(
    materialized="incremental", incremental_strategy="microbatch", event_time="day_at",
    batch_size="day", begin="2024-01-01", lookback=0,
    meta={"dagster": {"partitions": {"mergeable": false, "end": "2024-01-04"}}}
) }}
select date_trunc('day', ordered_at) as day_at, sum(amount) as amount, count(*) as orders
from {{ ref("stg_orders") }}
group by 1
"""
_HISTORY = """\
{% snapshot history %}
{{ config(unique_key="customer_id", strategy="check", check_cols=["amount"]) }}
select customer_id, amount from {{ ref("customers") }}
{% endsnapshot %}
"""


@contextlib.contextmanager
def dagster_in(home: Path) -> Iterator[dg.DagsterInstance]:
    """Dagster, set as an installation is."""
    (home / "dagster").mkdir(exist_ok=True)
    shutil.copy(INSTANCE, home / "dagster")
    with instances.dagster_in(home) as instance:
        yield instance


def build_first(home: Path) -> None:
    """Every kind of node, built."""
    with dagster_in(home) as instance:
        site = Site.of(home, instance)
        site.clone.write("models/anew.sql", _ANEW)
        site.clone.edit("models/daily.sql", '"end"', '"mergeable": false, "end"')
        (site.clone.folder / "dbt" / "snapshots").mkdir()
        site.clone.write("snapshots/history.sql", _HISTORY)
        site.clone.push("every kind of node")
        assert site.build().success


def push(site: Site) -> str:
    """A commit that makes every node due, and a history of each kind."""
    site.clone.edit("seeds/raw_orders.csv", "2,10,150", "2,10,175")
    site.clone.edit("models/stg_orders.sql", "select order_id", "select order_id + 0 as order_id")
    site.clone.edit("models/kept.sql", "amount * 2", "amount * 3")
    site.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    site.clone.edit("models/anew.sql", ", count(*) as orders", "")
    return site.clone.push("everything")


@dataclass(frozen=True)
class End:
    """What is there when nothing moves any more.

    Attributes:
        rows: columns and rows of each relation, without what dbt writes of when it was.
        partitions: those that are recorded, by asset.
        running: runs that have not ended.
        helpers: tables of ours and dbt's that should have gone.
        scratch: files and folders of ours that should have gone. What dbt compiled for a run that
            failed stays for a while.
    """

    rows: Mapping[str, Any]
    partitions: Mapping[str, set[str]]
    running: list[str]
    helpers: list[str]
    scratch: list[str]

    @classmethod
    def of(cls, site: Site) -> End:
        keys = site.loaded["prod"].resolve_asset_graph().materializable_asset_keys
        unfinished = [status for status in dg.DagsterRunStatus if not _ended(status)]
        rows = relations(site.settings.duckdb_path)
        state = site.settings.state_dir
        # As the next run does when it begins; here none may begin any more.
        remove_left(site.settings, site.instance)
        failed = {run.run_id for run in site.instance.get_runs() if is_failure(run)}
        scratch = [path for path in state.glob("runs/*") if path.name not in failed]
        scratch += [*state.glob("revisions/*/.*")]
        scratch += [*state.glob("revisions/*/*.new"), *state.glob("tmp/tmp*")]
        return cls(
            rows,
            {k.path[-1]: set(site.instance.get_materialized_partitions(k)) for k in keys},
            [run.run_id for run in site.instance.get_runs(dg.RunsFilter(statuses=unfinished))],
            [name for name in rows if "__" in name],
            [str(path.relative_to(state)) for path in scratch],
        )


def is_failure(run: dg.DagsterRun) -> bool:
    """Whether dbt failed at something, or we did, while the run's process was alive."""
    return run.tags.get("dagster/failure_reason") == "STEP_FAILURE"


def _ended(status: dg.DagsterRunStatus) -> bool:
    return status in {
        dg.DagsterRunStatus.SUCCESS,
        dg.DagsterRunStatus.FAILURE,
        dg.DagsterRunStatus.CANCELED,
    }


def relations(database: Path) -> Mapping[str, Any]:
    """The columns and rows of each relation."""
    with duckdb.connect(str(database)) as connection:
        found = connection.execute(
            "select table_schema || '.' || table_name from information_schema.tables"
        ).fetchall()
        return {
            name: sorted(
                map(
                    repr,
                    connection.execute(
                        f"select columns(lambda c: not starts_with(c, 'dbt_')) from {name}"
                    ).fetchall(),
                )
            )
            for (name,) in found
        }
