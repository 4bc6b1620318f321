"""Which expressions of a SELECT are moments in the batch of their row, and how its sources join."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from dbt_orchestration.changes.columns.names import Names, Opaque
from dbt_orchestration.changes.columns.scope import refuse
from dbt_orchestration.partitions.config import BatchSize

# A week begins in one month or year and ends in another, so it is none of these.
_UNITS = [
    "MICROSECOND",
    "MILLISECOND",
    "SECOND",
    "MINUTE",
    "HOUR",
    "DAY",
    "MONTH",
    "QUARTER",
    "YEAR",
]
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
# What yields a moment of the same batch from one, with the arguments that are understood.
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
_JOIN = frozenset({"this", "on", "side", "kind", "using", "method", "match_condition"})
_HIDDEN = frozenset({"SEMI", "ANTI"})
_KINDS = frozenset({"", "INNER", "OUTER", "CROSS", *_HIDDEN})

Sources = frozenset[int]


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
class Relation:
    """The rows of a query or a table.

    Attributes:
        local: a table it reads of which a batch sees only its own rows. "" if there is none: then
            the rows are the same for every batch.
        columns: the columns that are known, and whether each is a moment in the batch of its row,
            which is never NULL. The name is "" where the engine may find another column by it.
        closed: these are all columns, in their order.
    """

    local: str
    columns: tuple[tuple[str, bool], ...] = ()
    closed: bool = False

    def find(self, name: str) -> bool | None:
        """Whether the column ``name`` is a moment; None if no such column is known."""
        return next((moment for own, moment in self.columns if own == name), None)


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
    def side(self) -> str:
        return str(self.join.args.get("side") or "").upper() if self.join else ""

    @property
    def kind(self) -> str:
        return str(self.join.args.get("kind") or "").upper() if self.join else ""

    @property
    def method(self) -> str:
        return str(self.join.args.get("method") or "").upper() if self.join else ""

    @property
    def hidden(self) -> bool:
        """Whether only the condition of its join can name it."""
        return self.kind in _HIDDEN


@dataclass
class Scope:
    """The sources of one SELECT, joined, and the names its expressions can use.

    Rows of local sources stand in one row only if they are of one batch. In every row at least one
    of ``sides`` is there as a whole; other sources may be NULL, as outer joins make them.

    Attributes:
        aliases: the expressions of the SELECT list that have a name.
        grouped: rows of one batch each are aggregated.
    """

    batches: Batches
    sources: Sequence[Source]
    where: exp.Expr | None
    aliases: Mapping[str, exp.Expr]
    local: str = ""
    sides: list[Sources] = field(default_factory=list)
    grouped: bool = False
    # What USING made one column of two.
    _merged: dict[str, Sources | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._comma = any(
            source.join is not None and not any(source.join.args.get(k) for k in _JOIN - {"this"})
            for source in self.sources
        )
        for place, source in enumerate(self.sources):
            if source.join is not None:
                self._join(place, source, source.join)
            elif source.relation.local:
                self.local, self.sides = source.relation.local, [frozenset({place})]

    # Moments

    def is_moment(self, node: exp.Expr) -> bool:
        """Whether ``node`` is a moment in the batch of its row, and never NULL."""
        return self._present(self.moment(node))

    def determines(self, key: exp.Expr) -> bool:
        """Whether rows with the same ``key``, of PARTITION BY or DISTINCT ON, are of one batch."""
        if all(_knows_names(source.relation) for source in self.sources):
            key = self._unless_column(key)
        moment = self.moment(key)
        for column in key.find_all(exp.Column):
            alias = self._alias(column)
            if alias is not None and moment is not None:
                # Engines differ in whether the name is the column's or the alias's.
                moment = moment & (self.moment(alias) or frozenset())
        return self._present(moment)

    def determines_group(self, key: exp.Expr) -> bool:
        """The same of GROUP BY, where a name is a column's, and only then an alias.

        If what is an alias here turns out to be the name of a column, the engine groups by that,
        and allows the aliased expression in the SELECT list only if another key is as good.
        """
        return self.is_moment(self._unless_column(key))

    def moment(self, node: exp.Expr, join: int | None = None) -> Sources | None:
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

    def _present(self, moment: Sources | None) -> bool:
        return moment is not None and all(moment & side for side in self.sides or [frozenset()])

    def _carried(self, node: exp.Expr) -> exp.Expr | None:
        """The moment ``node`` shares its batch with, if it has one; NULL where that is NULL."""
        allowed = _CARRIERS.get(type(node), frozenset())
        if not {key for key, value in node.args.items() if value} <= allowed:
            return None
        carried = node.this
        size = self.batches.size
        if isinstance(node, (exp.DateTrunc, exp.TimestampTrunc)):
            unit = node.args.get("unit")
            fine = (
                unit is not None and unit.name.upper() in _UNITS[: _UNITS.index(size.upper()) + 1]
            )
        elif isinstance(node, exp.Cast):
            # Not to a precision: rounded to seconds, 23:59:59.9 is the next day.
            to = node.to
            day = to.this == exp.DType.DATE and size != "hour"
            fine = (day or to.this in _TIMESTAMPS) and not to.expressions
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
            return carried if isinstance(node, (exp.IgnoreNulls, exp.Paren)) else None
        return carried if fine and self.batches.utc else None

    # Names

    def star(self, table: str | None) -> Iterator[tuple[str, bool] | None]:
        """The columns of ``*`` or ``table.*``; None stands for some that are not known."""
        places = [
            place
            for place, source in enumerate(self.sources)
            if not source.hidden and table in (None, source.name)
        ]
        if len(places) != 1 and table is not None:
            yield None
            return
        if table is None and self._merged:
            # Engines put them first, or where they stood.
            for name, moment in self._merged.items():
                yield name, self._present(moment)
            yield None
        for place in places:
            relation = self.sources[place].relation
            for name, moment in relation.columns:
                if table is not None or name not in self._merged:
                    yield name, moment and self._present(frozenset({place}))
            if not relation.closed:
                yield None

    def _alias(self, column: exp.Column) -> exp.Expr | None:
        """What ``column`` means if its name is that of an alias."""
        qualified = column.args.get("table") is not None
        return None if qualified else self.aliases.get(self.batches.names.of(column.this))

    def _unless_column(self, key: exp.Expr) -> exp.Expr:
        """What the alias ``key`` stands for, if no column is known that has its name."""
        alias = self._alias(key) if isinstance(key, exp.Column) else None
        name = self.batches.names.of(key)
        known = name in self._merged or self._having(name, range(len(self.sources)))
        return alias if alias is not None and not known else key

    def _having(self, name: str, places: Sequence[int]) -> list[int]:
        return [i for i in places if self.sources[i].relation.find(name) is not None]

    def _column(self, node: exp.Column, join: int | None) -> Sources | None:
        names = self.batches.names
        name = names.of(node.this)
        path = tuple(names.of(node.args[k]) for k in ("catalog", "db", "table") if node.args.get(k))
        last = len(self.sources) - 1 if join is None else join
        places = [
            i for i, s in enumerate(self.sources) if i <= last and (not s.hidden or i == join)
        ]
        if path:
            found = [i for i in places if _is_called(self.sources[i], path)]
        elif name in self._merged:
            return self._merged[name]
        elif join is not None and self._comma:
            # The condition may see nothing of what stands before the comma.
            return None
        else:
            # In valid SQL, a name that one of the sources has is no other's.
            found = self._having(name, places)
        known = len(found) == 1 and self.sources[found[0]].relation.find(name)
        return frozenset(found) if known else None

    # Joins

    def _join(self, place: int, source: Source, join: exp.Join) -> None:
        refuse(join, _JOIN, "a join")
        side, kind, method = source.side, source.kind, source.method
        if kind not in _KINDS or (source.hidden and (not self.batches.duckdb or side == "RIGHT")):
            raise Opaque(f"a {kind.lower()} join")
        if method not in ("", "ASOF"):
            raise Opaque(f"a {method.lower()} join")
        outer = side in ("RIGHT", "FULL")
        if self._comma and (outer or join.args.get("using")):
            raise Opaque(
                f"a comma next to {'USING' if join.args.get('using') else 'an outer join'}"
            )
        right = source.relation.local
        own = frozenset({place})
        using = self._using(place, join)
        if right and self.local:
            if method or not (
                (self.batches.utc and any(left and right for _, left, right in using))
                or any(self._links(place, c) for c in self._conditions(source, join))
            ):
                raise Opaque(f"joins {self.local} and {right} without their {self.batches.size}")
            if side == "RIGHT":
                self.sides = [own]
            elif side == "FULL":
                self.sides.append(own)
            elif not (side or source.hidden):
                self.sides = [known | own for known in self.sides]
        elif right:
            if side in ("LEFT", "FULL") or source.hidden or method:
                raise Opaque(f"a join that keeps rows that have no match in {right}")
            self.local, self.sides = right, [own]
        elif self.local and outer:
            raise Opaque(f"a join that keeps rows that have no match in {self.local}")
        for name, left, is_moment in () if source.hidden else using:
            self._merged[name] = self._merge(side, left, own if is_moment else None)

    def _using(self, place: int, join: exp.Join) -> list[tuple[str, Sources | None, bool]]:
        """Each name in USING, what it is to the left, and whether it is a moment to the right."""
        found: list[tuple[str, Sources | None, bool]] = []
        for identifier in join.args.get("using") or ():
            name = self.batches.names.of(identifier)
            before = [i for i in range(place) if not self.sources[i].hidden]
            left = self._merged.get(name)
            # Engines may take the first of several tables that have it.
            if name not in self._merged and all(
                self.sources[i].relation.closed for i in before[len(before) == 1 :]
            ):
                having = self._having(name, before)
                known = len(having) == 1 and self.sources[having[0]].relation.find(name)
                left = frozenset(having) if known else None
            found.append((name, left, bool(self.sources[place].relation.find(name))))
        return found

    def _merge(self, side: str, left: Sources | None, right: Sources | None) -> Sources | None:
        if side == "LEFT" or (self.batches.duckdb and not side):
            merged = left
            if not side and left is not None:
                merged = left | (right or frozenset())
        elif side and not self.batches.duckdb:
            merged = None
        elif side == "RIGHT":
            merged = right
        else:
            merged = left | right if left is not None and right is not None else None
        return merged

    def _conditions(self, source: Source, join: exp.Join) -> Iterator[tuple[exp.Expr, bool]]:
        """What holds of the rows that are joined, and whether it stands in this join."""
        for condition in _conjuncts(join.args.get("on")):
            yield condition, True
        if not any(other.side in ("RIGHT", "FULL") for other in self.sources) and not (
            source.side or source.hidden
        ):
            # As good as in ON: what is joined to such a row goes with it.
            for condition in _conjuncts(self.where):
                yield condition, False

    def _links(self, place: int, condition: tuple[exp.Expr, bool]) -> bool:
        """Whether ``condition`` is met only by rows of one batch: moments on both sides are equal."""
        node, own = condition
        if not isinstance(node, exp.EQ) or not self.batches.utc:
            return False
        moments = [
            self.moment(part, place if own else None) for part in (node.this, node.expression)
        ]
        return any(
            here == {place} and there and max(there) < place
            for here, there in (moments, moments[::-1])
        )


def _knows_names(relation: Relation) -> bool:
    return relation.closed and all(name for name, _ in relation.columns)


def _is_called(source: Source, path: tuple[str, ...]) -> bool:
    return path in ((source.name,), source.path[-len(path) :])


def _conjuncts(node: exp.Expr | None) -> Iterator[exp.Expr]:
    if isinstance(node, exp.Paren):
        yield from _conjuncts(node.this)
    elif isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.expression)
    elif node is not None:
        yield node
