"""Whether several batches as one give the same rows: by cases, and by what DuckDB makes of queries.

The second half makes queries at random. Each that is said to be separable is run both ways.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from itertools import pairwise
from typing import get_args

import duckdb
import pytest

from dbt_orchestration.changes.dates import BatchSize
from dbt_orchestration.changes.merging.mergeable import batch_dependent, why_not_mergeable

# The event_time of each relation.
INPUTS = {"events": "ts", "clicks": "day", "dim": None, "days": None, "__dbt__cte__shifts": "day"}
BOTH = ("duckdb", "snowflake")


def why_not(
    sql: str, event_time: str, dialect: str, size: BatchSize = "day", *, utc: bool = True
) -> str:
    inputs: dict[tuple[str, ...], str | None] = {}
    for name, time in INPUTS.items():
        path = name if name.startswith("__") else f"db.main.{name}"
        sql = sql.replace(f"#{name}", path)
        inputs[tuple((path.upper() if dialect == "snowflake" else path).split("."))] = time
    return why_not_mergeable(sql, dialect, size, event_time, inputs, utc=utc)


# A case is the model's event_time and its query; above it stands why it is not separable.
YES = """
ts: select * from #events
d: select id, ts::date as d from #events where kind = 'x' or id > 3
d: select e.id, cast(e.ts as date) as d from #events as e order by id
d: select date(ts) as d, upper(kind) as k, coalesce(a, b) as c from #events
d: select date_trunc('hour', ts) as d, ts from #events
d: select date_trunc('day', ts) as d, count(*) as n from #events group by 1
d: select date_trunc('day', ts) as d, count(*) as n from #events group by d
d: select date_trunc('day', ts) as d, count(*) n from #events group by date_trunc('day', ts)
d: select id, ts::date as d, sum(x) as x from #events group by all
d: select id, max(ts) as d from #events group by id, ts::date having count(*) > 1
d: select id, min(date_trunc('hour', ts)) as d from #events group by id, date(ts)
d: select distinct id, ts::date as d from #events
ts: select distinct e.* from #events as e
ts: select id, ts, row_number() over (partition by ts::date, id order by x) as n from
    #events
d: select ts::date as d, sum(count(*)) over (partition by ts::date) as n from #events group
    by ts::date, id
ts: select * from #events qualify row_number() over (partition by id, date_trunc('day', ts)
    order by ts desc) = 1
