"""Whether a microbatch model gives the same rows when several batches are run as one.

dbt runs the SQL once per batch. It reads only the batch's rows of every relation that has an
``event_time``, reads the others whole, and replaces the batch's rows of the model by the result.
The proof goes through the query from the inside to the outside. Each relation in it is either the
same for every batch, or made of rows each of which stems from the rows of one batch only, and has
columns that say which: times that lie in that batch.

What is taken for granted:

- The session's time zone is UTC, or the event times have none; and on Snowflake no event time is a
  TIMESTAMP_TZ with another offset. Else the days in SQL are not those of the batches: ``utc=False``.
- An event time is a DATE, TIMESTAMP or TIMESTAMPTZ, on DuckDB no finer than a microsecond; in
  hourly batches it is no DATE. All event times that are combined mean the same clock.
- Functions with a built-in name are the built-in ones, and relations without an event time do not
  change between the batches.
- Where SQL leaves the engine a choice, any choice is as good as the other: ties in the ORDER BY of
  a window, any_value(), the order in a list, the last digit of a sum.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache, partial

import jinja2
import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

from dbt_orchestration.changes.columns.names import Names, Opaque, called, dialect_of
from dbt_orchestration.changes.columns.scope import refuse
from dbt_orchestration.partitions.config import BatchSize
from dbt_orchestration.partitions.scopes import Batches, Relation, Scope, Source

_Ctes = Mapping[str, Callable[[], Relation]]

_SELECT = frozenset(
    [
        "with_",
        "expressions",
        "distinct",
        "from_",
        "joins",
        "where",
        "group",
        "having",
        "qualify",
        "windows",
        "order",
        "limit",
    ]
)
_SET = frozenset({"with_", "this", "expression", "distinct", "by_name", "order"})
_ROW_FUNCTIONS = (exp.Explode, exp.Flatten, exp.GenerateSeries, exp.Generator, exp.SplitToTable)
_ROW_FUNCTION_NAMES = frozenset(
    {"FLATTEN", "GENERATE_SERIES", "RANGE", "STRTOK_SPLIT_TO_TABLE", "UNNEST"}
)
_AROUND_FUNCTION = (exp.Filter, exp.IgnoreNulls, exp.RespectNulls, exp.WithinGroup)
_REFUSED: Mapping[type[exp.Expr], str] = {
    exp.Columns: "COLUMNS()",
    exp.Command: "a command in an expression",
    exp.DynamicIdentifier: "a name in a string: identifier()",
    exp.Parameter: "a variable, or a column by its position",
    exp.Pivot: "a pivot",
    exp.Placeholder: "a variable, or a column by its position",
    exp.PositionalColumn: "a column by its position",
    exp.SessionParameter: "a variable",
    exp.Table: "a table in an expression",
}
# The time is among them: a batch that is built later gives other rows.
_VOLATILE = (
    *(exp.Encrypt, exp.EncryptRaw, exp.Localtime, exp.Localtimestamp, exp.NextValueFor),
    *(exp.Normal, exp.Rand, exp.Randn, exp.Randstr, exp.Seq1, exp.Seq2, exp.Seq4, exp.Seq8),
    *(exp.SessionUser, exp.Shuffle, exp.Systimestamp, exp.Uniform, exp.UtcDate, exp.UtcTime),
    *(exp.UtcTimestamp, exp.Uuid, exp.Zipf),
)
# Built-in functions that sqlglot has no class for, and that depend on nothing but their arguments.
_BUILT_IN = {
    "duckdb": frozenset(
        [
            "ARBITRARY",
            "ARRAY_AGGREGATE",
            "ARRAY_APPLY",
            "ARRAY_EXTRACT",
            "ARRAY_HAS_ANY",
            "ARRAY_INDEXOF",
            "ARRAY_TRANSFORM",
            "ARRAY_UNIQUE",
            "ARRAY_WHERE",
            "BAR",
            "BASE64",
            "BIN",
            "BIT_COUNT",
            "CARDINALITY",
            "CENTURY",
            "DATE_PART",
            "DATE_SUB",
            "DATEPART",
            "DATESUB",
            "DAYS_IN_MONTH",
            "DECADE",
            "DIVIDE",
            "ELEMENT_AT",
            "ENTROPY",
            "EPOCH_NS",
            "EPOCH_US",
            "ERA",
            "EVEN",
            "FAVG",
            "FDIV",
            "FMOD",
            "FORMAT_BYTES",
            "FSUM",
            "GCD",
            "GEOMEAN",
            "HAMMING",
            "HASH",
            "HISTOGRAM",
            "ISFINITE",
            "ISOYEAR",
            "JACCARD",
            "JARO_SIMILARITY",
            "JSON_ARRAY_LENGTH",
            "JSON_CONTAINS",
            "JSON_EXISTS",
            "JSON_GROUP_ARRAY",
            "JSON_GROUP_OBJECT",
            "JSON_MERGE_PATCH",
            "JSON_STRUCTURE",
            "JSON_VALID",
            "JSON_VALUE",
            "JULIAN",
            "KAHAN_SUM",
            "LCM",
            "LIST_AGGR",
            "LIST_AGGREGATE",
            "LIST_ANY_VALUE",
            "LIST_APPLY",
            "LIST_AVG",
            "LIST_CAT",
            "LIST_COUNT",
            "LIST_ELEMENT",
            "LIST_EXTRACT",
            "LIST_FIRST",
            "LIST_HAS_ALL",
            "LIST_INDEXOF",
            "LIST_INTERSECT",
            "LIST_LAST",
            "LIST_MEDIAN",
            "LIST_MODE",
            "LIST_POSITION",
            "LIST_PRODUCT",
            "LIST_REDUCE",
            "LIST_REVERSE",
            "LIST_SELECT",
            "LIST_SLICE",
            "LIST_STRING_AGG",
            "LIST_SUM",
            "LIST_UNIQUE",
            "LIST_WHERE",
            "LIST_ZIP",
            "MAD",
            "MAKE_TIMESTAMPTZ",
            "MAP_CONCAT",
            "MAP_CONTAINS",
            "MAP_ENTRIES",
            "MAP_EXTRACT",
            "MAP_VALUES",
            "MD5_NUMBER",
            "MEAN",
            "MICROSECOND",
            "MILLENNIUM",
            "MILLISECOND",
            "MISMATCHES",
            "NANOSECOND",
            "OCTET_LENGTH",
            "ORD",
            "PREFIX",
            "PRINTF",
            "PRODUCT",
            "REGEXP_ESCAPE",
            "REGEXP_SPLIT_TO_ARRAY",
            "ROUND_EVEN",
            "ROUNDBANKERS",
            "ROW",
            "SEM",
            "SIGNBIT",
            "STRIP_ACCENTS",
            "STRLEN",
            "STRUCT_CONCAT",
            "STRUCT_INSERT",
            "SUFFIX",
            "SUMKAHAN",
            "TIMEZONE",
            "TO_BASE",
            "TO_HOURS",
            "TO_JSON",
            "TO_MICROSECONDS",
            "TO_MILLISECONDS",
            "TO_MINUTES",
            "TO_MONTHS",
            "TO_QUARTERS",
            "TO_SECONDS",
            "TO_WEEKS",
            "TO_YEARS",
            "TRY_STRPTIME",
            "UNBIN",
            "URL_DECODE",
            "URL_ENCODE",
            "WAVG",
            "WEEKDAY",
            "WEIGHTED_AVG",
            "YEARWEEK",
        ]
    ),
    "snowflake": frozenset(
        [
            "ARRAYS_TO_OBJECT",
            "AS_ARRAY",
            "AS_BOOLEAN",
            "AS_CHAR",
            "AS_DATE",
            "AS_INTEGER",
            "AS_NUMBER",
            "AS_OBJECT",
            "AS_REAL",
            "AS_VARCHAR",
            "CONDITIONAL_CHANGE_EVENT",
            "CONDITIONAL_TRUE_EVENT",
            "HASH",
            "HAVERSINE",
            "IS_BOOLEAN",
            "IS_CHAR",
            "IS_DATE",
            "IS_DECIMAL",
            "IS_INTEGER",
            "IS_OBJECT",
            "OBJECT_DELETE",
            "OBJECT_PICK",
            "PARSE_XML",
            "RATIO_TO_REPORT",
            "TO_OBJECT",
            "TO_TIMESTAMP",
            "TO_TIMESTAMP_LTZ",
            "TO_TIMESTAMP_NTZ",
            "TO_TIMESTAMP_TZ",
            "TRY_TO_TIMESTAMP",
            "TRY_TO_TIMESTAMP_LTZ",
            "TRY_TO_TIMESTAMP_NTZ",
            "TRY_TO_TIMESTAMP_TZ",
        ]
    ),
}
# What Jinja can know of the batch, of the run that builds it, or of the rows in the database.
_JINJA_NAMES = frozenset(
    [
        "adapter",
        "builtins",
        "context",
        "event_time_end",
        "event_time_start",
        "flags",
        "get_column_values",
        "get_query_results_as_dict",
        "get_single_value",
        "graph",
        "invocation_args_dict",
        "invocation_id",
        "is_incremental",
        "load_result",
        "model",
        "modules",
        "render",
        "render_limited",
        "run_query",
        "run_started_at",
        "selected_resources",
        "should_full_refresh",
        "statement",
        "store_result",
        "this",
        "thread_id",
    ]
)
_JINJA = jinja2.Environment(autoescape=False)
_QUOTED = re.compile(r'"([^"]+)"\Z')
_WORD = re.compile(r"[A-Za-z_]\w*\Z")


def why_not_separable(
    sql: str,
    dialect: str,
    batch_size: BatchSize,
    event_time: str,
    inputs: Mapping[tuple[str, ...], str | None],
    *,
    utc: bool = True,
) -> str:
    """Why several batches run as one may give other rows than one by one; "" if they cannot.

    Args:
        sql: the model's compiled SQL, one query, without dbt's filters.
        dialect: ``duckdb`` or ``snowflake``.
        event_time: the model's own column.
        inputs: the ``event_time`` of each relation the SQL may read, None if it has none and is
            read whole. The key is the parts of the name that the SQL gives it, as
            ``Names.normal`` makes them.
        utc: whether the days, hours ... that the SQL makes of event times are those of UTC. If
            not, only models that keep event times as they are can be proven.
    """
    try:
        if dialect not in _BUILT_IN:
            raise Opaque(f"the SQL dialect {dialect}")
        query = _parsed(sql, dialect)
        _prove(query, dialect, batch_size, event_time, inputs, utc=True)
        if not utc:
            try:
                _prove(query, dialect, batch_size, event_time, inputs, utc=False)
            except Opaque:
                raise Opaque(f"makes {batch_size}s of times that may not be in UTC") from None
    except Opaque as why:
        return str(why)
    except RecursionError:
        return "SQL nested too deeply"
    return ""


def batch_dependent(raw_code: str) -> str:
    """Why the SQL that a model's Jinja renders may depend on the batch; "" if it does not.

    Comments and the ``config()`` of the model do not count. Macros the Jinja calls have to be
    asked about too.
    """
    try:
        tokens = list(_JINJA.lexer.tokeniter(raw_code, None))
    except jinja2.TemplateSyntaxError:
        return "Jinja that cannot be read"
    code = [(kind, value) for _, kind, value in tokens if kind in ("name", "string", "operator")]
    depth = 0
    for place, (kind, value) in enumerate(code):
        opens = code[place - 1 : place] == [("name", "config")]
        if value == "(" and (depth or opens):
            depth += 1
        elif value == ")" and depth:
            depth -= 1
        elif not depth and (
            (kind == "name" and value in _JINJA_NAMES)
            or (kind == "string" and "event_time" in value)
        ):
            return f"its Jinja mentions {value}"
    return ""


def _parsed(sql: str, dialect: str) -> exp.Query:
    try:
        statements = [s for s in sqlglot.parse(sql, read=dialect_of(dialect)) if s is not None]
    except SqlglotError:
        raise Opaque("SQL that sqlglot does not parse") from None
    if len(statements) != 1 or not isinstance(statements[0], exp.Query):
        raise Opaque("SQL that is not one query")
    return statements[0]


def _prove(
    query: exp.Query,
    dialect: str,
    size: BatchSize,
    event_time: str,
    inputs: Mapping[tuple[str, ...], str | None],
    *,
    utc: bool,
) -> None:
    names = Names(dialect_of(dialect))
    batches = Batches(size, names, utc, dialect == "duckdb")
    tables: dict[tuple[str, ...], Relation] = {}
    for path, time in inputs.items():
        columns = ((_column(names, time), True),) if time else ()
        tables[path] = Relation(path[-1] if time else "", columns)
    relation = _Queries(batches, tables, _BUILT_IN[dialect]).relation(query, {})
    if not relation.local:
        raise Opaque("reads nothing that has an event_time")
    if not relation.find(_column(names, event_time)):
        raise Opaque(f"its {event_time} may lie outside the {size} of the rows it is made of")


def _column(names: Names, event_time: str) -> str:
    """The column that dbt's config calls ``event_time``, which it puts in SQL as it is."""
    if quoted := _QUOTED.match(event_time):
        return names.normal(quoted[1], quoted=True)
    if not _WORD.match(event_time):
        raise Opaque(f"the event_time {event_time} is no column")
    return names.normal(event_time, quoted=False)


