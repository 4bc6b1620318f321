"""Operators, conditions and CASE in one form each, whatever the order of their operands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from sqlglot import exp

from dbt_orchestration.changes.columns.names import called
from dbt_orchestration.changes.columns.scope import Scope
from dbt_orchestration.changes.columns.spelling import bounds, is_exact, is_list_in_any_order
from dbt_orchestration.changes.terms import Term

# In a term's text, where one of its arguments stands.
HOLE = "?"
_SYMMETRIC = (exp.EQ, exp.NEQ, exp.NullSafeEQ, exp.NullSafeNEQ, exp.Mul)
# a > b is b < a.
_ORDERED: Mapping[type[exp.Expr], tuple[str, tuple[str, str]]] = {
    exp.LT: ("LT", ("this", "expression")),
    exp.LTE: ("LTE", ("this", "expression")),
    exp.GT: ("LT", ("expression", "this")),
    exp.GTE: ("LTE", ("expression", "this")),
}

Writer = Callable[[exp.Expr, Scope, list[str], list[Term]], None]


class Operators(ABC):
    """Writes the terms of operators.

    It orders the operands of AND, OR, =, <>, *, turns > round, and leaves out conditions that hold
    of every row.
    """

    @abstractmethod
    def term(self, expression: exp.Expr, scope: Scope) -> Term:
        """The term of any expression."""

    @abstractmethod
    def _write(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None: ...

    @abstractmethod
    def _generic(
        self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]
    ) -> None: ...

    def _operators(self) -> dict[type[exp.Expr], Writer]:
        return {
            exp.Add: self._sum,
            exp.Between: self._between,
            exp.Case: self._case,
            exp.If: self._if,
            exp.In: self._in,
            **dict.fromkeys((exp.And, exp.Or), self._connector),
            **dict.fromkeys(_SYMMETRIC, self._symmetric),
            **dict.fromkeys(_ORDERED, self._ordered),
        }

    def conjuncts(self, condition: exp.Expr, scope: Scope) -> list[Term]:
        """The terms whose AND is ``condition``, without what holds of every row."""
        parts = _flatten(condition, exp.And)
        return [self.term(part, scope) for part in parts if not _always_holds(part)]

    def _connector(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        operands = [self.term(part, scope) for part in _flatten(node, type(node))]
        parts.append(HOLE)
        args.append(Term(type(node).__name__, operands, unordered=True))

    def _symmetric(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        operands = [self.term(node.args[key], scope) for key in ("this", "expression")]
        parts.append(HOLE)
        args.append(Term(type(node).__name__, operands, unordered=True))

    def _sum(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        exact = is_exact(node.this) or is_exact(node.expression)
        (self._symmetric if exact else self._generic)(node, scope, parts, args)

    def _between(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        if both := bounds(node):
            parts.append(HOLE)
            terms = [self.term(bound, scope) for bound in both]
            args.append(Term("And", terms, unordered=True))
        else:
            self._generic(node, scope, parts, args)

    def _in(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        if isinstance(node, exp.In) and is_list_in_any_order(node):
            parts.append(HOLE)
            items = Term("{}", [self.term(i, scope) for i in node.expressions], unordered=True)
            args.append(Term("In", (self.term(node.this, scope), items)))
        else:
            self._generic(node, scope, parts, args)

    def _case(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        if node.this is not None:
            self._generic(node, scope, parts, args)
            return
        choices = [(choice.this, choice.args["true"]) for choice in node.args["ifs"]]
        self._choices(choices, node.args.get("default"), scope, parts, args)

    def _if(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        if called(node) in ("", "IF", "IFF"):
            choice = node.this, node.args["true"]
            self._choices([choice], node.args.get("false"), scope, parts, args)
        else:
            self._generic(node, scope, parts, args)

    def _choices(
        self,
        choices: list[tuple[exp.Expr, exp.Expr]],
        default: exp.Expr | None,
        scope: Scope,
        parts: list[str],
        args: list[Term],
    ) -> None:
        """CASE without ELSE gives NULL, and so do others that say so."""
        parts.append("Case(")
        for condition, result in choices:
            self._write(condition, scope, parts, args)
            parts.append(",")
            self._write(result, scope, parts, args)
            parts.append(";")
        if default is not None and not isinstance(default, exp.Null):
            self._write(default, scope, parts, args)
        parts.append(")")

    def _ordered(self, node: exp.Expr, scope: Scope, parts: list[str], args: list[Term]) -> None:
        operator, sides = _ORDERED[type(node)]
        parts.append(HOLE)
        args.append(Term(operator, [self.term(node.args[side], scope) for side in sides]))


def _always_holds(condition: exp.Expr) -> bool:
    """``true`` and ``1 = 1``, which people put first so that every other line begins with AND."""
    if isinstance(condition, exp.EQ):
        sides = condition.this, condition.expression
        return isinstance(sides[0], exp.Literal) and sides[0] == sides[1]
    return isinstance(condition, exp.Boolean) and bool(condition.this)


def _flatten(node: exp.Expr, kind: type[exp.Expr]) -> list[exp.Expr]:
    flat: list[exp.Expr] = []
    waiting = [node]
    while waiting:
        part = waiting.pop()
        while isinstance(part, exp.Paren):
            part = part.this
        if isinstance(part, kind):
            waiting += [part.args["this"], part.args["expression"]]
        elif kind is exp.And and (both := bounds(part)):
            waiting += both
        else:
            flat.append(part)
    return flat
