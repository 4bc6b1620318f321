"""An expression's term: its canonical form, with every column it reads resolved.

The canonical form drops parentheses (the tree has them), orders the operands of AND, OR, = and <>,
and turns > round. Everything else stands as it was parsed: what is not understood is not equal.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from sqlglot import exp

from dbt_orchestration.changes.columns.names import Names, Opaque, called
from dbt_orchestration.changes.columns.scope import Scope
from dbt_orchestration.changes.terms import Relation, Term

_SYMMETRIC = (exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ)
_TURNED = {exp.GT: "LT", exp.GTE: "LTE"}
_QUERY = (exp.Select, exp.SetOperation, exp.Subquery)
_NOT_SCALAR = (exp.Table, exp.From, exp.Join, exp.With, exp.Columns, exp.Command)
_AROUND_FUNCTION = (exp.Filter, exp.IgnoreNulls, exp.RespectNulls, exp.WithinGroup)
# Functions that yield rows in the SELECT list, and are not sqlglot's UDTF.
_ROWS_BY_NAME = frozenset({"GENERATE_SUBSCRIPTS", "UNNEST", "FLATTEN", "UNPIVOT_LIST"})
# Where a function that sqlglot does not know can only be scalar or an aggregate.
_NO_UNKNOWN_ROW_FUNCTIONS = frozenset({"DuckDB", "Snowflake"})

Subquery = Callable[[exp.Expression, Scope], Relation]


class Expressions:
    """Makes terms of expressions; ``subquery`` analyses a query inside one."""

    def __init__(self, names: Names, dialect: str, subquery: Subquery) -> None:
        self._names = names
        self._subquery = subquery
        self._unknown_yields_rows = dialect not in _NO_UNKNOWN_ROW_FUNCTIONS

    def term(self, expression: exp.Expression, scope: Scope) -> Term:
        """Raises:
        Opaque: a name cannot be resolved, or a construct is not understood.
        """
        parts: list[str] = []
        args: list[Term] = []
        self._write(expression, scope, parts, args)
        if len(args) == 1 and parts == ["?"]:
            return args[0]
        return Term("".join(parts), args)

    def conjuncts(self, condition: exp.Expression, scope: Scope) -> list[Term]:
        """The terms whose AND is ``condition``."""
        return [self.term(part, scope) for part in _flatten(condition, exp.And)]

    def _write(
        self, node: exp.Expression, scope: Scope, parts: list[str], args: list[Term]
    ) -> None:
        def hole(term: Term) -> None:
            parts.append("?")
            args.append(term)

        kind = type(node)
        if kind is exp.Column:
            self._column(node, scope, parts, args)
        elif kind is exp.Paren:
            self._write(node.this, scope, parts, args)
        elif kind is exp.Literal:
            parts.append(f"{'s' if node.args['is_string'] else 'n'}{node.this!r}")
        elif kind is exp.Identifier:
            parts.append(f"i{self._names.of(node)!r}")
        elif kind is exp.And or kind is exp.Or:
            operands = [self.term(part, scope) for part in _flatten(node, kind)]
            hole(Term(kind.__name__, operands, unordered=True))
        elif kind in _SYMMETRIC:
            operands = [self.term(node.this, scope), self.term(node.expression, scope)]
            hole(Term(kind.__name__, operands, unordered=True))
        elif kind in _TURNED:
            hole(
                Term(
                    f"{_TURNED[kind]}(??)",
                    (self.term(node.expression, scope), self.term(node.this, scope)),
                )
            )
        elif kind is exp.LT or kind is exp.LTE:
            hole(
                Term(
                    f"{kind.__name__}(??)",
                    (self.term(node.this, scope), self.term(node.expression, scope)),
                )
            )
        elif isinstance(node, _QUERY):
            relation = self._subquery(node, scope)
            rest = () if relation.rest is None else (relation.rest,)
            hole(Term("query", (relation.rows, *(term for _, term in relation.columns), *rest)))
        elif kind is exp.Exists and isinstance(node.this, _QUERY):
            hole(Term("exists", (self._subquery(node.this, scope).rows,)))
        elif kind is exp.Star:
            self._star(node, scope, parts, args)
        elif kind is exp.Window:
            self._window(node, scope, parts, args)
        elif kind is exp.Comprehension:
            self._comprehension(node, scope, parts, args)
        elif isinstance(node, _NOT_SCALAR):
            raise Opaque(f"{kind.__name__.lower()} inside an expression")
        else:
            self._note(node, scope)
            self._generic(node, scope, parts, args)

    def _generic(
        self, node: exp.Expression, scope: Scope, parts: list[str], args: list[Term]
    ) -> None:
        parts.append(f"{type(node).__name__}:{called(node)}(")
        for key, value in node.args.items():
            if value is None or value is False or value == []:
                continue
            parts.append(f"{key}=")
            for item in value if isinstance(value, list) else (value,):
                if isinstance(item, exp.Expression):
                    self._write(item, scope, parts, args)
                else:
                    parts.append(repr(item.value if isinstance(item, Enum) else item))
                parts.append(",")
        parts.append(")")

    def _column(self, node: exp.Column, scope: Scope, parts: list[str], args: list[Term]) -> None:
        if isinstance(node.this, exp.Star):
            source = scope.source((self._names.of(node.args["table"]),))
            if source is None:
                raise Opaque(f"{node.sql()}: no such source")
            parts.append("?")
            args.append(Term("everything", source.everything()))
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
            return Term("record", source.everything()), ()
        raise Opaque(f"where the column {'.'.join(path)} comes from")

    def _star(self, node: exp.Star, scope: Scope, parts: list[str], args: list[Term]) -> None:
        if isinstance(node.parent, exp.Count) and not any(node.args.values()):
            parts.append("*")
            return
        if any(node.args.values()):
            raise Opaque("a star with exceptions inside a function")
        parts.append("?")
        args.append(scope.everything())

    def _window(self, node: exp.Window, scope: Scope, parts: list[str], args: list[Term]) -> None:
        function = node.this
        while isinstance(function, _AROUND_FUNCTION):
            function = function.this
        # sum(x) over () makes no aggregate of the SELECT; what is inside, sum(sum(x)) over (), does.
        scope.windowed.add(id(function))
        if (named := node.args.get("alias")) is not None:
            definition = scope.windows.get(self._names.of(named))
            if definition is None:
                raise Opaque(f"where the window {named.name} is defined")
            shape = definition.copy()
            shape.set("this", exp.Null())
            self._window(shape, scope, parts, args)
            node = node.copy()
            node.set("alias", None)
            scope.windowed.add(id(node.this))
        self._generic(node, scope, parts, args)

    def _comprehension(
        self, node: exp.Comprehension, scope: Scope, parts: list[str], args: list[Term]
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

    def _note(self, node: exp.Expression, scope: Scope) -> None:
        """Record what decides how many rows the SELECT around has."""
        if id(node) in scope.windowed:
            return
        if isinstance(node, exp.AggFunc):
            scope.aggregates = True
        elif isinstance(node, exp.Anonymous):
            name = node.name.upper()
            scope.unknown_functions.add(name)
            if name in _ROWS_BY_NAME or self._unknown_yields_rows:
                scope.row_functions.append(self.content(node, scope))
        elif isinstance(node, exp.UDTF) or called(node) in _ROWS_BY_NAME:
            scope.row_functions.append(self.content(node, scope))

    def content(self, node: exp.Expression, scope: Scope) -> Term:
        parts: list[str] = []
        args: list[Term] = []
        self._generic(node, scope, parts, args)
        return Term("".join(parts), args)


def _flatten(node: exp.Expression, kind: type[exp.Expression]) -> list[exp.Expression]:
    flat: list[exp.Expression] = []
    waiting = [node]
    while waiting:
        part = waiting.pop()
        while isinstance(part, exp.Paren):
            part = part.this
        if isinstance(part, kind):
            waiting += [part.args["this"], part.args["expression"]]
        else:
            flat.append(part)
    return flat