d: with a as (select ts as d, id from #events), b as (select * from a) select * from b
ts: with a as (select *, id + 1 as j from #events) select ts, count(*) c from a group by ts
d: with a(d, i) as (select ts, id from #events) select d, i from a
d: select d from (select ts as d from #events) as t(d)
ts: with unused as (select random() as x), a as (select ts from #events) select ts from a
ts: select e.ts, d.name from #events e join #dim d on d.id = e.id
ts: select ts, d.name from #events e left join #dim d on d.id = e.id
ts: select ts, d.name from #dim d join #events e using (id)
ts: select ts, d.name from #dim d right join #events e on e.id = d.id
ts: select e.*, d.name from #events e cross join #dim d where d.id = e.id
ts: select e.ts from #events e, #dim d, #days y where d.id = e.id and y.day = e.day
ts: select ts from #events where id in (select id from #dim where active)
ts: select ts from #events e where not exists (select 1 from #dim d where d.id = e.id)
ts: select ts, (select max(x) from #dim) as m from #events
ts: select ts, (select r.x from #dim r where r.id = e.id order by r.x limit 1) as m from
    #events e
ts: with r as (select id, max(x) as x from #dim group by id) select ts, x from #events join
    r using (id)
ts: select e.ts, c.x from #events e join #clicks c on c.id = e.id and c.day = e.ts::date
ts: select e.ts, c.x from #events e left join #clicks c on (c.id = e.id and c.day =
    date_trunc('day', e.ts))
day: select c.day, e.x from #events e right join #clicks c on e.ts::date = c.day and e.id =
    c.id
ts: select e.ts from #events e, #clicks c where e.ts::date = c.day
day: with a as (select ts::date as day, count(*) n from #events group by 1) select a.day,
    a.n, c.x from a join #clicks c using (day)
day: with a as (select ts::date as day, id, count(*) as n from #events group by 1, 2), b as
    (select day, id, sum(x) as x from #clicks group by day, id) select coalesce(a.day,
    b.day) as day, n, x from a full join b on a.day = b.day and a.id = b.id
ts: with a as (select * from #events) select a.ts from a join a as b on a.ts = b.ts and a.id
    < b.id
ts: select e.ts from #events e left join #clicks c on c.day = e.ts::date left join #clicks f
    on f.day = c.day
d: select ts as d, id from #events union all select day, id from #clicks
d: select ts::date as d, id from #events union select day, id from #clicks
d: select ts::date as d, id from #events except select day, id from #clicks
d: select ts::date as d, id from #events intersect select day, id from #clicks order by 1
d: select ts as d from (select ts from #events union all select ts from #events where x) as
    u
day: with __dbt__cte__shifts as (select day, row_number() over (order by day) as n from
    #dim) select day, n from __dbt__cte__shifts
day: with __dbt__cte__shifts as (select max(ts) as day from #events) select * from
    __dbt__cte__shifts
"""
YES_DUCKDB = """
ts: select ts, count(*) over w as n from #events window w as (partition by ts::date order by
    id)
ts: select distinct on (ts::date, id) ts, id from #events order by ts::date, id, x
ts: select e.ts from #events e semi join #clicks c on c.day = e.ts::date and c.id = e.id
ts: select e.ts from #events e anti join #clicks c on c.day = e.ts::date and c.id = e.id
ts: select ts from #events e anti join #dim d using (id)
ts: select e.ts, p.x from #events e asof left join #dim p on p.id = e.id and e.ts >=
    p.valid_from
ts: select e.ts, u.i from #events e, unnest(e.items) as u(i)
ts: select ts, unnest(items) as i from #events
ts: select * exclude (id) replace (ts::date as ts) from #events
day: select ts as day, id from #events union all by name select id, day from #clicks
d: select ts at time zone 'UTC' as d from #events
d: select ts::date as d, *, from #events
ts: from #events select ts
"""
YES_SNOWFLAKE = """
ts: select e.ts, f.value:x::string as x from #events e, lateral flatten(input => e.items) f
ts: select e.ts from #events e left join lateral flatten(input => e.items, outer => true) f
    on true
ts: select e.ts from #events e, table(split_to_table(e.a, ',')) s
d: select to_timestamp_ntz(ts) as d, to_date(ts) as e from #events
d: select trunc(ts, 'day') as d, iff(x > 1, 1, 0) as y from #events
d: select *, ts::date as d from #events qualify 1 = row_number() over (partition by ts order
    by x)
d: select "TS" as d from #events
"""
NO = """
= groups by something else
ts: select id, max(ts) as ts from #events group by id
= groups by
d: select date_trunc('month', ts) as d, count(*) c from #events group by 1
d: select date_trunc('week', ts) as d, count(*) c from #events group by 1
d: select kind as d, count(*) c from #events group by d
ts: select *, count(*) c from #events group by 2, id
day: select c.day, count(*) n from #events e left join #clicks c on c.day = e.ts::date group
    by 1
= grouping sets
d: select ts::date as d, count(*) c from #events group by rollup(ts::date)
d: select ts::date as d, count(*) c from #events group by 1, cube(id)
= an aggregate without GROUP BY
ts: select max(ts) as ts from #events
ts: select 1 as ts from #events having count(*) > 1
ts: select ts from #events where ts = (select max(ts) from #events)
= a window function
ts: select ts, sum(x) over (order by ts) as s from #events
ts: select ts, sum(x) over (partition by id) as s from #events
= a window
ts: select ts, lag(x) over (partition by id order by ts) as s from #events
ts: select ts, count(*) over (partition by date_trunc('month', ts)) c from #events
ts: select ts, row_number() over (partition by d) as n, ts::date as d from #events
ts2: select id as ts2, id as ts, count(*) over (partition by ts) as n from #events
ts: select * from #events qualify row_number() over (partition by id order by ts) = 1
= LIMIT
ts: select ts from #events order by ts limit 10
ts: select ts from (select ts from #events limit 10) as t
= offset
ts: select ts from #events offset 3
= sample
ts: select ts from #events tablesample (10)
= DISTINCT
id: select distinct id from #events
d: select distinct date_trunc('month', ts) as d from #events
= without a match in events
ts: select d.id, e.ts from #dim d left join #events e on e.id = d.id
= without a match
ts: select d.id, e.ts from #dim d full join #events e on e.id = d.id
ts: select e.ts from #events e right join #dim d on d.id = e.id
day: select y.day from #days y left join #events e on e.ts::date = y.day
= joins events and clicks
ts: select e.ts from #events e join #clicks c on c.id = e.id
ts: select e.ts from #events e join #clicks c on c.day >= e.ts::date
= joins events and events
ts: select e.ts from #events e join #events f using (id)
= joins
ts: select e.ts from #events e join #clicks c on c.day = e.ts::date or c.id = e.id
ts: select e.ts from #events e join #clicks c on date_trunc('month', c.day) =
    date_trunc('month', e.ts)
ts: select e.ts from #events e left join #clicks c on c.id = e.id where c.day = e.ts::date
= without their day
ts: select e.ts from #events e join #clicks c on c.day = dateadd('day', 1, e.ts)
= a table as a query
ts: select ts from (#events e join #dim d on d.id = e.id)
= a natural join
ts: select e.ts from #events e natural join #dim d
= may lie outside
day: select c.day from #events e left join #clicks c on c.day = e.ts::date
ts: select e.ts from #events e full join #clicks c on c.day = e.ts::date
d: select id, ts as d from #events union all select day, id from #clicks
ts: select * from #events union all select * from #events
d: select ts + interval '1 day' as d from #events
ts: select loaded as ts from #events
ts: select case when x then ts end as ts from #events
d: select coalesce(loaded, ts) as d from #events
d: select try_cast(ts as date) as d from #events
d: select ts::timestamp(0) as d from #events
ts: select ts as d from #events
d: select max(d) over (partition by ts) as d from (select ts, ts as d from #events) e
= comma
ts: select e.ts from #events e full join #clicks c on c.day = e.ts::date, #clicks f where
    f.day = e.ts
= a subquery
ts: select ts from #events e where exists (select 1 from #clicks c where c.day = e.ts)
= a subquery that reads clicks
ts: select ts from #events where id not in (select id from #clicks)
= an aggregate
ts: with c as (select id from #clicks) select ts, (select count(*) from c) n from #events
= UNION of events and rows
d: select ts as d from #events union all select day from #days
= UNION without its day
id: select id from #events union select id from #clicks
= EXCEPT without
ts: select id, ts from #events except select id, kind from #clicks
= INTERSECT without
id: select id from #events intersect select id from #clicks
= may lie outside the day
d: select date_trunc('month', ts) as d from #events
= reads nothing
day: select * from #days
= current_date
d: select current_date as d
ts: select ts from #events where ts < current_date
= random, which is not the same
ts: select ts, random() as r from #events
= current_timestamp
ts: select ts, current_timestamp as loaded from #events
= uuid
ts: select ts, uuid() as u from #events
= nextval
ts: select ts, nextval('s') as u from #events
= my_function(), which is not known
ts: select ts, my_function(id) as x from #events
= which is not known
ts: select ts, main.hash(id) as x from #events
= random
ts: select ts from #events e join (select id, random() r from #dim) d on d.id = e.id
= LIMIT without
ts: select ts from #events e join (select id from #dim limit 3) d on d.id = e.id
= reads db.main.others, which is not ref() or source()
ts: select ts from db.main.others
= which is not ref() or source()
ts: select ts from events
= recursive
ts: with recursive r as (select ts from #events union all select ts from r) select ts from r
= a pivot
ts: select * from #events pivot (sum(x) for kind in ('a', 'b'))
= intersect and union without parentheses
d: select ts::date as d from #events union select day from #clicks intersect select day from #dim
= eq and not without parentheses
ts: select e.ts from #events e join #clicks c on c.day = e.ts::date is not null
= without parentheses
ts: select e.ts from #events e join #clicks c on not c.day = e.ts::date is distinct from true
= a plus sign
ts: select ts, +x as x from #events
= not one query
ts: select ts from #events; select 1
ts: delete from #events
= does not parse
ts: select ts from #events where (
= joins events and __dbt__cte__shifts
ts: with __dbt__cte__shifts as (select ts as day from #events) select e.ts from #events e
    join __dbt__cte__shifts s on s.id = e.id
= reads __dbt__cte__other
ts: with __dbt__cte__other as (select 1 as i) select ts, i from #events cross join
    __dbt__cte__other
"""
NO_DUCKDB = """
= may lie outside
d: select *, ts::date as d from #events
ts: select id as ts, * from #events
ts: select d.*, e.ts from #dim d join #events e on e.id = d.id
ts: select * rename (id as ts, ts as t) from #events
ts: select * replace (id as ts) from #events
ts: select * exclude (ts) from #events
ts: select unnest(s), ts from #events
ts: select count(*), ts from #events group by ts
d: select date_trunc('day', ts at time zone 'Asia/Seoul') as d from #events
= d may be another column, of the * before it
d: with a as (select *, ts::date as d from #events) select d, count(*) n from a group by d
= COLUMNS()
ts: select columns('t.*') from #events
= DISTINCT
ts: select distinct on (id) ts, id from #events order by id, ts
= without a match
ts: select d.id, d.ts from #dim d semi join #events e on e.id = d.id
ts: select d.id, d.ts from #dim d anti join #events e on e.id = d.id
= joins
ts: select e.ts from #events e asof join #clicks c on e.ts::date = c.day and e.x >= c.x
= a positional join
ts: select * from #events e positional join #clicks c
= a window
ts: select ts, count(*) over w as n from #events window w as (partition by id)
= UNION without
day: select id, day from #clicks union by name select id, ts as d from #events
= age()
ts: select ts, age(ts) as a from #events
= now()
ts: select ts, now() as a from #events
= gen_random_uuid
ts: select ts, gen_random_uuid() as a from #events
= today
ts: select ts from #events where ts < today()
= localtimestamp
ts: select ts, localtimestamp as a from #events
= get_current_timestamp()
ts: select ts, get_current_timestamp() as a from #events
= uuidv7()
ts: select ts, uuidv7() as a from #events
= getvariable()
ts: select ts, getvariable('x') as a from #events
= reads
ts: select * from read_csv('a.csv')
= which is not ref()
ts: select * from 'a.csv'
= a column by its position
ts: select #1 as ts from #events
"""
NO_SNOWFLAKE = """
= seq4
ts: select ts, seq4() as n from #events
= a sequence
ts: select ts, s.nextval as n from #events
= uuid_string
ts: select ts, uuid_string() as n from #events
= sysdate
ts: select ts, sysdate() as n from #events
= systimestamp
ts: select ts, systimestamp() as n from #events
= localtime
ts: select ts, localtime as n from #events
= seq8
ts: select ts, seq8() as n from #events
= randstr
ts: select ts, randstr(5, random()) as n from #events
= getdate
ts: select ts, getdate() as n from #events
= uniform
ts: select ts, uniform(1, 10, random()) as n from #events
= (+)
ts: select e.ts from #events e, #dim d where d.id = e.id(+)
= LIMIT
ts: select top 5 ts from #events
= a table with when
ts: select ts from #events at (timestamp => '2024-01-01'::timestamp)
= a semi join
ts: select e.ts from #events e semi join #dim d on d.id = e.id
= reads
ts: select ts from identifier('db.main.events')
= a star with ilike
ts: select * ilike 't%' from #events
= may lie outside
d: select convert_timezone('Asia/Seoul', ts) as d from #events
d: select "ts" as d from #events
= connect
ts: select ts from #events start with id = 1 connect by prior id = x
= not known
ts: select ts, snowflake.cortex.complete('m', a) as x from #events
= joins
day: select day from #events e full join #clicks c using (day)
"""


def cases(text: str) -> list[tuple[str, str, str]]:
    """The SQL, its event_time, and why it is not separable."""
    found: list[tuple[str, str, str]] = []
    why = ""
    for line in text.strip().splitlines():
        if line.startswith("= "):
            why = line.removeprefix("= ")
        elif line.startswith(" "):
            sql, event_time, _ = found.pop()
            found.append((f"{sql} {line.strip()}", event_time, why))
        else:
            event_time, _, sql = line.partition(": ")
            found.append((sql, event_time, why))
    return found


@pytest.mark.parametrize(
    ("dialect", "case"),
    [
        *((dialect, case) for dialect in BOTH for case in cases(YES) + cases(NO)),
        *(("duckdb", case) for case in cases(YES_DUCKDB) + cases(NO_DUCKDB)),
        *(("snowflake", case) for case in cases(YES_SNOWFLAKE) + cases(NO_SNOWFLAKE)),
    ],
)
def test_why_not_separable(dialect: str, case: tuple[str, str, str]) -> None:
    sql, event_time, why = case
    answer = why_not(sql, event_time, dialect)
    assert bool(answer) is bool(why)
    assert why.lower() in answer.lower()


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize("size", get_args(BatchSize))
def test_units_that_divide_a_batch(size: BatchSize, dialect: str) -> None:
    units = ["second", "minute", "hour", "day", "week", "month", "quarter", "year"]
    sql = "select date_trunc('{}', ts) as d, count(*) as n from #events group by 1"
    fine = {unit for unit in units if not why_not(sql.format(unit), "d", dialect, size)}
    assert fine == {unit for unit in units[: units.index(size) + 1] if unit != "week"}
    dates = ("select ts::date as d from #events", "select date(ts) as d from #events")
    for cut in dates:
        assert (why_not(cut, "d", dialect, size) == "") is (size != "hour")


@pytest.mark.parametrize("dialect", BOTH)
@pytest.mark.parametrize(
    ("sql", "separable"),
    [
        ("select * from #events", True),
        ("select ts, id from #events e left join #dim d using (id)", True),
        ("select ts, count(*) over (partition by ts) as n from #events", True),
        ("select ts::date as ts from #events", False),
        ("select ts, count(*) over (partition by ts::date) as n from #events", False),
        # One of them may have a time zone, and the other none.
        ("select ts from #events union all select day from #clicks", False),
        ("select e.ts from #events e join #clicks c on e.ts = c.day", False),
        ("select e.ts from #events e join (select day as ts from #clicks) c using (ts)", False),
    ],
)  # fmt: skip
def test_without_utc_only_moments_as_they_are(sql: str, separable: bool, dialect: str) -> None:
    assert why_not(sql, "ts", dialect) == ""
    answer = why_not(sql, "ts", dialect, utc=False)
    assert answer == ("" if separable else "makes a day of times that may not be in UTC")


def test_event_times_that_are_no_columns() -> None:
    inputs: dict[tuple[str, ...], str | None] = {("main", "events"): "cast(ts as date)"}
    answer = why_not_mergeable("select ts from main.events", "duckdb", "day", "ts", inputs)
    assert answer == "the event_time cast(ts as date) is no column"
    inputs = {("MAIN", "EVENTS"): '"ts"'}
    sql = 'select "ts" from main.events'
    assert why_not_mergeable(sql, "snowflake", "day", '"ts"', inputs) == ""
    assert why_not_mergeable(sql, "snowflake", "day", "ts", inputs)


def test_other_dialects_are_not_proven() -> None:
    assert why_not("select ts from #events", "ts", "postgres") == "SQL of postgres"


@pytest.mark.parametrize(
    ("jinja", "mentioned"),
    [
        ("select * from {{ ref('events') }} where x = {{ var('x') }}", ""),
        ("{{ config(begin=modules.datetime.date(2024, 1, 1), tags=['this']) }} select 1", ""),
        ("{# {{ this }} #} {% set model_name = 'model' %} select '{{ model_name }}'", ""),
        ("{% raw %}{{ this }}{% endraw %} select this, model from a", ""),
        ("{% if target.name == 'dev' %} select 1 {% else %} select 2 {% endif %}", ""),
        ("select '{{ model.batch.event_time_start }}'", "model"),
        ("select * from x {% if is_incremental() %} where y {% endif %}", "is_incremental"),
        ("select * from {{ this }}", "this"),
        ("{{ config(materialized='incremental') }} select * from {{ this }}", "this"),
        ("select '{{ config.get('__dbt_internal_microbatch_event_time_start') }}'", "event_time"),
        ("select '{{ run_started_at }}'", "run_started_at"),
        ("select '{{ invocation_id }}'", "invocation_id"),
        ("select * from {{ ref('events').render() }}", "render"),
        ("{% set x = run_query('select 1') %}", "run_query"),
        ("{% set x = dbt_utils.get_column_values(ref('a'), 'b') %}", "get_column_values"),
        ("select '{{ modules.datetime.datetime.now() }}'", "modules"),
        ("select {{ 'unclosed }}", "cannot be read"),
    ],
)
def test_what_jinja_knows_of_the_batch(jinja: str, mentioned: str) -> None:
    answer = batch_dependent(jinja)
    assert bool(answer) is bool(mentioned)
    assert mentioned in answer


# Random queries. Tables have columns that are called like another's event_time and are none, and
# like an alias, and times at the edges of batches.

BATCHES = 4
STARTS: dict[BatchSize, list[datetime]] = {
    "hour": [datetime(2024, 2, 29, 21) + timedelta(hours=i) for i in range(-1, BATCHES + 2)],
    "day": [datetime(2024, 1, 30) + timedelta(days=i) for i in range(-1, BATCHES + 2)],
    "month": [datetime(2023 + i // 12, i % 12 + 1, 1) for i in range(10, BATCHES + 13)],
    "year": [datetime(2022 + i, 1, 1) for i in range(-1, BATCHES + 2)],
}
TYPES = {
    "id": ("I", "integer"),
    "v": ("I", "integer"),
    "k": ("S", "varchar"),
    "ts": ("T", "timestamp"),
    "day": ("T", "date"),
    "seen": ("T", "timestamptz"),
}
SHIFTS = "__dbt__cte__shifts"
EPHEMERAL = f"{SHIFTS} as (select id, day, count(*) as v from main.clicks group by 1, 2)"
TABLES = {
    "events": ["id", "ts", "day", "v", "k"],
    "clicks": ["v", "day", "ts", "id", "k"],
    "pings": ["id", "day", "seen", "v", "k"],
    "dim": ["id", "k", "day", "ts", "v"],
    SHIFTS: ["id", "day", "v"],
}
VALUES = "(1, date '2024-01-31'), (2, date '2024-02-01')"
NAMES = ["ts", "day", "seen", "d", "x", "v", "id"]
# A name and a type: a time, an integer, a string.
Columns = Sequence[tuple[str, str]]
Columns3 = Sequence[tuple[str, str, str]]


def event_times(size: BatchSize) -> dict[str, str | None]:
    # A day is no moment in an hour.
    day = "ts" if size == "hour" else "day"
    shifts = None if size == "hour" else "day"
    return {"events": "ts", "clicks": day, "pings": "seen", "dim": None, SHIFTS: shifts}


class Grammar:
    """Makes a model's query. Tables stand in braces: ``{events}``.

    A careful one mostly does by event times what is to be done by them. Then what remains to be
    found wrong is finer: NULLs of outer joins, names that mean something else.
    """

    def __init__(self, rng: random.Random, size: BatchSize) -> None:
        self.rng = rng
        self.times = event_times(size)
        self.cuts = ["{}", f"date_trunc('{size}', {{}})", "{}" if size == "hour" else "{}::date"]
        self.careful = self.chance(0.7)
        self.ctes: list[tuple[str, Columns]] = []
        self.sources = 0

    def model(self) -> tuple[str, str]:
        """The query, and which of its columns is the model's event_time."""
        ctes: list[str] = []
        for i in range(self.rng.choice([0, 0, 1, 1, 2, 3])):
            sql, columns = self.query(1)
            ctes.append(f"c{i} as ({sql})")
            if columns and self.chance(0.1):
                columns = [(self.rng.choice(NAMES) + str(j), t) for j, (_, t) in enumerate(columns)]
                ctes[-1] = f"c{i}({', '.join(name for name, _ in columns)}) as ({sql})"
            self.ctes.append((f"c{i}", columns))
        sql, columns = self.query(2)
        if f"{{{SHIFTS}}}" in "".join((sql, *ctes)):
            ctes.insert(0, EPHEMERAL)
        moments = [name for name, kind in columns if kind == "M"]
        times = moments or [name for name, kind in columns if kind == "T"] or ["ts"]
        return (f"with {', '.join(ctes)} " if ctes else "") + sql, self.rng.choice(times)

    def chance(self, share: float) -> bool:
        return self.rng.random() < share

    def query(self, depth: int) -> tuple[str, Columns]:
        if not self.chance(0.15):
            return self.select(depth)
        if self.chance(0.15):
            sides = [self.source(depth - 1) for _ in "ab"]
            left, right = (f"select * from {text}" for _, text, _ in sides)
            return f"{left} union all {right}", sides[0][2]
        kinds = ["M", *self.rng.choices("TIS", k=self.rng.randrange(3))]
        names = self.rng.sample(NAMES, len(kinds))
        left, columns = self.select(depth - 1, list(zip(names, kinds, strict=True)))
        others = names if self.chance(0.8) else self.rng.sample(NAMES, len(kinds))
        right, _ = self.select(depth - 1, list(zip(others, kinds, strict=True)))
        kind = self.rng.choice(["union all", "union", "except", "intersect", "except all"])
        by_name = " by name" if kind.startswith("union") and self.chance(0.2) else ""
        return f"{left} {kind}{by_name} {right}", columns

    # FROM

    def source(self, depth: int) -> tuple[str, str, Columns]:
        self.sources += 1
        alias, die = f"t{self.sources}", self.rng.random()
        if self.ctes and die < 0.4:
            name, columns = self.rng.choice(self.ctes)
            return alias, f"{name} as {alias}", columns
        if depth > 0 and die < 0.55:
            sql, columns = self.query(depth - 1)
            return alias, f"({sql}) as {alias}", columns
        if die < 0.57:
            return alias, f"(values {VALUES}) as {alias}(id, day)", [("id", "I"), ("day", "T")]
        table = self.rng.choice([*TABLES, "events", "clicks", "pings"])
        columns = [(n, "M" if n == self.times[table] else TYPES[n][0]) for n in TABLES[table]]
        return alias, f"{{{table}}} as {alias}", columns

    def from_(self, depth: int) -> tuple[str, Columns3, list[str], list[str]]:
        """FROM, the columns it has, conditions for WHERE, and the sources."""
        alias, text, columns = self.source(depth)
        scope = [(alias, name, kind) for name, kind in columns]
        where: list[str] = []
        aliases = [alias]
        for _ in range(self.rng.choice([0, 0, 0, 1, 1, 2])):
            alias, source, columns = self.source(depth)
            right = [(alias, name, kind) for name, kind in columns]
            sides = ["", "", "left ", "left ", "right ", "full ", "full ", "semi ", "anti "]
            side, die = self.rng.choice(sides), self.rng.random()
            common = sorted({n for n, _ in columns} & {n for _, n, _ in scope})
            if die < 0.15:
                text += f"{', ' if die < 0.07 else ' cross join '}{source}"
                where.append(self.condition(scope, right))
            elif die < 0.3 and common:
                moments = [n for n in common if (alias, n, "M") in right] or common
                names = [self.rng.choice(moments if self.careful else common)]
                names += [n for n in common if n not in names and self.chance(0.1)]
                text += f" {side}join {source} using ({', '.join(names)})"
            elif die < 0.35:
                table = self.rng.choice(["clicks", "dim", "events"])
                inner = f"from {{{table}}} as z where z.id = {self.ref(scope, 'I')[0]}"
                how, on = self.rng.choice([("left", " on true"), ("cross", "")])
                text += f" {how} join lateral (select id, day, v {inner}) as {alias}{on}"
                right = [(alias, "id", "I"), (alias, "day", "M"), (alias, "v", "I")]
            elif die < 0.38:
                text += f", unnest([1, {self.ref(scope, 'I')[0]}]) as {alias}(u)"
                right = [(alias, "u", "I")]
            else:
                text += f" {side}join {source} on {self.condition(scope, right)}"
            if die < 0.15 or 0.3 <= die < 0.38 or side not in ("semi ", "anti "):
                scope += right
                aliases.append(alias)
        return text, scope, where, aliases

    def condition(self, left: Columns3, right: Columns3) -> str:
        parts: list[str] = []
        if self.careful or self.chance(0.5):
            one, other = (self.ref(side, "M")[0] for side in (left, right))
            sign = "is not distinct from" if self.chance(0.1) else "="
            one, other = (self.rng.choice(self.cuts).format(text) for text in (one, other))
            parts.append(f"{one} {sign} {other}")
        for _ in range(self.rng.choice([0, 0, 1] if parts else [1, 1, 2])):
            kind = self.rng.choice("TTIS")
            one, other = self.expression(left, kind)[0], self.expression(right, kind)[0]
            sign = self.rng.choice(["=", "=", "=", ">=", "is not distinct from"])
            parts.append(f"{one} {sign} {other}" if self.chance(0.5) else f"{other} {sign} {one}")
        return " or ".join(parts) if self.chance(0.1) else " and ".join(parts)

    # Expressions, and of which kind they are: M is a time that may be a moment in the batch.

    def ref(self, scope: Columns3, kind: str) -> tuple[str, str]:
        times = ("M", "T") if kind in "MT" else (kind,)
        columns = [column for column in scope if column[2] in times]
        if kind == "M" or (kind == "T" and self.chance(0.5)):
            columns = [column for column in columns if column[2] == "M"] or columns
        if not columns:
            return {"I": "1", "S": "'a'"}.get(kind, "date '2024-01-31'"), kind.replace("M", "T")
        alias, name, kind = self.rng.choice(columns)
        bare = self.chance(0.2) and self.is_clear(name, scope)
        return name if bare else f"{alias}.{name}", kind

    def is_clear(self, name: str, scope: Columns3) -> bool:
        """Whether a name without a table is likely to be allowed."""
        return sum(name == other for _, other, _ in scope) < 2 or self.chance(0.1)

    def time(self, scope: Columns3, wanted: str) -> tuple[str, str]:
        column, kind = self.ref(scope, wanted)
        die = self.rng.random()
        if die < 0.7:
            form = self.rng.choice(["{}", *self.cuts])
        elif die < 0.85:
            form = f"coalesce({{}}, {self.ref(scope, wanted)[0]})"
        elif self.careful and kind == "M":
            form = self.rng.choice(["cast({} as timestamp)", "date_trunc('hour', {})"])
        else:
            units = ["hour", "month", "week", "quarter", "year"]
            form = f"date_trunc('{self.rng.choice(units)}', {{}})"
            forms = ["({} + interval 1 day)", "date({} at time zone 'UTC')"]
            form, kind = self.rng.choice([form, *forms]), "T"
        return form.format(column), kind

    def expression(self, scope: Columns3, kind: str) -> tuple[str, str]:
        if kind in "MT":
            return self.time(scope, kind)
        if kind == "S" or self.chance(0.7):
            return self.ref(scope, kind)
        table = "events" if self.chance(0.05) else "dim"
        number, day = self.ref(scope, "I")[0], self.ref(scope, "T")[0]
        subquery = f"(select max(s.v) from {{{table}}} as s where s.id >= {number})"
        texts = [f"({number} + 1)", f"extract(day from {day})::int", subquery]
        return self.rng.choice(texts), kind

    def window(self, scope: Columns3, aliases: Sequence[str]) -> str:
        # Ties must not matter.
        number = self.ref(scope, "I")[0]
        function = self.rng.choice(["count(*)", f"sum({number})", "rank()", f"max({number})"])
        keys = [self.expression(scope, self.rng.choice("TTIS"))[0] for _ in range(2)]
        keys = keys[: self.rng.randrange(3)]
        if self.careful or self.chance(0.4):
            by_alias = aliases and self.chance(0.3)
            keys.append(self.rng.choice(aliases) if by_alias else self.time(scope, "M")[0])
        order = f"order by {number}" if function == "rank()" else ""
        partition = f"partition by {', '.join(keys)} " if keys else ""
        return f"{function} over ({partition}{order})"

    # SELECT

    def select(self, depth: int, wanted: Columns = ()) -> tuple[str, Columns]:
        """``wanted``: the columns there have to be."""
        from_, scope, where, sources = self.from_(depth)
        columns = list(wanted)
        if not columns:
            kinds = [self.rng.choice("MT"), *self.rng.choices("MTIIS", k=self.rng.randrange(3))]
            columns = [(self.rng.choice(NAMES), kind) for kind in kinds]
            self.rng.shuffle(columns)
        grouped = self.chance(0.3)
        if grouped:
            items, columns, group = self.grouped(scope, columns)
        else:
            items, columns = self.listed(scope, columns, sources, stars=not wanted)
            group = ""
        where += self.filters(scope) if self.chance(0.25) else []
        distinct = "distinct " if self.chance(0.08) else ""
        if not grouped and not distinct and columns and self.chance(0.03):
            # Only the key, so that ties do not matter.
            column = self.rng.choice(columns)
            distinct, items, columns = f"distinct on ({column[0]}) ", [column[0]], [column]
        sql = f"select {distinct}{', '.join(items)} from {from_}"
        if where:
            sql += f" where {' and '.join(f'({part})' for part in where)}"
        sql += group
        if grouped and self.chance(0.1):
            sql += " having count(*) > 1"
        if not grouped and self.chance(0.1):
            sql += f" qualify {self.window(scope, [name for name, _ in columns])} = 1"
        if self.chance(0.01):
            sql = f"select * from ({sql} order by all limit 3)"
        return sql, columns

    def listed(
        self, scope: Columns3, wanted: Columns, sources: Sequence[str], *, stars: bool
    ) -> tuple[list[str], list[tuple[str, str]]]:
        items: list[str] = []
        columns: list[tuple[str, str]] = []
        for name, kind in wanted:
            if stars and self.chance(0.25):
                alias = self.rng.choice([None, *sources])
                known = [(n, k) for source, n, k in scope if alias in (None, source)]
                if known:
                    items.append(self.star(alias, [n for n, _ in known], scope))
                    columns += known
                    continue
            if kind == "I" and self.chance(0.4):
                aliases = [n for n, k in columns if k in "MT" and self.is_clear(n, scope)]
                text, is_kind = self.window(scope, aliases), kind
            else:
                text, is_kind = self.expression(scope, kind)
            items.append(text if text.endswith(f".{name}") else f"{text} as {name}")
            columns.append((name, is_kind))
        return items, columns

    def star(self, alias: str | None, names: Sequence[str], scope: Columns3) -> str:
        star, name, die = f"{alias}.*" if alias else "*", self.rng.choice(names), self.rng.random()
        if die < 0.1:
            star += f" exclude ({name})"
        elif die < 0.2:
            star += f" replace ({self.time(scope, 'T')[0]} as {name})"
        elif die < 0.3:
            star += f" rename ({name} as {self.rng.choice(NAMES)})"
        return star

    def grouped(
        self, scope: Columns3, wanted: Columns
    ) -> tuple[list[str], list[tuple[str, str]], str]:
        items: list[str] = []
        columns: list[tuple[str, str]] = []
        keys = [self.time(scope, "M")[0]] if self.careful or self.chance(0.3) else []
        for name, kind in wanted:
            text, is_kind = self.expression(scope, kind)
            if self.chance(0.25):
                aggregates = [f"max({text})", f"min({text})"]
                aggregates += ["count(*)", f"sum({text})"] if kind == "I" else []
                items.append(f"{self.rng.choice(aggregates)} as {name}")
            else:
                items.append(f"{text} as {name}")
                alias = [name] if self.is_clear(name, scope) else []
                keys.append(self.rng.choice([text, *alias, str(len(items))]))
            columns.append((name, is_kind))
        if self.chance(0.04) and keys:
            keys[-1] = f"rollup({keys[-1]})"
        if self.chance(0.25):
            return items, columns, " group by all"
        return items, columns, f" group by {', '.join(keys)}" if keys else ""

    def filters(self, scope: Columns3) -> list[str]:
        table = "clicks" if self.chance(0.1) else "dim"
        number = self.ref(scope, "I")[0]
        conditions = [
            f"{number} > 1",
            f"{self.ref(scope, 'T')[0]} >= '2024-01-31'",
            f"{number} in (select q.id from {{{table}}} as q)",
            f"exists (select 1 from {{{table}}} as q where q.id = {number})",
            f"not exists (select 1 from {{{table}}} as q where q.id = {number})",
            f"{number} = (select max(q.v) from {{{table}}} as q)",
        ]
        return [self.rng.choice(conditions)]


class Engine:
    """DuckDB with the tables, full of random rows."""

    def __init__(self, rng: random.Random, size: BatchSize) -> None:
        self.times = event_times(size)
        self.starts = STARTS[size]
        self.db = duckdb.connect(config={"threads": 1})
        self.db.execute("set TimeZone = 'UTC'")
        for table, columns in TABLES.items():
            if table != SHIFTS:
                types = ", ".join(f"{name} {TYPES[name][1]}" for name in columns)
                self.db.execute(f"create table {table} ({types})")
                rows = [[self.value(rng, name) for name in columns] for _ in range(15)]
                marks = ", ".join("?" for _ in columns)
                self.db.executemany(f"insert into {table} values ({marks})", rows)

    def value(self, rng: random.Random, column: str) -> object:
        kind = TYPES[column][0]
        if rng.random() < 0.08:
            return None
        if kind != "T":
            return rng.choice("ab") if kind == "S" else rng.randrange(1, 4)
        i = rng.randrange(len(self.starts) - 1)
        start, end = self.starts[i], self.starts[i + 1]
        edges = [start, start, end - timedelta(microseconds=1), start + (end - start) / 2]
        return f"{rng.choice(edges)}{'+00:00' if column == 'seen' else ''}"

    def render(self, sql: str, start: datetime | None = None, end: datetime | None = None) -> str:
        """The SQL of a batch as dbt makes it; with no filter if it has no ``start``."""
        filtered = {}
        for table, time in self.times.items():
            filtered[table] = name = table if table == SHIFTS else f"main.{table}"
            if start and time:
                where = f"{time} >= '{start}+00:00' and {time} < '{end}+00:00'"
                filtered[table] = f"(select * from {name} where {where})"
        return sql.format(**filtered)

    def is_valid(self, sql: str) -> bool:
        try:
            self.db.execute(f"explain {self.render(sql)}")
        except duckdb.Error:
            return False
        return True

    def same(self, sql: str, event_time: str) -> bool | None:
        """Whether one window gives the rows of its batches; None if the query fails."""
        first, *_, end = starts = self.starts[1:-1]
        try:
            self.db.execute(f"create or replace temp table one as {self.render(sql, first, end)}")
            self.db.execute("create or replace temp table many as from one limit 0")
            for start, stop in pairwise(starts):
                where = f"{event_time} >= '{start}+00:00' and {event_time} < '{stop}+00:00'"
                self.db.execute(f"delete from many where {where}")
                self.db.execute(f"insert into many {self.render(sql, start, stop)}")
            # As one batch has to replace these rows.
            where = f"{event_time} >= '{first}+00:00' and {event_time} < '{end}+00:00'"
            outside = self.db.execute(f"from one where ({where}) is not true").fetchall()
            rows = [Counter(map(repr, self.db.execute(f"from {t}").fetchall())) for t in TARGETS]
        except duckdb.Error:
            return None
        return rows[0] == rows[1] and not outside


TARGETS = ("one", "many")


def trial(engine: Engine, size: BatchSize, rng: random.Random) -> tuple[str, str, str] | None:
    """A query that DuckDB accepts, its event_time, and why it is not separable."""
    sql, event_time = Grammar(rng, size).model()
    if not engine.is_valid(sql):
        return None
    inputs: dict[tuple[str, ...], str | None] = {}
    for table, time in engine.times.items():
        inputs[(table,) if table == SHIFTS else ("main", table)] = time
    why = why_not_mergeable(engine.render(sql), "duckdb", size, event_time, inputs)
    return sql, event_time, why


@pytest.mark.parametrize("size", get_args(BatchSize))
def test_what_is_separable_gives_the_same_rows_both_ways(size: BatchSize) -> None:
    rng = random.Random(size)
    engine = Engine(rng, size)
    found = Counter[tuple[bool, bool | None]]()
    for _ in range(200):
        if made := trial(engine, size, rng):
            sql, event_time, why = made
            # A few that are not separable show that a wrong answer would be found.
            if not why or found[False, False] < 10:
                same = engine.same(sql, event_time)
                found[not why, same] += 1
                assert why or same is not False, engine.render(sql)
    assert found[True, True] > 20
    assert found[False, False] == 10
