"""Ask Snowflake what the queries of runs cost."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import Any

VIEW = "SNOWFLAKE.ACCOUNT_USAGE.QUERY_ATTRIBUTION_HISTORY"
_SECONDS = 600
_SQL = """
select query_tag, sum(credits_attributed_compute + coalesce(credits_used_query_acceleration, 0))
from {view}
where start_time >= cast('{since}' as timestamp_tz)
    and start_time <= cast('{until}' as timestamp_tz)
    and query_tag like '%run_id%'
group by query_tag
"""
# Run and node; "" for queries of a run that are of no node.
Credits = Mapping[tuple[str, str], float]


class CreditsError(RuntimeError):
    """Snowflake does not say what queries cost. The message says what to do."""


def ask(credentials: Any, since: datetime, until: datetime, run_ids: Collection[str]) -> Credits:
    """The credits of all queries of these runs, which were sent between two moments.

    Args:
        credentials: dbt's, of Snowflake.

    Raises:
        CreditsError: the account cannot be reached, or the role may not read the view.
    """
    import snowflake.connector

    sql = _SQL.format(view=VIEW, since=since.isoformat(), until=until.isoformat())
    try:
        with snowflake.connector.connect(
            account=credentials.account,
            database=credentials.database,
            warehouse=credentials.warehouse,
            role=credentials.role,
            **credentials.auth_args(),
        ) as connection:
            rows = connection.cursor().execute(sql, timeout=_SECONDS).fetchall()
    except snowflake.connector.Error as error:
        said = " ".join(str(error).split()).rstrip(".")
        role = f"role {credentials.role}" if credentials.role else "user's role"
        raise CreditsError(
            f"{VIEW} cannot be read: {said}. The {role} needs `grant imported"
            " privileges on database snowflake`"
        ) from None
    return add_up(rows, run_ids)


def add_up(rows: Iterable[tuple[str, Any]], run_ids: Collection[str]) -> Credits:
    """Credits by run and node, of query tags such as the project's macro ``set_query_tag`` makes.

    Args:
        rows: a tag with credits each. Tags of others are left out.
    """
    found: dict[tuple[str, str], float] = {}
    for text, credits in rows:
        try:
            tag = json.loads(text)
        except ValueError:
            continue
        if isinstance(tag, dict) and tag.get("run_id") in run_ids:
            key = str(tag["run_id"]), str(tag.get("node") or "")
            found[key] = found.get(key, 0.0) + float(credits or 0.0)
    return found