class _Queries:
    """Finds out what the rows of queries are, from the inside to the outside."""

    def __init__(
        self,
        batches: Batches,
        tables: Mapping[tuple[str, ...], Relation],
        built_in: frozenset[str],
    ) -> None:
        self._batches = batches
        self._names = batches.names
        self._tables = tables
        self._built_in = built_in

    def relation(self, query: exp.Expr, ctes: _Ctes) -> Relation:
        """Raises:
        Opaque: the rows of several batches are not those of each, or may not be.
        """
        ctes = self._with(query, ctes)
        if isinstance(query, exp.Select):
            return self._select(query, ctes)
        if isinstance(query, exp.SetOperation):
            return self._set_operation(query, ctes)
        if isinstance(query, exp.Subquery):
            refuse(query, frozenset({"with_", "this", "alias", "order"}), "a subquery")
            return self.relation(query.this, ctes)
        raise Opaque(f"{type(query).__name__.lower()} as a query")

    def _with(self, query: exp.Expr, ctes: _Ctes) -> _Ctes:
        clause = query.args.get("with_")
        if clause is None:
            return ctes
        refuse(clause, frozenset({"expressions", "recursive"}), "WITH")
        visible = dict(ctes)
        for cte in clause.expressions:
            refuse(cte, frozenset({"this", "alias", "materialized"}), "WITH")
            name = self._names.of(cte.args["alias"].this)
            if any(self._path(table) == (name,) for table in cte.this.find_all(exp.Table)):
                raise Opaque("a recursive query")
            visible[name] = cache(partial(self._cte, cte, dict(visible)))
        return visible

    def _cte(self, cte: exp.CTE, ctes: _Ctes) -> Relation:
        return self._renamed(self.relation(cte.this, ctes), cte.args["alias"])

    def _renamed(self, relation: Relation, alias: exp.TableAlias | None) -> Relation:
        columns = alias.args.get("columns") if alias else None
        if not columns:
            return relation
        names = [self._names.of(column) for column in columns]
        if not relation.local:
            return Relation("", tuple((name, False) for name in names))
        if not relation.closed or len(names) != len(relation.columns):
            raise Opaque("new names for columns that are not known")
        moments = (moment for _, moment in relation.columns)
        return Relation(relation.local, tuple(zip(names, moments, strict=True)), closed=True)

    # SELECT

    def _select(self, query: exp.Select, ctes: _Ctes) -> Relation:
        refuse(query, _SELECT, "a query")
        scope = self._scope(query, ctes)
        nodes = list(self._checked(_clauses(query), ctes))
        if not scope.local:
            if query.args.get("limit") and not query.args.get("order"):
                raise Opaque("LIMIT without ORDER BY")
            return self._listed(query, scope)
        if query.args.get("limit"):
            raise Opaque("LIMIT")
        size = self._batches.size
        windows = {self._names.of(w.this): w for w in query.args.get("windows") or ()}
        uses = [n for n in nodes if isinstance(n, exp.Window) and n.args.get("over")]
        for window in uses:
            if not any(map(scope.determines, self._partition(window, windows))):
                raise Opaque(f"a window function that is not partitioned by {size}")
        if group := query.args.get("group"):
            if not self._groups_by_batch(query, group, scope):
                raise Opaque(f"groups by something else than its {size}")
            scope.grouped = True
        elif query.args.get("having") or _aggregates(nodes, uses):
            raise Opaque("an aggregate without GROUP BY")
        relation = self._listed(query, scope)
        if distinct := query.args.get("distinct"):
            on = distinct.args.get("on")
            kept = (
                any(map(scope.determines, on.expressions or [on]))
                if on
                else any(moment for _, moment in relation.columns)
            )
            if not kept:
                raise Opaque(f"DISTINCT without its {size}")
        return relation

    def _checked(self, roots: Iterable[exp.Expr], ctes: _Ctes) -> Iterator[exp.Expr]:
        """The nodes of expressions, without those of the queries inside, all of them understood."""
        for root in roots:
            for node in root.walk(prune=lambda n: isinstance(n, exp.Query)):
                self._check(node, ctes)
                yield node

    def _check(self, node: exp.Expr, ctes: _Ctes) -> None:
        if isinstance(node, exp.Query):
            if table := self.relation(node, ctes).local:
                raise Opaque(f"a subquery that reads {table}")
        elif why := _REFUSED.get(type(node)):
            raise Opaque(why)
        elif isinstance(node, exp.Column):
            if node.args.get("join_mark"):
                raise Opaque("an outer join written (+)")
            if node.args.get("table") and node.name.upper() == "NEXTVAL":
                raise Opaque("a sequence")
        elif isinstance(node, exp.Star):
            if any(node.args.values()) or not isinstance(node.parent, exp.Func):
                raise Opaque("a star inside an expression")
        elif isinstance(node, exp.Dot) and isinstance(node.expression, exp.Func):
            raise Opaque(f"calls {node.sql(dialect=self._names.dialect)}, which is not known")
        elif isinstance(node, exp.Anonymous):
            if node.name.upper() not in self._built_in:
                raise Opaque(f"calls {node.name}(), which is not known")
        elif isinstance(node, _VOLATILE) or type(node).__name__.startswith("Current"):
            name = (called(node) or type(node).__name__).lower()
            raise Opaque(f"calls {name}, which is not the same in every run")

    def _partition(self, window: exp.Window, windows: Mapping[str, exp.Window]) -> list[exp.Expr]:
        keys = list(window.args.get("partition_by") or ())
        named = window.args.get("alias")
        while named is not None and (definition := windows.get(self._names.of(named))):
            keys += definition.args.get("partition_by") or ()
            named = definition.args.get("alias")
        return keys

    def _groups_by_batch(self, query: exp.Select, group: exp.Group, scope: Scope) -> bool:
        refuse(group, frozenset({"expressions", "all"}), "GROUP BY")
        if group.find(exp.Cube, exp.GroupingSets, exp.Rollup):
            raise Opaque("grouping sets")
        listed = self._listed(query, scope)
        if group.args.get("all"):
            return any(moment for _, moment in listed.columns)
        before_star = 0
        while before_star < len(query.expressions) and not _is_many(query.expressions[before_star]):
            before_star += 1
        known = len(listed.columns) if listed.closed else before_star
        for key in group.expressions:
            if isinstance(key, exp.Literal):
                place = int(key.name) - 1 if key.name.isdigit() and not key.is_string else -1
                if 0 <= place < known and listed.columns[place][1]:
                    return True
            elif scope.determines_group(key):
                return True
        return False

    def _listed(self, query: exp.Select, scope: Scope) -> Relation:
        """The columns of the SELECT list."""
        columns: list[tuple[str, bool]] = []
        taken: set[str] = set()
        closed = certain = True
        for item in query.expressions:
            for column in self._item(item, scope):
                if column is None:
                    closed = False
                    certain = certain and not self._batches.duckdb
                    continue
                name, moment = column
                columns.append((name if certain and name not in taken else "", moment))
                if (not name or name in taken) and self._batches.duckdb:
                    # It may be called like one that follows.
                    certain = False
                taken.add(name)
        return Relation(scope.local, tuple(columns), closed)

    def _item(self, item: exp.Expr, scope: Scope) -> Iterable[tuple[str, bool] | None]:
        if star := _star(item):
            table = item.args.get("table")
            return self._star(star, self._names.of(table) if table else None, scope)
        if _is_many(item):
            return [None]
        if isinstance(item, exp.Alias):
            return [(self._names.of(item.args["alias"]), scope.is_moment(item.this))]
        name = item.unnest()
        return [
            (
                self._names.of(name.this) if isinstance(name, exp.Column) else "",
                scope.is_moment(item),
            )
        ]

    def _star(
        self, star: exp.Star, table: str | None, scope: Scope
    ) -> Iterator[tuple[str, bool] | None]:
        refuse(star, frozenset({"except_", "replace", "rename"}), "a star")
        dropped = star.args.get("except_") or ()
        renamed = star.args.get("rename") or ()
        if any(c.args.get("table") for c in (*dropped, *(pair.this for pair in renamed))):
            raise Opaque("a star with a table's name in it")
        without = {self._names.of(column) for column in dropped}
        names = {self._names.of(p.this): self._names.of(p.args["alias"]) for p in renamed}
        replaced = {
            self._names.of(pair.args["alias"]): scope.is_moment(pair.this)
            for pair in star.args.get("replace") or ()
        }
        columns = list(scope.star(table))
        # Where not all columns are known, either of two may be the first that has a new name.
        unclear = {*names, *names.values()} if None in columns else set()
        for column in columns:
            if column is None:
                yield None
            elif (name := column[0]) not in without:
                new = "" if name in unclear else names.get(name, name)
                yield new, replaced.get(name, column[1])

    # FROM

    def _scope(self, query: exp.Select, ctes: _Ctes) -> Scope:
        sources: list[Source] = []
        if clause := query.args.get("from_"):
            sources.append(self._source(clause.this, ctes, None))
        for join in query.args.get("joins") or ():
            if not sources:
                raise Opaque("a join without FROM")
            sources.append(self._source(join.this, ctes, join))
        aliases = {
            self._names.of(item.args["alias"]): item.this
            for item in query.expressions
            if isinstance(item, exp.Alias)
        }
        where = query.args.get("where")
        return Scope(self._batches, sources, where.this if where else None, aliases)

    def _source(self, item: exp.Expr, ctes: _Ctes, join: exp.Join | None) -> Source:
        alias = item.args.get("alias")
        name = self._names.of(alias.this) if alias and alias.this else ""
        path: tuple[str, ...] = ()
        if item.args.get("pivots"):
            raise Opaque("a pivot")
        if isinstance(item, exp.Table) and isinstance(item.this, exp.Identifier):
            refuse(item, frozenset({"this", "db", "catalog", "alias"}), "a table")
            table = self._path(item)
            path = () if name else table
            name = name or table[-1]
            relation = self._table(table, ctes)
        elif isinstance(item, exp.Subquery):
            relation = self.relation(item, ctes)
        elif isinstance(item, exp.Lateral) and isinstance(item.this, exp.Subquery):
            refuse(item, frozenset({"this", "alias"}), "LATERAL")
            relation = self.relation(item.this, ctes)
        else:
            relation = self._function(item, ctes)
        return Source(name, path, self._renamed(relation, alias), join)

    def _table(self, path: tuple[str, ...], ctes: _Ctes) -> Relation:
        if len(path) == 1 and path[0] in ctes:
            return ctes[path[0]]()
        if path not in self._tables:
            raise Opaque(f"reads {'.'.join(path)}, which is not ref() or source()")
        return self._tables[path]

    def _path(self, table: exp.Table) -> tuple[str, ...]:
        parts = (table.args.get(key) for key in ("catalog", "db", "this"))
        return tuple(self._names.of(part) for part in parts if part)

    def _function(self, item: exp.Expr, ctes: _Ctes) -> Relation:
        """Rows made of the arguments: of constants, or of columns of one row of a neighbour."""
        function = item
        if isinstance(item, (exp.Lateral, exp.Table, exp.TableFromRows)):
            refuse(item, frozenset({"this", "alias", "ordinality"}), "a table function")
            function = item.this
        named = isinstance(function, exp.Anonymous) and function.name.upper()
        if not (
            isinstance(function, (exp.Unnest, exp.Values, *_ROW_FUNCTIONS))
            or named in _ROW_FUNCTION_NAMES
        ):
            raise Opaque(f"reads {function.sql(dialect=self._names.dialect)}")
        parts = [
            part for part in function.iter_expressions() if not isinstance(part, exp.TableAlias)
        ]
        for _ in self._checked(parts, ctes):
            pass
        return Relation("")

    # UNION, INTERSECT, EXCEPT

    def _set_operation(self, query: exp.SetOperation, ctes: _Ctes) -> Relation:
        refuse(query, _SET, "a set operation")
        left = self.relation(query.this, ctes)
        right = self.relation(query.expression, ctes)
        kind = type(query).__name__.upper()
        if bool(left.local) != bool(right.local):
            raise Opaque(f"{kind} of {left.local or right.local} and rows that every batch has")
        columns: list[tuple[str, bool]] = []
        closed = left.closed and right.closed and not query.args.get("by_name")
        if query.args.get("by_name"):
            columns = [(name, moment and bool(right.find(name))) for name, moment in left.columns]
        elif closed:
            pairs = zip(left.columns, right.columns, strict=False)
            columns = [(name, moment and other) for (name, moment), (_, other) in pairs]
        if not self._batches.utc:
            # Together they may be of another type, which is converted by the time zone.
            columns = [(name, False) for name, _ in columns]
        distinct = query.args.get("distinct") or not isinstance(query, exp.Union)
        if left.local and distinct and not any(moment for _, moment in columns):
            raise Opaque(f"{kind} without its {self._batches.size} in the same column")
        return Relation(left.local, tuple(columns), closed)


