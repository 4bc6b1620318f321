"""A history of a year of days is rolled back and forward, in batches of many days."""

from __future__ import annotations

from tests.automation.site import Site, git
from tests.automation.test_held import assert_is, order


def begin(site: Site) -> None:
    site.clone.edit("models/daily.sql", 'begin="2024-01-01"', 'begin="2023-01-05"')
    site.clone.push("a year of days")
    assert site.build().success
    site.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    site.clone.push("DATA-7 in pence")
    assert site.build().success


def test_a_year_of_days_is_rolled_back(built: Site) -> None:
    sha = git(built.clone.folder, "rev-parse", "HEAD^")
    form = order(built, "roll_back", commit=sha, reason="wrong totals", dry_run=False)
    assert "| daily | 364 partitions, 2023-01-05 to 2024-01-03 | " in form["plan"]
    assert "nothing is due" in built.build_all()
    assert built.query("select max(amount) from main.daily") == [(350,)]
    assert_is(built, sha)
    order(built, "roll_forward")
    assert "nothing is due" in built.build_all()
    assert built.query("select max(amount) from main.daily") == [(3500,)]
