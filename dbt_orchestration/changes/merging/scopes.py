"""What the expressions of one SELECT can name, and which are moments in the batch of their row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from dbt_orchestration.changes.columns.names import Names
from dbt_orchestration.changes.dates import BatchSize

# A week may begin in one month or year and end in another, so it is none of these.
_UNITS = ["MICROSECOND", "MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "QUARTER"]
_UNITS += ["YEAR"]
_TIMESTAMPS = frozenset(
    {
        exp.DType.DATETIME,
        exp.DType.TIMESTAMP,
        exp.DType.TIMESTAMPLTZ,
        exp.DType.TIMESTAMPNTZ,
        exp.DType.TIMESTAMPTZ,
    }
)
_TO_TIMESTAMP = frozenset(
    {"TO_TIMESTAMP", "TO_TIMESTAMP_LTZ", "TO_TIMESTAMP_NTZ", "TO_TIMESTAMP_TZ"}
)
# What makes a moment of the same batch of one, with the arguments that are understood.
_CARRIERS: Mapping[type[exp.Expr], frozenset[str]] = {
    exp.Anonymous: frozenset({"this", "expressions"}),
    exp.AnyValue: frozenset({"this"}),
    exp.AtTimeZone: frozenset({"this", "zone"}),
    exp.Cast: frozenset({"this", "to"}),
    exp.Date: frozenset({"this"}),
    exp.DateTrunc: frozenset({"this", "unit"}),
    exp.IgnoreNulls: frozenset({"this"}),
    exp.Max: frozenset({"this"}),
    exp.Min: frozenset({"this"}),
    exp.Paren: frozenset({"this"}),
    exp.TimestampTrunc: frozenset({"this", "unit", "input_type_preserved"}),
    exp.TsOrDsToDate: frozenset({"this"}),
}
Places = frozenset[int]


@dataclass(frozen=True)
class Batches:
    """What a batch is, and how the engine reads names.

    Attributes:
        utc: the days, hours, ... that SQL makes of a moment are those of UTC.
        duckdb: of two columns of a query that have one name, the first is found by it. On
            Snowflake it is an error to use the name.
    """

    size: BatchSize
    names: Names
    utc: bool
    duckdb: bool


@dataclass(frozen=True)
class Column:
    """A column of a query or a table.

    Attributes:
        moment: it is a time in the batch of its row, and never NULL.
        certain: its name does not find another column.
    """

    name: str
    moment: bool
    certain: bool = True


@dataclass(frozen=True)
class Relation:
    """The rows of a query or a table.

    Attributes:
        local: a table it reads of which a batch sees only its own rows. "" if there is none: then
            the rows are the same for every batch.
        columns: those that are known.
        closed: there are no others, and this is their order.
    """

    local: str
    columns: tuple[Column, ...] = ()
    closed: bool = False

    def find(self, name: str) -> bool | None:
        """Whether the column ``name`` is a moment; None if no such column is known."""
        return next((c.moment for c in self.columns if c.name == name and c.certain), None)

    @property
    def moments(self) -> bool:
        """Whether rows that are equal are of one batch."""
        return any(column.moment for column in self.columns)

    def doubt(self, why: str) -> str:
        """``why``, with a name that is not understood if that may be the cause."""
        names = (c.name for c in self.columns if c.moment and c.name and not c.certain)
        name = next(names, None)
        return f"{why}: {name} may be another column, of the * before it" if name else why


@dataclass(frozen=True)
class Source:
    """A relation in FROM, under the name it has there.

    Attributes:
        path: the parts of a table's own name, if it has no other.
        join: how it is joined; None for the first.
    """

    name: str
    path: tuple[str, ...]
    relation: Relation
    join: exp.Join | None = None

    @property
    def hidden(self) -> bool:
        """Whether only the condition of its join can name it."""
        return self.join is not None and self.join.kind in ("SEMI", "ANTI")

    def is_called(self, path: tuple[str, ...]) -> bool:
        return path in ((self.name,), self.path[-len(path) :])


@dataclass
class Scope:
    """The sources of one SELECT and its aliases.

    Rows of local sources stand in one row only if they are of one batch. In every row at least one
    of ``sides`` is there as a whole; other sources may be NULL, as outer joins make them.

    Attributes:
        aliases: the expressions of the SELECT list that have a name.
        local: as in Relation, of the sources that have been joined.
        merged: what USING made one column of two.
        comma: some sources stand next to each other with nothing but a comma.
        grouped: rows of one batch each are aggregated.
    """

    batches: Batches
    sources: Sequence[Source]
    aliases: Mapping[str, exp.Expr]
    local: str = ""
    sides: list[Places] = field(default_factory=list)
    merged: dict[str, Places | None] = field(default_factory=dict)
    comma: bool = False
    grouped: bool = False

    def doubt(self, why: str) -> str:
        """As in Relation."""
        doubts = (source.relation.doubt(why) for source in self.sources)
        return next((doubt for doubt in doubts if doubt != why), why)

    # Moments

    def is_moment(self, node: exp.Expr) -> bool:
        """Whether ``node`` is a moment in the batch of its row, and never NULL."""
        return self._present(self.moment(node))

    def determines(self, key: exp.Expr) -> bool:
        """Whether rows with the same ``key``, of PARTITION BY or DISTINCT ON, are of one batch."""
        columns = [c for source in self.sources for c in source.relation.columns]
        if all(s.relation.closed for s in self.sources) and all(c.certain for c in columns):
            key = self._unless_column(key)
        # Engines differ in whether a name is a column's or an alias's, so both have to be moments.
        aliases = (self._alias(column) for column in key.find_all(exp.Column))
        meant = [key, *(alias for alias in aliases if alias is not None)]
        return all(map(self.is_moment, meant))

    def determines_group(self, key: exp.Expr) -> bool:
        """The same of GROUP BY, where a name is a column's, and only then an alias.

        If what is an alias here turns out to be the name of a column, the engine groups by that,
        and allows the aliased expression in the SELECT list only if another key is as good.
        """
        return self.is_moment(self._unless_column(key))

    def moment(self, node: exp.Expr, join: int | None = None) -> Places | None:
        """Sources any of which makes ``node`` a moment in the batch of the row by being there.

        Without them it is NULL. The answer is None if it may be anything else.

        Args:
            join: the source in whose join condition ``node`` stands.
        """
        if isinstance(node, exp.Column):
            return self._column(node, join)
        if isinstance(node, exp.Coalesce) and self.batches.utc:
            moments = [self.moment(part, join) for part in (node.this, *node.expressions)]
            known = [moment for moment in moments if moment is not None]
            return frozenset().union(*known) if len(known) == len(moments) else None
        carried = self._carried(node)
        return self.moment(carried, join) if carried is not None else None

    def _present(self, moment: Places | None) -> bool:
        if moment is None or not self.sides:
            return False
        return all(moment & side for side in self.sides)

    def _carried(self, node: exp.Expr) -> exp.Expr | None:
        """The moment ``node`` shares its batch with, if it has one; NULL where that is NULL."""
        allowed = _CARRIERS.get(type(node), frozenset())
        if not {key for key, value in node.args.items() if value} <= allowed:
            return None
        carried: exp.Expr = node.this
        size = self.batches.size
        if isinstance(node, (exp.DateTrunc, exp.TimestampTrunc)):
            fine = node.text("unit").upper() in _UNITS[: _UNITS.index(size.upper()) + 1]
        elif isinstance(node, exp.Cast):
            # Not to a precision: rounded to seconds, 23:59:59.9 is the next day.
            day = node.to.this == exp.DType.DATE and size != "hour"
            fine = (day or node.to.this in _TIMESTAMPS) and not node.to.expressions
        elif isinstance(node, (exp.Date, exp.TsOrDsToDate)):
            fine = size != "hour"
        elif isinstance(node, exp.AtTimeZone):
            zone = node.args["zone"]
            fine = isinstance(zone, exp.Literal) and zone.name.upper() == "UTC"
        elif isinstance(node, exp.Anonymous):
            fine = node.name.upper() in _TO_TIMESTAMP and len(node.expressions) == 1
            carried = node.expressions[0] if fine else node
        elif isinstance(node, (exp.AnyValue, exp.Max, exp.Min)):
            fine = self.grouped
        else:
            return carried if allowed else None
        return carried if fine and self.batches.utc else None

    # Names

    def star(self, table: str | None) -> Iterator[Column | None]:
        """The columns of ``*`` or ``table.*``; None stands for some that are not known."""
        chosen = [
            (place, source.relation)
            for place, source in enumerate(self.sources)
            if not source.hidden and table in (None, source.name)
        ]
        merged = self.merged if table is None else {}
        for name, places in merged.items():
            yield Column(name, self._present(places))
        if merged or (table is not None and len(chosen) != 1):
            # Engines put merged columns first, or where they stood.
            yield None
        for place, relation in chosen:
            for column in relation.columns:
                if column.name not in merged:
                    moment = column.moment and self._present(frozenset({place}))
                    yield Column(column.name, moment, column.certain)
            if not relation.closed:
                yield None

    def _column(self, node: exp.Column, join: int | None) -> Places | None:
        names = self.batches.names
        name = names.of(node.this)
        path = tuple(names.of(node.args[k]) for k in ("catalog", "db", "table") if node.args.get(k))
        last = len(self.sources) - 1 if join is None else join
        places = [
            i for i, s in enumerate(self.sources) if i <= last and (not s.hidden or i == join)
        ]
        if path:
            found = [i for i in places if self.sources[i].is_called(path)]
        elif name in self.merged:
            return self.merged[name]
        elif join is not None and self.comma:
            # The condition may see nothing of what stands before the comma.
            return None
        else:
            # In valid SQL, a name that one of the sources has is no other's.
            found = self.having(name, places)
        known = len(found) == 1 and self.sources[found[0]].relation.find(name)
        return frozenset(found) if known else None

    def having(self, name: str, places: Iterable[int]) -> list[int]:
        """Which of the sources have a column ``name`` that is known."""
        return [i for i in places if self.sources[i].relation.find(name) is not None]

    def _alias(self, column: exp.Column) -> exp.Expr | None:
        """What ``column`` stands for if its name is that of an alias."""
        qualified = column.args.get("table") is not None
        return None if qualified else self.aliases.get(self.batches.names.of(column.this))

    def _unless_column(self, key: exp.Expr) -> exp.Expr:
        """What the alias ``key`` stands for, if no column is known that has its name."""
        alias = self._alias(key) if isinstance(key, exp.Column) else None
        name = self.batches.names.of(key)
        known = name in self.merged or self.having(name, range(len(self.sources)))
        return alias if alias is not None and not known else key
