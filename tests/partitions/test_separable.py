"""Whether several batches as one give the same rows: by cases, and by what DuckDB makes of queries.

The second half makes queries at random. Each that is said to be separable is run both ways.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import get_args

import duckdb
import pytest

from dbt_orchestration.partitions.config import BatchSize
from dbt_orchestration.partitions.separable import batch_dependent, why_not_separable

# The event_time of each relation.
INPUTS = {"events": "ts", "clicks": "day", "dim": None, "days": None, "__dbt__cte__shifts": "day"}
BOTH = ("duckdb", "snowflake")


def why_not(
    sql: str, event_time: str, dialect: str, size: BatchSize = "day", *, utc: bool = True
) -> str:
    paths = {n: (n,) if n.startswith("__") else ("db", "main", n) for n in INPUTS}
    if dialect == "snowflake":
        paths = {name: tuple(part.upper() for part in path) for name, path in paths.items()}
    inputs = {path: INPUTS[name] for name, path in paths.items()}
    for name in ("events", "clicks", "dim", "days"):
        sql = sql.replace(f"#{name}", f"db.main.{name}")
    return why_not_separable(sql, dialect, size, event_time, inputs, utc=utc)


# Queries, and the event_time of the model.
YES = [
    ("select * from #events", "ts"),
    ("select id, ts::date as d from #events where kind = 'x' or id > 3", "d"),
    ("select e.id, cast(e.ts as date) as d from #events as e order by id", "d"),
    ("select date(ts) as d, upper(kind) as k, coalesce(a, b) as c from #events", "d"),
    ("select date_trunc('hour', ts) as d, ts from #events", "d"),
    ("select date_trunc('day', ts) as d, count(*) as n from #events group by 1", "d"),
    ("select date_trunc('day', ts) as d, count(*) as n from #events group by d", "d"),
    ("select date_trunc('day', ts) as d, count(*) n from #events group by date_trunc('day', ts)", "d"),
    ("select id, ts::date as d, sum(x) as x from #events group by all", "d"),
    ("select id, max(ts) as d from #events group by id, ts::date having count(*) > 1", "d"),
    ("select id, min(date_trunc('hour', ts)) as d from #events group by id, date(ts)", "d"),
    ("select distinct id, ts::date as d from #events", "d"),
    ("select distinct e.* from #events as e", "ts"),
    ("select id, ts, row_number() over (partition by ts::date, id order by x) as n from #events", "ts"),
    (
        "select ts::date as d, sum(count(*)) over (partition by ts::date) as n"
        " from #events group by ts::date, id",
        "d",
    ),
    (
        "select * from #events qualify row_number()"
        " over (partition by id, date_trunc('day', ts) order by ts desc) = 1",
        "ts",
    ),
    ("with a as (select ts as d, id from #events), b as (select * from a) select * from b", "d"),
    ("with a as (select *, id + 1 as j from #events) select ts, count(*) c from a group by ts", "ts"),
    ("with a(d, i) as (select ts, id from #events) select d, i from a", "d"),
    ("select d from (select ts as d from #events) as t(d)", "d"),
    ("with unused as (select random() as x), a as (select ts from #events) select ts from a", "ts"),
    # Joins with what is read whole.
    ("select e.ts, d.name from #events e join #dim d on d.id = e.id", "ts"),
    ("select ts, d.name from #events e left join #dim d on d.id = e.id", "ts"),
    ("select ts, d.name from #dim d join #events e using (id)", "ts"),
    ("select ts, d.name from #dim d right join #events e on e.id = d.id", "ts"),
    ("select e.*, d.name from #events e cross join #dim d where d.id = e.id", "ts"),
    ("select e.ts from #events e, #dim d, #days y where d.id = e.id and y.day = e.day", "ts"),
    ("select ts from #events where id in (select id from #dim where active)", "ts"),
    ("select ts from #events e where not exists (select 1 from #dim d where d.id = e.id)", "ts"),
    ("select ts, (select max(x) from #dim) as m from #events", "ts"),
    ("select ts, (select r.x from #dim r where r.id = e.id order by r.x limit 1) as m from #events e", "ts"),
    ("with r as (select id, max(x) as x from #dim group by id) select ts, x from #events join r using (id)", "ts"),
    # Joins of rows of the same batch.
    ("select e.ts, c.x from #events e join #clicks c on c.id = e.id and c.day = e.ts::date", "ts"),
    ("select e.ts, c.x from #events e left join #clicks c on (c.id = e.id and c.day = date_trunc('day', e.ts))", "ts"),
    ("select c.day, e.x from #events e right join #clicks c on e.ts::date = c.day and e.id = c.id", "day"),
    ("select e.ts from #events e, #clicks c where e.ts::date = c.day", "ts"),
    ("with a as (select ts::date as day, count(*) n from #events group by 1) select a.day, a.n, c.x from a join #clicks c using (day)", "day"),
    (
        "with a as (select ts::date as day, id, count(*) as n from #events group by 1, 2),"
        " b as (select day, id, sum(x) as x from #clicks group by day, id)"
        " select coalesce(a.day, b.day) as day, n, x from a full join b on a.day = b.day and a.id = b.id",
        "day",
    ),
    ("with a as (select * from #events) select a.ts from a join a as b on a.ts = b.ts and a.id < b.id", "ts"),
    (
        "select e.ts from #events e left join #clicks c on c.day = e.ts::date"
        " left join #clicks f on f.day = c.day",
        "ts",
    ),
    # Set operations.
    ("select ts as d, id from #events union all select day, id from #clicks", "d"),
    ("select ts::date as d, id from #events union select day, id from #clicks", "d"),
    ("select ts::date as d, id from #events except select day, id from #clicks", "d"),
    ("select ts::date as d, id from #events intersect select day, id from #clicks order by 1", "d"),
    ("select ts as d from (select ts from #events union all select ts from #events where x) as u", "d"),
    # Ephemeral models, which dbt filters as a whole.
    ("with __dbt__cte__shifts as (select day, row_number() over (order by day) as n from #dim) select day, n from __dbt__cte__shifts", "day"),
    ("with __dbt__cte__shifts as (select max(ts) as day from #events) select * from __dbt__cte__shifts", "day"),
]  # fmt: skip
YES_DUCKDB = [
    ("select ts, count(*) over w as n from #events window w as (partition by ts::date order by id)", "ts"),
    ("select distinct on (ts::date, id) ts, id from #events order by ts::date, id, x", "ts"),
    ("select e.ts from #events e semi join #clicks c on c.day = e.ts::date and c.id = e.id", "ts"),
    ("select e.ts from #events e anti join #clicks c on c.day = e.ts::date and c.id = e.id", "ts"),
    ("select ts from #events e anti join #dim d using (id)", "ts"),
    ("select e.ts, p.x from #events e asof left join #dim p on p.id = e.id and e.ts >= p.valid_from", "ts"),
    ("select e.ts, u.i from #events e, unnest(e.items) as u(i)", "ts"),
    ("select ts, unnest(items) as i from #events", "ts"),
    ("select * exclude (id) replace (ts::date as ts) from #events", "ts"),
    ("select ts as day, id from #events union all by name select id, day from #clicks", "day"),
    ("select ts at time zone 'UTC' as d from #events", "d"),
    ("select ts::date as d, *, from #events", "d"),
    ("from #events select ts", "ts"),
]  # fmt: skip
YES_SNOWFLAKE = [
    ("select e.ts, f.value:x::string as x from #events e, lateral flatten(input => e.items) f", "ts"),
    ("select e.ts from #events e left join lateral flatten(input => e.items, outer => true) f on true", "ts"),
    ("select e.ts from #events e, table(split_to_table(e.a, ',')) s", "ts"),
    ("select to_timestamp_ntz(ts) as d, to_date(ts) as e from #events", "d"),
    ("select trunc(ts, 'day') as d, iff(x > 1, 1, 0) as y from #events", "d"),
    ("select *, ts::date as d from #events qualify 1 = row_number() over (partition by ts order by x)", "d"),
    ('select "TS" as d from #events', "d"),
]  # fmt: skip
NO = [
    # What brings rows of several days together.
    ("select id, max(ts) as ts from #events group by id", "ts", "groups by something else"),
    ("select date_trunc('month', ts) as d, count(*) c from #events group by 1", "d", "groups by"),
    ("select date_trunc('week', ts) as d, count(*) c from #events group by 1", "d", "groups by"),
    ("select ts::date as d, count(*) c from #events group by rollup(ts::date)", "d", "grouping sets"),
    ("select ts::date as d, count(*) c from #events group by 1, cube(id)", "d", "grouping sets"),
    ("select kind as d, count(*) c from #events group by d", "d", "groups by"),
    ("select *, count(*) c from #events group by 2, id", "ts", "groups by"),
    ("select max(ts) as ts from #events", "ts", "an aggregate without GROUP BY"),
    ("select 1 as ts from #events having count(*) > 1", "ts", "an aggregate without GROUP BY"),
    ("select ts, sum(x) over (order by ts) as s from #events", "ts", "a window function"),
    ("select ts, sum(x) over (partition by id) as s from #events", "ts", "a window function"),
    ("select ts, lag(x) over (partition by id order by ts) as s from #events", "ts", "a window"),
    ("select ts, count(*) over (partition by date_trunc('month', ts)) c from #events", "ts", "a window"),
    ("select ts, row_number() over (partition by d) as n, ts::date as d from #events", "ts", "a window"),
    ("select id as ts2, id as ts, count(*) over (partition by ts) as n from #events", "ts2", "a window"),
    ("select * from #events qualify row_number() over (partition by id order by ts) = 1", "ts", "a window"),
    ("select ts from #events order by ts limit 10", "ts", "LIMIT"),
    ("select ts from (select ts from #events limit 10) as t", "ts", "LIMIT"),
    ("select ts from #events offset 3", "ts", "offset"),
    ("select ts from #events tablesample (10)", "ts", "sample"),
    ("select distinct id from #events", "id", "DISTINCT"),
    ("select distinct date_trunc('month', ts) as d from #events", "d", "DISTINCT"),
    # Joins.
    ("select d.id, e.ts from #dim d left join #events e on e.id = d.id", "ts", "without a match in events"),
    ("select d.id, e.ts from #dim d full join #events e on e.id = d.id", "ts", "without a match"),
    ("select e.ts from #events e right join #dim d on d.id = e.id", "ts", "without a match"),
    ("select y.day from #days y left join #events e on e.ts::date = y.day", "day", "without a match"),
    ("select e.ts from #events e join #clicks c on c.id = e.id", "ts", "joins events and clicks"),
    ("select e.ts from #events e join #events f using (id)", "ts", "joins events and events"),
    ("select e.ts from #events e join #clicks c on c.day = e.ts::date or c.id = e.id", "ts", "joins"),
    ("select e.ts from #events e join #clicks c on c.day >= e.ts::date", "ts", "joins events and clicks"),
    ("select e.ts from #events e join #clicks c on c.day = dateadd('day', 1, e.ts)", "ts", ""),
    ("select e.ts from #events e join #clicks c on date_trunc('month', c.day) = date_trunc('month', e.ts)", "ts", "joins"),
    ("select e.ts from #events e left join #clicks c on c.id = e.id where c.day = e.ts::date", "ts", "joins"),
    ("select e.ts from #events e natural join #dim d", "ts", "a natural join"),
    ("select c.day from #events e left join #clicks c on c.day = e.ts::date", "day", "may lie outside"),
    ("select e.ts from #events e full join #clicks c on c.day = e.ts::date", "ts", "may lie outside"),
    ("select c.day, count(*) n from #events e left join #clicks c on c.day = e.ts::date group by 1", "day", "groups by"),
    ("select e.ts from #events e full join #clicks c on c.day = e.ts::date, #clicks f where f.day = e.ts", "ts", "comma"),
    # Subqueries.
    ("select ts from #events where ts = (select max(ts) from #events)", "ts", "an aggregate without GROUP BY"),
    ("select ts from #events e where exists (select 1 from #clicks c where c.day = e.ts)", "ts", "a subquery"),
    ("select ts from #events where id not in (select id from #clicks)", "ts", "a subquery that reads clicks"),
    ("with c as (select id from #clicks) select ts, (select count(*) from c) n from #events", "ts", "an aggregate"),
    # Set operations.
    ("select ts as d from #events union all select day from #days", "d", "UNION of events and rows"),
    ("select id, ts as d from #events union all select day, id from #clicks", "d", "may lie outside"),
    ("select id from #events union select id from #clicks", "id", "UNION without its day"),
    ("select id, ts from #events except select id, kind from #clicks", "ts", "EXCEPT without"),
    ("select id from #events intersect select id from #clicks", "id", "INTERSECT without"),
    ("select * from #events union all select * from #events", "ts", "may lie outside"),
    # The model's own event_time.
    ("select date_trunc('month', ts) as d from #events", "d", "may lie outside the day"),
    ("select ts + interval '1 day' as d from #events", "d", "may lie outside"),
    ("select loaded as ts from #events", "ts", "may lie outside"),
    ("select case when x then ts end as ts from #events", "ts", "may lie outside"),
    ("select coalesce(loaded, ts) as d from #events", "d", "may lie outside"),
    ("select try_cast(ts as date) as d from #events", "d", "may lie outside"),
    ("select ts::timestamp(0) as d from #events", "d", "may lie outside"),
    ("select ts as d from #events", "ts", "may lie outside"),
    ("select max(d) over (partition by ts) as d from (select ts, ts as d from #events) e", "d", "may lie outside"),
    ("select * from #days", "day", "reads nothing"),
    ("select current_date as d", "d", "current_date"),
    # What is not the same in every run, or not known.
    ("select ts, random() as r from #events", "ts", "random, which is not the same"),
    ("select ts, current_timestamp as loaded from #events", "ts", "current_timestamp"),
    ("select ts from #events where ts < current_date", "ts", "current_date"),
    ("select ts, uuid() as u from #events", "ts", "uuid"),
    ("select ts, nextval('s') as u from #events", "ts", "nextval"),
    ("select ts, my_function(id) as x from #events", "ts", "my_function(), which is not known"),
    ("select ts, main.hash(id) as x from #events", "ts", "which is not known"),
    ("select ts from #events e join (select id, random() r from #dim) d on d.id = e.id", "ts", "random"),
    ("select ts from #events e join (select id from #dim limit 3) d on d.id = e.id", "ts", "LIMIT without"),
    ("select ts from db.main.others", "ts", "reads db.main.others, which is not ref() or source()"),
    ("select ts from events", "ts", "which is not ref() or source()"),
    ("with recursive r as (select ts from #events union all select ts from r) select ts from r", "ts", "recursive"),
    ("select * from #events pivot (sum(x) for kind in ('a', 'b'))", "ts", "a pivot"),
    ("select ts from (#events e join #dim d on d.id = e.id)", "ts", ""),
    ("select ts from #events; select 1", "ts", "not one query"),
    ("delete from #events", "ts", "not one query"),
    ("select ts from #events where (", "ts", "does not parse"),
    ("with __dbt__cte__shifts as (select ts as day from #events) select e.ts from #events e join __dbt__cte__shifts s on s.id = e.id", "ts", "joins events and __dbt__cte__shifts"),
    ("with __dbt__cte__other as (select 1 as i) select ts, i from #events cross join __dbt__cte__other", "ts", "reads __dbt__cte__other"),
]  # fmt: skip
NO_DUCKDB = [
    # Of two columns with one name, DuckDB takes the first.
    ("select *, ts::date as d from #events", "d", "may lie outside"),
    ("with a as (select *, ts::date as d from #events) select d, count(*) n from a group by d", "d", "d may be another column, of the * before it"),
    ("select id as ts, * from #events", "ts", "may lie outside"),
    ("select d.*, e.ts from #dim d join #events e on e.id = d.id", "ts", "may lie outside"),
    ("select * rename (id as ts, ts as t) from #events", "ts", "may lie outside"),
    ("select * replace (id as ts) from #events", "ts", "may lie outside"),
    ("select * exclude (ts) from #events", "ts", "may lie outside"),
    ("select unnest(s), ts from #events", "ts", "may lie outside"),
    ("select count(*), ts from #events group by ts", "ts", "may lie outside"),
    ("select columns('t.*') from #events", "ts", "COLUMNS()"),
    ("select distinct on (id) ts, id from #events order by id, ts", "ts", "DISTINCT"),
    ("select d.id, d.ts from #dim d semi join #events e on e.id = d.id", "ts", "without a match"),
    ("select d.id, d.ts from #dim d anti join #events e on e.id = d.id", "ts", "without a match"),
    ("select e.ts from #events e asof join #clicks c on e.ts::date = c.day and e.x >= c.x", "ts", "joins"),
    ("select * from #events e positional join #clicks c", "ts", "a positional join"),
    ("select ts, count(*) over w as n from #events window w as (partition by id)", "ts", "a window"),
    ("select id, day from #clicks union by name select id, ts as d from #events", "day", "UNION without"),
    ("select ts, age(ts) as a from #events", "ts", "age()"),
    ("select ts, now() as a from #events", "ts", "now()"),
    ("select ts, gen_random_uuid() as a from #events", "ts", "gen_random_uuid"),
    ("select ts, getvariable('x') as a from #events", "ts", "getvariable()"),
    ("select * from read_csv('a.csv')", "ts", "reads"),
    ("select * from 'a.csv'", "ts", "which is not ref()"),
    ("select #1 as ts from #events", "ts", "a column by its position"),
    ("select date_trunc('day', ts at time zone 'Asia/Seoul') as d from #events", "d", "may lie outside"),
]  # fmt: skip
NO_SNOWFLAKE = [
    ("select ts, seq4() as n from #events", "ts", "seq4"),
    ("select ts, s.nextval as n from #events", "ts", "a sequence"),
    ("select ts, uuid_string() as n from #events", "ts", "uuid_string"),
    ("select ts, sysdate() as n from #events", "ts", "sysdate"),
    ("select ts, getdate() as n from #events", "ts", "getdate"),
    ("select ts, uniform(1, 10, random()) as n from #events", "ts", "uniform"),
    ("select e.ts from #events e, #dim d where d.id = e.id(+)", "ts", "(+)"),
    ("select top 5 ts from #events", "ts", "LIMIT"),
    ("select ts from #events at (timestamp => '2024-01-01'::timestamp)", "ts", "a table with when"),
    ("select e.ts from #events e semi join #dim d on d.id = e.id", "ts", "a semi join"),
    ("select ts from identifier('db.main.events')", "ts", "reads"),
    ("select * ilike 't%' from #events", "ts", "a star with ilike"),
    ("select convert_timezone('Asia/Seoul', ts) as d from #events", "d", "may lie outside"),
    ('select "ts" as d from #events', "d", "may lie outside"),
    ("select ts from #events start with id = 1 connect by prior id = x", "ts", "connect"),
    ("select ts, snowflake.cortex.complete('m', a) as x from #events", "ts", "not known"),
    ("select day from #events e full join #clicks c using (day)", "day", "joins"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("sql", "event_time", "dialect"),
    [
        *((*case, dialect) for dialect in BOTH for case in YES),
        *((*case, "duckdb") for case in YES_DUCKDB),
        *((*case, "snowflake") for case in YES_SNOWFLAKE),
    ],
)
def test_separable(sql: str, event_time: str, dialect: str) -> None:
    assert why_not(sql, event_time, dialect) == ""


@pytest.mark.parametrize(
    ("sql", "event_time", "why", "dialect"),
    [
        *((*case, dialect) for dialect in BOTH for case in NO),
        *((*case, "duckdb") for case in NO_DUCKDB),
        *((*case, "snowflake") for case in NO_SNOWFLAKE),
    ],
)
def test_not_separable(sql: str, event_time: str, why: str, dialect: str) -> None:
    answer = why_not(sql, event_time, dialect)
    assert answer
    assert why.lower() in answer.lower()
