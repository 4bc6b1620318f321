"""Dates, as dbt reads them."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Literal

BatchSize = Literal["hour", "day", "month", "year"]


def moment(said: object) -> datetime:
    """The moment that ``said`` is: ISO 8601 in any of its forms, UTC if it names no zone.

    Raises:
        ValueError: it is none.
    """
    try:
        if type(said) is date:
            said = datetime(said.year, said.month, said.day)
        found = datetime.fromisoformat(said) if isinstance(said, str) else said
        if isinstance(found, datetime):
            return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{said!r} is no date: write it as '2024-01-31' or '2024-01-31T13:00'")


def is_day(said: str) -> bool:
    """Whether a date says no time, so that it can mean the whole day."""
    try:
        date.fromisoformat(said)
    except ValueError:
        return False
    return True
