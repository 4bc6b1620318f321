"""dbt commands that build another commit than the newest, while the environment is paused."""

from __future__ import annotations

import dagster as dg

from dbt_orchestration.dbt.internals import adapters
from dbt_orchestration.revisions.store import published
from tests.automation.site import Site, git, names
from tests.automation.test_from_nothing import assert_from_nothing
from tests.automation.test_history import partitions
from tests.conftest import checks, failure, materialized
from tests.operations.forms import rows, shown, started

BUILD = {"command": "build", "reason": "to compare"}


def begin(site: Site) -> str:
    """A commit after the first one, built; the first one's SHA."""
    sha = git(site.clone.folder, "rev-parse", "HEAD")
    site.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    site.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    site.clone.write("models/fresh.sql", "select 1 as one")
    site.clone.edit(
        "models/models.yml",
        "data_tests: [unique]",
        "data_tests: [unique, not_null]",
    )
    site.clone.push("DATA-7 largest, in pence")
    assert site.build().success
    return sha


def totals(site: Site) -> list[tuple[object, ...]]:
    return site.query("select sum(amount) from main.customers")


def test_an_older_commit_is_built_while_nobody_builds_it_back(built: Site) -> None:
    before = totals(built)
    sha = begin(built)
    new = totals(built)
    said = failure(built.launch("dbt", **BUILD, select="customers daily", commit=sha[:8]))
    assert "commit: prod follows main, and would be built back within seconds" in said
    built.launch("pause", reason="to compare")
    dry = shown(built.launch("dbt", **BUILD, select="customers", commit=sha[:8], dry_run=True))
    assert ["customers", "as a whole"] in [row[:2] for row in rows(dry["plan"])]
    assert started(built) == []
    both = {**BUILD, "select": "customers daily", "commit": sha[:8], "full_refresh": True}
    assert "Nothing was started" in shown(built.launch("dbt", **both))["next"]
    built.launch("dbt", "ann", **both, dry_run=False)
    [request] = started(built)
    assert names(request) == ["customers", "daily"]
    assert request.tags["dbt/commit"].startswith(sha[:10])
    storage = built.instance.defs_state_storage
    assert storage
    assert str(published("prod", storage)).startswith(built.clone.head())  # what is loaded stays
    assert request.tags["user"] == "ann"
    result = built.run(request)
    assert result.success, failure(result)
    assert materialized(result) == ["customers", "daily"]
    assert {name for name in checks(result) if "customer_id" in name} == {
        "unique_customers_customer_id"
    }
    assert totals(built) == before != new
    [event] = [
        e.materialization
        for e in result.get_asset_materialization_events()
        if e.asset_key == dg.AssetKey(["prod", "customers"])
    ]
    assert str(event.metadata["commit"].value).startswith(sha[:10])
    assert "due, and not started" in built.says()
    built.launch("resume", reason="compared")
    request = built.request()
    assert names(request) == ["customers", "daily"]
    result = built.run(request)
    assert result.success
    assert sorted(map(str, partitions(result, "daily"))) == [f"2024-01-0{n}" for n in (1, 2, 3)]
    assert "nothing is due" in built.says()
    assert totals(built) == new
    assert_from_nothing(built)


def test_the_newest_commit_stays_the_one_that_is_loaded(built: Site) -> None:
    sha = begin(built)
    built.launch("pause", reason="to compare")
    for name in ("customers", "totals"):
        built.launch("dbt", **BUILD, select=name, commit=sha)
        [request] = started(built)
        assert names(request) == [name]
        assert built.run(request).success
    built.load()
    built.launch("run_now", select="fresh", reason="only the newest commit has it")
    [request] = started(built)
    assert names(request) == ["fresh"]


def test_a_test_of_an_older_commit_runs_alone(built: Site) -> None:
    sha = begin(built)
    built.launch("pause", reason="to compare")
    built.launch("dbt", command="test", select="customers", reason="x", commit=sha)
    [request] = started(built)
    assert list(checks(built.run(request))) == ["unique_customers_customer_id"]


def test_what_the_newest_commit_does_not_know_as_it_was_is_refused(built: Site) -> None:
    sha = begin(built)
    (built.clone.folder / "dbt/models/kept.sql").unlink()
    built.clone.edit("models/daily.sql", 'batch_size="day"', 'batch_size="month"')
    built.clone.edit("models/daily.sql", '"end": "2024-01-04"', '"end": "2024-02-01"')
    built.clone.push("without kept, by month")
    assert "nothing is due" in built.build_all()
    built.launch("pause", reason="to compare")
    wrong = {
        "kept": "select: kept is not in the newest commit: launch prod_roll_back instead.",
        "daily": "select: daily has other partitions in the newest commit: launch prod_roll_back",
    }
    for select, why in wrong.items():
        line = failure(built.launch("dbt", **BUILD, select=select, commit=sha))
        assert line.startswith(f"Nothing was started: {why}")
        assert "\n" not in line


def test_a_machine_without_the_commit_downloads_it(built: Site) -> None:
    sha = begin(built)
    built.launch("pause", reason="to compare")
    built.launch("dbt", **BUILD, select="customers", commit=sha)
    [request] = started(built)
    adapters.close_duckdb()
    [folder] = (built.settings.state_dir / "revisions" / "prod").glob(f"{sha}*")
    folder.rename(built.clone.home / "away")
    assert built.run(request).success
    assert folder.is_dir()
