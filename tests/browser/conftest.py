"""A browser in front of a real ``make up`` that follows a remote."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.e2e.test_push import Pushed

# A bound for what never comes; everything waits for what it needs, and no longer.
_PATIENCE = 900_000.0  # milliseconds
# Debian calls it chromium. Playwright would download one of its own.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)

# What the fields of each form stand under.
OPS = {
    **{"run_now": "now", "dbt": "command", "docs": "docs_of", "adopt": "what_is_there"},
    **{"resume_daily_build": "resume_build", "roll_back": "hold", "roll_forward": "release"},
    **{"pause": "stop", "resume": "go_on", "rebuild": "form"},
    **{"rebuild_history": "approve", "drop_orphans": "left_over"},
}
_BUILT = """query($name: String!) { assetOrError(assetKey: {path: ["prod", $name]}) { ... on Asset {
    assetMaterializations(limit: 100) { runId partition } } } }"""

# As long as there is such a file, the source of the totals cannot be read.
TOTALS = """\
select sum(orders) * cast((select if(count(*) > 0, 'locked', '1') from glob('FILE')) as integer)
    as orders
from {{ ref("customers") }}
"""
DASHBOARD = """\
exposures:
  - name: sales
    type: dashboard
    owner: {email: ann@example.com}
    depends_on: [ref('big_customers'), ref('totals')]
"""


@dataclass
class Ui:
    """Dagster as a person sees it, of a site that people push to."""

    page: Page
    site: Pushed

    def open(self, path: str) -> None:
        self.page.goto(f"http://127.0.0.1:{self.site.up.port}{path}")

    def asset(self, name: str, view: str = "overview") -> None:
        """Open the page of an asset of prod."""
        self.open(f"/assets/prod/{name}?view={view}")

    def menu(self, *labels: str) -> None:
        """Click these, one after the other, in the bar at the left and on what it opens."""
        self.open("/")
        self.clicks(*labels)

    def clicks(self, *labels: str) -> None:
        """The same from any page, which takes less time than to open one."""
        for label in labels:
            self._labelled("a", label).click()

    def button(self, name: str) -> Locator:
        return self._labelled("button", name)

    def _labelled(self, element: str, words: str) -> Locator:
        # By its words alone: its name for a screen reader is that of its icon, too.
        exactly = re.compile(f"^{re.escape(words)}$")
        return self.page.locator(element).filter(has_text=exactly).first

    def built(self, name: str) -> list[Mapping[str, Any]]:
        """The materializations of an asset, the newest first."""
        found: list[Mapping[str, Any]] = self.site.up.query(_BUILT, name=name)[
            "assetMaterializations"
        ]
        return found

    def last_run(self, name: str) -> str:
        """The run that built an asset last; "" if none did."""
        built = self.built(name)
        return str(built[0]["runId"]) if built else ""

    def sees(self, *texts: str | re.Pattern[str]) -> None:
        """All of these are on the page, sooner or later."""
        for text in texts:
            expect(self.page.get_by_text(text).first).to_be_visible()

    def picture(self, name: str, height: int | None = None) -> None:
        """Keep what is on the screen, for the documentation: see ``make pictures``.

        Args:
            height: of the upper part to keep, in pixels. None: all.
        """
        if folder := os.environ.get("PICTURES"):
            self.page.wait_for_load_state("networkidle")  # what is shown has come
            self.page.screenshot(
                path=Path(folder) / f"{name}.png",
                animations="disabled",
                clip={"x": 0, "y": 0, "width": 1440, "height": height or 900},
            )

    def fill_in(self, form: str, **fields: object) -> None:
        """Open a form of prod in the Launchpad, and write these fields instead of what is there."""
        self.page.keyboard.press("Escape")  # what was read before
        self.clicks("Jobs", f"prod_{form}", "Launchpad")
        self.page.locator(".CodeMirror").first.click()
        self.page.keyboard.press("Control+A")
        self.page.keyboard.insert_text(json.dumps(filled_in(form, fields), indent=2))

    def launch(self) -> str:
        """Press the button of the Launchpad; the run whose page opens."""
        self.button("Launch Run").click()
        self.page.wait_for_url("**/runs/**")
        return re.split("[/?]", self.page.url.partition("/runs/")[2])[0]

    def refused(self, runs: Iterable[tuple[str, str]]) -> None:
        """The pages of these runs say so in one line: nothing was started, and why."""
        self.page.keyboard.press("Escape")
        for run, said in runs:
            self.clicks("Runs", run[:8])
            self.sees(re.compile(re.escape(f"Nothing was started: {said}")))

    def reads(self, title: str = "plan") -> None:
        """Open what a form shows as Markdown, on its run's page."""
        row = self.page.locator("tr").filter(has_text=re.compile(f"^{title}"))
        row.get_by_text("[Show Markdown]").first.click()


def filled_in(form: str, fields: Mapping[str, object]) -> Mapping[str, Any]:
    """The run config of a form of prod."""
    return {"ops": {f"prod_{OPS[form]}": {"config": fields}}}


@pytest.fixture(scope="package")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    """The shop, built."""
    if CHROMIUM is None:
        pytest.skip("No Chromium here: apt-get install chromium")
    site = Pushed(tmp_path_factory.mktemp("browser"), alone=True)
    site.clone.write("models/dashboards.yml", DASHBOARD)
    site.clone.write("models/totals.sql", TOTALS.replace("FILE", str(site.clone.home / "locked")))
    site.clone.write("models/forecast.sql", "select orders * 2 as orders from {{ ref('totals') }}")
    site.clone.push("first dashboard")
    site.up.start()
    site.up.first_built()
    yield site
    site.up.stop()


@pytest.fixture(scope="package")
def page(site: Pushed) -> Iterator[Page]:
    expect.set_options(timeout=_PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM,
            args=["--no-sandbox", "--disable-dev-shm-usage"],  # as root, and in containers
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900}, locale="en-US")
        page.set_default_timeout(_PATIENCE)
        yield page
        browser.close()


@pytest.fixture
def ui(page: Page, site: Pushed) -> Ui:
    return Ui(page, site)
