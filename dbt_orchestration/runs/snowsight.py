"""Pages of Snowflake's own UI."""

from __future__ import annotations

import re

# Of the other way to write one, by locator and region, the UI's address does not follow.
_BY_NAME = re.compile(r"(?P<organization>\w+)-(?P<account>[\w-]+)")


def query_url(account: str, query_id: str) -> str:
    """The page of a query; "" if it does not follow from the account's identifier."""
    named = _BY_NAME.fullmatch(account)
    if not named:
        return ""
    place = f"{named['organization']}/{named['account']}".lower()
    return f"https://app.snowflake.com/{place}/#/compute/history/queries/{query_id}/detail"
