"""A tick's outcome is a value that comes through the cursor, whatever else stands there."""

from __future__ import annotations

from base64 import b64encode
from zlib import compress

import pytest

from dbt_orchestration.automation.cursors import write_cursor
from dbt_orchestration.automation.outcome import _WORDS, Finding, Outcome, findings


def test_every_outcome_has_words() -> None:
    assert _WORDS.keys() == set(Outcome)


def test_what_a_tick_found_is_read_again_from_its_cursor() -> None:
    found = [
        Finding(Outcome.UNREACHABLE, {"branch": "main", "why": "no network"}),
        Finding(Outcome.NOTHING_DUE, {"commit": "main at 0123456789 “one”", "nodes": "7"}),
    ]
    cursor = write_cursor("nothing_due", {"found": [each.as_json() for each in found]})
    assert findings(cursor) == found
    assert str(found[0]) == "Cannot see the branch main: no network."


def written(content: str) -> str:
    return f"builds {b64encode(compress(content.encode())).decode()}"


@pytest.mark.parametrize(
    "cursor",
    [
        None, "", "a word", "builds a word", '{"found": []}', written(""), written("[]"),
        written('{"said": "of an older version"}'), written('{"found": ["preparing"]}'),
        written('{"found": [["not_known", {}], ["preparing", {}], ["preparing", 3]]}'),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_nothing(cursor: str | None) -> None:
    assert findings(cursor) == []
