"""An expression's term: its canonical form, with every column it reads resolved.

The canonical form drops parentheses (the tree has them), and what means the same as ``operators``
and ``spelling`` know is one. Everything else stands as it was parsed: what is not understood is not
equal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum

from sqlglot import exp

from dbt_orchestration.changes.columns.names import Names, Opaque, called
from dbt_orchestration.changes.columns.operators import HOLE, Operators, Writer
from dbt_orchestration.changes.columns.scope import Scope
from dbt_orchestration.changes.columns.spelling import canonical_type
from dbt_orchestration.changes.terms import Relation, Term

_QUERIES = (exp.Select, exp.Union, exp.Intersect, exp.Except, exp.Subquery)
# What names a field of a struct, whose case is part of the value: JSON of it shows it, and in
# Snowflake's objects it tells keys apart.
_FIELDS = (exp.PropertyEQ, exp.ColumnDef)
_NOT_SCALAR: Mapping[type[exp.Expr], str] = {
    exp.Columns: "COLUMNS() in an expression",
    exp.Command: "a command in an expression",
    exp.From: "FROM in an expression",
    exp.Join: "a join in an expression",
    exp.Parameter: "a column by its position, or a variable",
    exp.PositionalColumn: "a column by its position",
    exp.Table: "a table in an expression",
    exp.With: "WITH in an expression",
}
_COALESCE = ("IFNULL", "NVL")
_AROUND_FUNCTION = (exp.Filter, exp.IgnoreNulls, exp.RespectNulls, exp.WithinGroup)
# Functions that yield rows in the SELECT list, and are not sqlglot's UDTF.
_ROWS_BY_NAME = frozenset({"GENERATE_SUBSCRIPTS", "UNNEST", "FLATTEN", "UNPIVOT_LIST"})
# Where a function that sqlglot does not know can only be scalar or an aggregate.
_NO_UNKNOWN_ROW_FUNCTIONS = frozenset({"DuckDB", "Snowflake"})

Subquery = Callable[[exp.Expr, Scope], Relation]


class Expressions(Operators):
    """Makes terms of expressions; ``subquery`` analyses a query inside one."""

    def __init__(self, names: Names, dialect: str, subquery: Subquery) -> None:
        self._names = names
        self._subquery = subquery
        self._dialect = dialect
        self._unknown_yields_rows = dialect not in _NO_UNKNOWN_ROW_FUNCTIONS
        self._writers: dict[type[exp.Expr], Writer] = {
            exp.Column: self._column,
            exp.Comprehension: self._comprehension,
            exp.DataType: self._type,
            exp.Exists: self._exists,
            exp.Identifier: self._identifier,
            exp.Lambda: self._lambda,
            exp.Literal: self._literal,
            exp.Paren: self._paren,
            exp.Star: self._star,
            exp.Struct: self._struct,
            exp.Window: self._window,
            **self._operators(),
            **dict.fromkeys(_QUERIES, self._query),
            **dict.fromkeys(_NOT_SCALAR, self._not_scalar),
        }

    def term(self, expression: exp.Expr, scope: Scope) -> Term:
        """Raises:
        Opaque: a name cannot be resolved, or a construct is not understood.
        """
        parts: list[str] = []
        args: list[Term] = []
        self._write(expression, scope, parts, args)
        if len(args) == 1 and parts == [HOLE]:
            return args[0]
        return Term("".join(parts), args)

    def content(self, node: exp.Expr, scope: Scope) -> Term:
        """A function with its arguments, whatever it stands for."""
        parts: list[str] = []
        args: list[Term] = []
        self._generic(node, scope, parts, args)
        return Term("".join(parts), args)

    def _write(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        writer = self._writers.get(type(node))
        if writer is None:
            self._note(node, scope)
            writer = self._generic
        writer(node, scope, parts, args)

    def _paren(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        self._write(node.this, scope, parts, args)

    def _literal(self, node: exp.Expr, _: Scope, parts: list[str], __: list[Term]) -> None:
        counts = isinstance(node.parent, exp.Count)
        # count(1) counts rows, as count(*) does.
        parts.append("*" if counts else f"{'s' if node.args['is_string'] else 'n'}{node.this!r}")

    def _type(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        if isinstance(node, exp.DataType):
            node = canonical_type(node, self._dialect)
        self._generic(node, scope, parts, args)

    def _identifier(self, node: exp.Expr, _: Scope, parts: list[str], __: list[Term]) -> None:
        field = isinstance(node.parent, _FIELDS) or (
            isinstance(node.parent, exp.Dot) and node.arg_key == "expression"
        )
        parts.append(f"i{node.this if field else self._names.of(node)!r}")

    def _query(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        relation = self._subquery(node, scope)
        rest = () if relation.rest is None else (relation.rest,)
        parts.append(HOLE)
        args.append(Term("query", (relation.rows, *(t for _, t in relation.columns), *rest)))

    def _exists(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        if not isinstance(node.this, _QUERIES):
            self._generic(node, scope, parts, args)
            return
        parts.append(HOLE)
        args.append(Term("exists", (self._subquery(node.this, scope).rows,)))

    def _not_scalar(self, node: exp.Expr, *_: object) -> None:
        raise Opaque(_NOT_SCALAR[type(node)])

    def _generic(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        name = called(node)
        if name in _COALESCE and len(node.args.get("expressions") or ()) == 1:
            name = "COALESCE"
        parts.append(f"{type(node).__name__}:{name}(")
        for key, value in node.args.items():
            if value is None or value is False or value == []:
                continue
            parts.append(f"{key}=")
            for item in value if isinstance(value, list) else (value,):
                if isinstance(item, exp.Expr):
                    self._write(item, scope, parts, args)
                elif isinstance(item, Enum):
                    parts.append(repr(item.value))
                elif isinstance(node, exp.Anonymous):
                    parts.append(self._function_name(item))
                else:
                    parts.append(repr(item))
                parts.append(",")
        parts.append(")")

    def _function_name(self, name: object) -> str:
        # Elsewhere functions' names may be sensitive to case.
        return str(name) if self._unknown_yields_rows else str(name).upper()

    def _column(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        if isinstance(node.this, exp.Star):
            source = scope.source((self._names.of(node.args["table"]),))
            if source is None:
                raise Opaque(f"{node.sql()}: no such source")
            parts.append(HOLE)
            args.append(Term("everything", source.record()))
            return
        if node.args.get("join_mark"):
            raise Opaque("an outer join written (+)")
        path = [self._names.of(node.args.get(k)) for k in ("catalog", "db", "table")]
        path = [name for name in path if name]
        name = self._names.of(node.this)
        if not path and name in scope.bound:
            parts.append(f"bound {name!r}")
            return
        term, fields = self._resolve((*path, name), scope)
        parts.append(f"Field({fields!r},?)" if fields else "?")
        args.append(term)

    def _resolve(self, path: tuple[str, ...], scope: Scope) -> tuple[Term, tuple[str, ...]]:
        """The term of ``a.b.c``: tables first, then structs, as engines do."""
        for length in range(len(path) - 1, 0, -1):
            source = scope.source(path[:length])
            if source is not None and (found := source.column(path[length])):
                return found, path[length + 1 :]
        if (found := scope.find(path[0])) is not None:
            return found, path[1:]
        if len(path) == 1 and (source := scope.source(path)):
            return Term("record", source.record()), ()
        raise Opaque(f"where the column {'.'.join(path)} comes from")

    def _star(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        if isinstance(node.parent, exp.Count) and not any(node.args.values()):
            parts.append("*")
            return
        if any(node.args.values()) or not isinstance(node.parent, exp.Func):
            raise Opaque("a star inside an expression")
        parts.append(HOLE)
        args.append(scope.everything())

    def _window(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        node = self._spelled_out(node, scope)
        function = node.this
        while isinstance(function, _AROUND_FUNCTION):
            function = function.this
        # sum(x) over () makes no aggregate of the SELECT; sum(sum(x)) over () does.
        scope.windowed.add(id(function))
        self._generic(node, scope, parts, args)

    def _spelled_out(self, node: exp.Expr, scope: Scope) -> exp.Expr:
        """``over w`` and ``over (w order by x)`` with the window's definition in its place."""
        while (named := node.args.get("alias")) is not None:
            definition = scope.windows.get(self._names.of(named))
            if definition is None:
                raise Opaque(f"where the window {named.name} is defined")
            own = {k: v for k, v in node.args.items() if v and k != "alias"}
            node = exp.Window(**{**definition.args, "over": None, **own})
            node.set("alias", definition.args.get("alias"))
        return node

    def _comprehension(
        self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]
    ) -> None:
        names = {self._names.of(node.expression)} - scope.bound
        if position := node.args.get("position"):
            names.add(self._names.of(position))
        parts.append("For(")
        self._write(node.args["iterator"], scope, parts, args)
        scope.bound |= names
        try:
            parts.append(f",{sorted(names)!r},")
            self._write(node.this, scope, parts, args)
            if condition := node.args.get("condition"):
                parts.append(",if,")
                self._write(condition, scope, parts, args)
        finally:
            scope.bound -= names
        parts.append(")")

    def _struct(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        self._generic(node, scope, parts, args)
        # struct_pack(a) names a field after the column.
        paths = (field.parts for field in node.expressions if isinstance(field, exp.Column))
        parts += [scope.written(tuple(map(self._names.of, path))) for path in paths]

    def _lambda(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        self._generic(node, scope, parts, args)
        if self._dialect == "DuckDB" and not node.args.get("colon"):
            # f(payload -> 'key') reads a column. sqlglot takes it for a function's parameter.
            for name in node.expressions:
                if term := scope.find(self._names.of(name)):
                    parts.append(HOLE)
                    args.append(term)

    def _refuse_outer_aggregate(self, node: exp.Expr, scope: Scope) -> None:
        """An aggregate of only the outer query's columns aggregates the outer query."""
        columns = [c for c in node.find_all(exp.Column) if not isinstance(c.this, exp.Star)]
        if scope.outer is not None and columns:
            terms = [self.term(column, scope) for column in columns]
            if all(term.op in ("outer", "either") for term in terms):
                raise Opaque("an aggregate of the columns of the query around")

    def _note(self, node: exp.Expr, scope: Scope) -> None:
        """Record what decides how many rows the SELECT around has."""
        if id(node) in scope.windowed:
            return
        if isinstance(node, exp.AggFunc):
            self._refuse_outer_aggregate(node, scope)
            scope.aggregates = True
        elif isinstance(node, exp.Anonymous):
            name = node.name.upper()
            scope.unknown_functions.add(name)
            if name in _ROWS_BY_NAME or self._unknown_yields_rows:
                scope.row_functions.append(self.content(node, scope))
        elif isinstance(node, exp.UDTF) or called(node) in _ROWS_BY_NAME:
            scope.row_functions.append(self.content(node, scope))