def _clauses(query: exp.Select) -> Iterator[exp.Expr]:
    """The expressions of a SELECT, without the tables and queries in FROM."""
    for item in query.expressions:
        if star := _star(item):
            yield from (pair.this for pair in star.args.get("replace") or ())
        else:
            yield item
    for join in query.args.get("joins") or ():
        yield from (join.args[key] for key in ("on", "match_condition") if join.args.get(key))
    for key in ("distinct", "where", "group", "having", "qualify", "order"):
        if clause := query.args.get(key):
            yield clause
    yield from query.args.get("windows") or ()


def _is_many(item: exp.Expr) -> bool:
    """Whether an item of the SELECT list may be several columns."""
    many = item.find(exp.Explode, exp.Unnest) is not None
    return many or _star(item) is not None or isinstance(item, exp.Aliases)


def _star(item: exp.Expr) -> exp.Star | None:
    star = item.this if isinstance(item, exp.Column) else item
    return star if isinstance(star, exp.Star) else None


def _aggregates(nodes: Iterable[exp.Expr], windows: Iterable[exp.Window]) -> bool:
    windowed: set[int] = set()
    for window in windows:
        function = window.this
        while isinstance(function, _AROUND_FUNCTION):
            function = function.this
        windowed.add(id(function))
    return any(isinstance(node, exp.AggFunc) and id(node) not in windowed for node in nodes)
