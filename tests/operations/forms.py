"""Forms as a person launches them, and what is started because of them."""

from __future__ import annotations

from tests.automation.test_history import shown
from tests.automation.test_rebuild import started

__all__ = ["rows", "shown", "started"]


def rows(text: str) -> list[list[str]]:
    """The rows of all tables in a text, without their headings."""
    lines = text.splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("|")]
    rules = {n for n, cell in enumerate(cells) if set(cell[0]) == {"-"}}
    return [c for n, c in enumerate(cells) if n not in rules and n + 1 not in rules]
