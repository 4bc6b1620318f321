"""Forms as a person launches them, and what is started because of them."""

from __future__ import annotations

from typing import Any

import dagster as dg

from tests.automation.site import Site
from tests.automation.test_history import shown
from tests.automation.test_rebuild import started

__all__ = ["launch", "rows", "shown", "started"]

# What the fields of each form stand under.
_OPS = {"run_now": "now", "resume_daily_build": "resume_build", "dbt": "command", "docs": "docs_of"}


def launch(site: Site, form: str, **fields: Any) -> dg.ExecuteInProcessResult:
    definitions = site.loaded.get("prod") or site.load()
    return definitions.resolve_job_def(f"prod_{form}").execute_in_process(
        instance=site.instance,
        run_config={"ops": {f"prod_{_OPS[form]}": {"config": fields}}},
        raise_on_error=False,
    )


def rows(text: str) -> list[list[str]]:
    """The rows of all tables in a text, without their headings."""
    lines = text.splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    rules = {n for n, cell in enumerate(cells) if set(cell[0]) == {"-"}}
    return [c for n, c in enumerate(cells) if n not in rules and n + 1 not in rules]
