"""Whether a microbatch model gives the same rows when several batches are run as one.

dbt runs the SQL once per batch. It reads only the batch's rows of each relation that has an
``event_time``, reads the others whole, and replaces the batch's rows of the model by the result.
The proof goes through the query from the inside to the outside. Each relation in it is either the
same for every batch, or each of its rows is made of the rows of one batch; then some columns say
which: times that lie in it, *moments*. Whatever brings rows together (GROUP BY, a window, a join)
has to do so by a moment, and the model's own event_time has to be one.

What is taken for granted:

- The session's time zone is UTC, or the event times have none; on Snowflake no event time is a
  TIMESTAMP_TZ of another offset. Else the days in SQL are not those of the batches: ``utc=False``.
- An event time is a DATE, TIMESTAMP or TIMESTAMPTZ, on DuckDB no finer than a microsecond, and of
  an hourly model it is no DATE.
- A function that has the name of a built-in one is the built-in one. What is read whole does not
  change from one batch to the next.
- Where SQL leaves the engine a choice, one is as good as the other: ties in the ORDER BY of a
  window, any_value(), the order in a list, the last digits of a sum.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import jinja2
from sqlglot import exp

from dbt_orchestration.changes.columns.names import Names, Opaque, dialect_of
from dbt_orchestration.changes.columns.syntax import parse
from dbt_orchestration.changes.dates import BatchSize
from dbt_orchestration.changes.merging.queries import Queries
from dbt_orchestration.changes.merging.scopes import Batches, Column, Relation

# What Jinja can know of the batch, of the run that builds it, or of the rows in the database.
_OF_THE_RUN = re.compile(
    r"adapter|builtins|context|event_time\w*|flags|get_(column_values|query_\w+|single_value)|graph"
    r"|invocation\w*|is_incremental|load_result|model|modules|render\w*|run_(query|started_at)"
    r"|selected_resources|should_full_refresh|statement|store_result|this|thread_id"
)
_JINJA = jinja2.Environment(autoescape=False)
_COLUMN = re.compile(r'"(?P<quoted>[^"]+)"|(?P<bare>[A-Za-z_]\w*)')


def why_not_mergeable(
    sql: str,
    dialect: str,
    batch_size: BatchSize,
    event_time: str,
    inputs: Mapping[tuple[str, ...], str | None],
    *,
    utc: bool = True,
) -> str:
    """Why several batches that are run as one may give other rows; "" if they give the same.

    Args:
        sql: the model's compiled SQL, one query, without the filters that dbt puts in.
        dialect: ``duckdb`` or ``snowflake``.
        event_time: the model's own, a column of ``sql``.
        inputs: for each relation that the SQL may read, the ``event_time`` that dbt filters it by,
            None if it is read whole. The keys are the parts of the names that the SQL gives them,
            as ``Names.normal`` makes them; of an ephemeral model it is ``("__dbt__cte__...",)``.
        utc: whether the days, hours, ... that the SQL makes of event times are those of UTC. If
            that is not known, only models that keep event times as they are can be proven.
    """
    if dialect not in ("duckdb", "snowflake"):
        return f"SQL of {dialect}"
    try:
        query = parse(sql, dialect_of(dialect))
        for known in (True, utc):
            batches = Batches(batch_size, Names(dialect_of(dialect)), known, dialect == "duckdb")
            why = _why_not(query, batches, event_time, inputs)
            if why:
                return why if known else f"makes a {batch_size} of times that may not be in UTC"
    except Opaque as why:
        return str(why)
    except RecursionError:
        return "SQL nested too deeply"
    return ""


def batch_dependent(raw_code: str) -> str:
    """Why the SQL that a model's Jinja renders may depend on the batch; "" if it does not.

    Comments and the arguments of ``config()`` do not count. Macros that the Jinja calls have to be
    asked about as well.
    """
    try:
        tokens = list(_JINJA.lexer.tokeniter(raw_code, None))
    except jinja2.TemplateSyntaxError:
        return "Jinja that cannot be read"
    code = [(kind, text) for _, kind, text in tokens if kind in ("name", "string", "operator")]
    depth = 0
    for place, (kind, text) in enumerate(code):
        if text == "(" and (depth or code[place - 1 : place] == [("name", "config")]):
            depth += 1
        elif text == ")" and depth:
            depth -= 1
        elif not depth and (
            (kind == "name" and _OF_THE_RUN.fullmatch(text))
            or (kind == "string" and "event_time" in text)
        ):
            return f"its Jinja mentions {text}"
    return ""


def _why_not(
    query: exp.Query,
    batches: Batches,
    event_time: str,
    inputs: Mapping[tuple[str, ...], str | None],
) -> str:
    try:
        tables = {path: _table(path, time, batches.names) for path, time in inputs.items()}
        relation = Queries(batches, tables).relation(query, {})
        if not relation.local:
            return "reads nothing of which a batch sees only its own rows"
        if not relation.find(_column(event_time, batches.names)):
            why = f"its {event_time} may lie outside the {batches.size} of the rows it is made of"
            return relation.doubt(why)
    except Opaque as why:
        return str(why)
    return ""


def _table(path: tuple[str, ...], event_time: str | None, names: Names) -> Relation:
    if event_time is None:
        return Relation("")
    return Relation(path[-1], (Column(_column(event_time, names), moment=True),))


def _column(event_time: str, names: Names) -> str:
    """The column that an ``event_time`` names: dbt puts it in SQL as it is."""
    match = _COLUMN.fullmatch(event_time)
    if match is None:
        raise Opaque(f"the event_time {event_time} is no column")
    return names.normal(match["bare"] or match["quoted"], quoted=match["bare"] is None)
