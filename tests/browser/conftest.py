"""A browser in front of a real ``make up`` that follows a remote."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.e2e.test_push import Pushed

# A bound for what never comes; everything waits for what it needs, and no longer.
_PATIENCE = 900_000.0  # milliseconds
# Debian calls it chromium. Playwright would download one of its own.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome"))), None)

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
        for label in labels:
            self._labelled("a", label).click()

    def button(self, name: str) -> Locator:
        return self._labelled("button", name)

    def _labelled(self, element: str, words: str) -> Locator:
        # By its words alone: its name for a screen reader is that of its icon, too.
        exactly = re.compile(f"^{re.escape(words)}$")
        return self.page.locator(element).filter(has_text=exactly).first

    def sees(self, *texts: str | re.Pattern[str]) -> None:
        """All of these are on the page, sooner or later."""
        for text in texts:
            expect(self.page.get_by_text(text).first).to_be_visible()

    def picture(self, name: str) -> None:
        """Keep what is on the screen, for the documentation: see ``make pictures``."""
        if folder := os.environ.get("PICTURES"):
            self.page.wait_for_load_state("networkidle")  # what is shown has come
            self.page.screenshot(path=Path(folder) / f"{name}.png", animations="disabled")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pushed]:
    """The shop, built."""
    if CHROMIUM is None:
        pytest.skip("No Chromium here: apt-get install chromium")
    site = Pushed(tmp_path_factory.mktemp("browser"), alone=True)
    site.clone.write("models/dashboards.yml", DASHBOARD)
    site.clone.push("first dashboard")
    site.up.start()
    site.up.first_built()
    yield site
    site.up.stop()


@pytest.fixture(scope="module")
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
