"""The sources of a SELECT, how they join, and which expressions are moments in their row's batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlglot import exp

from dbt_orchestration.changes.columns.names import Names, Opaque
from dbt_orchestration.changes.columns.scope import refuse
from dbt_orchestration.partitions.config import BatchSize

# A week may begin in one month or year and end in another, so it is none of these.
_UNITS = ["MICROSECOND", "MILLISECOND", "SECOND", "MINUTE", "HOUR", "DAY", "MONTH", "QUARTER"]
_UNITS += ["YEAR"]
_TIMESTAMPS = frozenset({"DATETIME", "TIMESTAMP", "TIMESTAMPLTZ", "TIMESTAMPNTZ", "TIMESTAMPTZ"})
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
_JOIN = frozenset({"this", "on", "side", "kind", "using", "method", "match_condition"})
_HIDDEN = frozenset({"SEMI", "ANTI"})

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

    def how(self, part: str) -> str:
        """The side, kind or method of the join."""
        return str(self.join.args.get(part) or "").upper() if self.join else ""

    @property
    def hidden(self) -> bool:
        """Whether only the condition of its join can name it."""
        return self.how("kind") in _HIDDEN

    def is_called(self, path: tuple[str, ...]) -> bool:
        return path in ((self.name,), self.path[-len(path) :])


@dataclass
class Scope:
    """The sources of one SELECT, joined, and the names that its expressions can use.

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
    sides: list[Places] = field(default_factory=list)
    grouped: bool = False
    # What USING made one column of two.
    _merged: dict[str, Places | None] = field(default_factory=dict)

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
        columns = [c for source in self.sources for c in source.relation.columns]
        if all(s.relation.closed for s in self.sources) and all(c.certain for c in columns):
            key = self._unless_column(key)
        moment = self.moment(key)
        for column in key.find_all(exp.Column):
            alias = self._alias(column)
            if alias is not None and moment is not None:
                # Engines differ in whether the name is the column's or the alias's.
                moment &= self.moment(alias) or frozenset()
        return self._present(moment)

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
        return bool(moment and self.sides) and all(moment & side for side in self.sides)

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
            to = node.to.this.value
            fine = (to in _TIMESTAMPS or self._is_day(to)) and not node.to.expressions
        elif isinstance(node, (exp.Date, exp.TsOrDsToDate)):
            fine = self._is_day("DATE")
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

    def _is_day(self, to: str) -> bool:
        return to == "DATE" and self.batches.size != "hour"

    # Names

    def star(self, table: str | None) -> Iterator[Column | None]:
        """The columns of ``*`` or ``table.*``; None stands for some that are not known."""
        places = [
            place
            for place, source in enumerate(self.sources)
            if not source.hidden and table in (None, source.name)
        ]
        merged = self._merged if table is None else {}
        for name, moment in merged.items():
            yield Column(name, self._present(moment))
        if merged or (table is not None and len(places) != 1):
            # Engines put merged columns first, or where they stood.
            yield None
        for place in places:
            relation = self.sources[place].relation
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

    def _having(self, name: str, places: Sequence[int]) -> list[int]:
        return [i for i in places if self.sources[i].relation.find(name) is not None]

    def _alias(self, column: exp.Column) -> exp.Expr | None:
        """What ``column`` stands for if its name is that of an alias."""
        qualified = column.args.get("table") is not None
        return None if qualified else self.aliases.get(self.batches.names.of(column.this))

    def _unless_column(self, key: exp.Expr) -> exp.Expr:
        """What the alias ``key`` stands for, if no column is known that has its name."""
        alias = self._alias(key) if isinstance(key, exp.Column) else None
        name = self.batches.names.of(key)
        known = name in self._merged or self._having(name, range(len(self.sources)))
        return alias if alias is not None and not known else key

    # Joins

    def _join(self, place: int, source: Source, join: exp.Join) -> None:
        refuse(join, _JOIN, "a join")
        side, kind, method = source.how("side"), source.how("kind"), source.how("method")
        using = [self._names_using(name, place) for name in join.args.get("using") or ()]
        outer = side in ("RIGHT", "FULL")
        # Snowflake has no such joins, and reads the words as aliases.
        odd = source.hidden and (outer or not self.batches.duckdb)
        if odd or kind not in ("", "INNER", "OUTER", "CROSS", *_HIDDEN):
            raise Opaque(f"a {kind.lower()} join")
        if method not in ("", "ASOF"):
            raise Opaque(f"a {method.lower()} join")
        if self._comma and (outer or using):
            raise Opaque("a comma in FROM next to USING or an outer join")
        right, own = source.relation.local, frozenset({place})
        if right and self.local:
            if method or not (
                (self.batches.utc and any(left and is_moment for _, left, is_moment in using))
                or any(self._links(*c, place) for c in self._conditions(source, join))
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
                raise Opaque(f"a join that keeps rows without a match in {right}")
            self.local, self.sides = right, [own]
        elif self.local and outer:
            raise Opaque(f"a join that keeps rows without a match in {self.local}")
        for name, left, is_moment in () if source.hidden else using:
            self._merged[name] = self._merge(side, left, own if is_moment else None)

    def _names_using(self, identifier: exp.Expr, place: int) -> tuple[str, Places | None, bool]:
        """A name in USING, what it is to the left, and whether it is a moment to the right."""
        name = self.batches.names.of(identifier)
        before = [i for i in range(place) if not self.sources[i].hidden]
        left = self._merged.get(name)
        # Engines may take the first of several tables that have it.
        if name not in self._merged and (
            len(before) == 1 or all(self.sources[i].relation.closed for i in before)
        ):
            having = self._having(name, before)
            known = len(having) == 1 and self.sources[having[0]].relation.find(name)
            left = frozenset(having) if known else None
        return name, left, bool(self.sources[place].relation.find(name))

    def _merge(self, side: str, left: Places | None, right: Places | None) -> Places | None:
        """What a name in USING is after the join: of which side, no manual of Snowflake says."""
        if side == "LEFT":
            return left
        if self.batches.duckdb and side == "RIGHT":
            return right
        if self.batches.duckdb and not side:
            return left and (left | (right or frozenset()))
        known = left is not None and right is not None and (self.batches.duckdb or not side)
        return (left or frozenset()) | (right or frozenset()) if known else None

    def _conditions(self, source: Source, join: exp.Join) -> Iterator[tuple[exp.Expr, bool]]:
        """What holds of the rows that are joined, and whether it stands in this join."""
        yield from ((condition, True) for condition in _conjuncts(join.args.get("on")))
        if not source.hidden and not any(
            s is source and s.how("side") or s.how("side") in ("RIGHT", "FULL")
            for s in self.sources
        ):
            # As good as in ON: whatever is joined to a row that WHERE drops goes with it.
            yield from ((condition, False) for condition in _conjuncts(self.where))

    def _links(self, node: exp.Expr, is_own: bool, place: int) -> bool:
        """Whether only rows of one batch meet this: moments on both sides are equal."""
        if not isinstance(node, exp.EQ) or not self.batches.utc:
            return False
        join = place if is_own else None
        here, there = self.moment(node.this, join), self.moment(node.expression, join)
        if here != frozenset({place}):
            here, there = there, here
        return here == frozenset({place}) and bool(there) and max(there) < place


def _conjuncts(node: exp.Expr | None) -> Iterator[exp.Expr]:
    if isinstance(node, exp.Paren):
        yield from _conjuncts(node.this)
    elif isinstance(node, exp.And):
        yield from _conjuncts(node.this)
        yield from _conjuncts(node.expression)
    elif node is not None:
        yield node
