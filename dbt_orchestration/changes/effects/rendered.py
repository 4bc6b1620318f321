"""What Jinja may render and send to the warehouse, without running it.

Each condition is taken both ways, each loop any number of times, and each name holds any of the
values that the macro ever gives it. What cannot be followed is a gap in a value; where it could be
a statement that nobody sees, everything is unclear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from jinja2 import nodes

from dbt_orchestration.changes.effects.library import Library, Scope, parsed
from dbt_orchestration.changes.effects.texts import (
    GAP,
    THIS,
    Again,
    Either,
    Statement,
    Text,
    Unclear,
    statements,
)
from dbt_orchestration.changes.effects.values import (
    Arguments,
    dispatched,
    formatted,
    gap,
    let_go,
    position,
    short,
)

# What dbt offers to Jinja and what sends nothing to the warehouse. These render nothing.
_SILENT = frozenset({"log", "print", "debug", "store_result", "store_raw_result", "set_sql_header"})
_PURE = frozenset(
    {"config", "var", "has_var", "env_var", "load_result", "load_agate_table", "doc", "range"}
    | {"dict", "lipsum", "cycler", "joiner", "namespace", "zip", "zip_strict", "set", "set_strict"}
    | {"tojson", "fromjson", "toyaml", "fromyaml", "local_md5", "diff_of_two_dicts", "metric"}
    | {"function", "caller", "validate_any"}
)
_REFERENCES = frozenset({"ref", "source"})
# Methods of the adapter that change no relation.
_READING = frozenset(
    {"get_relation", "get_columns_in_relation", "check_schema_exists", "list_relations", "quote"}
    | {"list_relations_without_caching", "get_missing_columns", "quote_as_configured", "type"}
    | {"quote_seed_column", "standardize_grants_dict", "already_exists", "get_columns_in_table"}
    | {"get_column_schema_from_query", "behavior", "build_catalog_relation", "list_schemas"}
    | {"cache_added", "cache_dropped", "cache_renamed", "create_schema", "get_partitions_metadata"}
    | {"valid_snapshot_target", "get_incremental_strategy_macro"}
)
# Their value may be called, or called with, where nobody sees it.
_HANDED_ON = frozenset(
    {"adapter", "context", "builtins", "render", "run_query", "statement", "submit_python_job"}
    | {"write", "self"}
)
_SAME_TEXT = frozenset({"trim", "upper", "lower", "string", "safe", "as_text", "strip"})


def sent_by_hook(library: Library, template: str, package: str) -> frozenset[Statement]:
    """The statements of a hook: what it renders, and what its macros send.

    Args:
        package: the package of the node whose hook it is.

    Raises:
        Unclear: it cannot be told.
    """
    reader = _Reader(library)
    text = reader.template(template, package)
    return reader.found | statements(text, selects_write=library.selects_write)


def sent_by_macro(
    library: Library, macro: str, package: str, *, renders: bool
) -> frozenset[Statement]:
    """The statements a macro sends, whatever it is called with.

    Args:
        package: the package of the node for which it is called.
        renders: what it renders is sent, too.

    Raises:
        Unclear: it cannot be told.
    """
    reader = _Reader(library)
    text = reader.macro(macro, {}, package)
    if not renders:
        return reader.found
    return reader.found | statements(text, selects_write=library.selects_write)


class _Reader:
    """Attributes:
    found: statements that macros send.
    """

    def __init__(self, library: Library) -> None:
        self.found: frozenset[Statement] = frozenset()
        self._library = library
        self._stack: list[str] = []
        self._blocks: dict[type[nodes.Node], Callable[[Any, Scope], Text]] = {
            nodes.Output: lambda node, scope: self._texts(node.nodes, scope),
            nodes.If: self._if,
            nodes.For: self._for,
            nodes.CallBlock: self._call_block,
            nodes.Assign: lambda node, scope: self._silent(self._value(node.node, scope)),
            nodes.AssignBlock: lambda node, scope: self._silent(self._body(node.body, scope)),
            nodes.ExprStmt: lambda node, scope: self._silent(self._value(node.node, scope)),
            nodes.Continue: lambda _node, _scope: "",
            nodes.Break: lambda _node, _scope: "",
        }
        self._values: dict[type[nodes.Node], Callable[[Any, Scope], Text]] = {
            nodes.TemplateData: lambda node, _scope: str(node.data),
            nodes.Const: lambda node, _: node.value if isinstance(node.value, str) else GAP,
            nodes.Name: lambda node, scope: self._name(node.name, scope),
            nodes.Concat: lambda node, scope: self._texts(node.nodes, scope),
            nodes.Add: lambda node, scope: self._texts((node.left, node.right), scope),
            nodes.Or: lambda node, scope: Either(self._texts((node.left, node.right), scope)),
            nodes.CondExpr: self._condition,
            nodes.Filter: self._filter,
            nodes.Getattr: self._attribute,
            nodes.Getitem: self._attribute,
            nodes.Call: self._call,
        }

    def template(self, source: str, package: str) -> Text:
        body = parsed(source).body
        return self._body(body, Scope(package, package, body, {}))

    def macro(self, unique_id: str, arguments: Arguments, package: str) -> Text:
        """What a macro renders or returns. No arguments at all are any arguments."""
        known = self._library.known
        key = unique_id, package, tuple(sorted((str(k), v) for k, v in arguments.items()))
        if key not in known:
            if unique_id in self._stack:
                raise Unclear(f"{unique_id} calls itself")
            before, self.found = self.found, frozenset()
            self._stack.append(unique_id)
            value = self._macro(self._library.macros[unique_id], arguments, package)
            self._stack.pop()
            known[key] = value, self.found
            self.found = before
        value, found = known[key]
        self.found |= found
        return value

    def _macro(self, macro: Mapping[str, Any], arguments: Arguments, package: str) -> Text:
        own = str(macro["package_name"])
        if own in self._library.trusted:
            for unique_id in self._library.overriding(own):
                self.macro(unique_id, {}, package)
            return ""
        defined = [n for n in parsed(macro["macro_sql"]).body if isinstance(n, nodes.Macro)]
        if len(defined) != 1:
            raise Unclear(f"{macro['name']} is no plain macro")
        [node] = defined
        scope = Scope(package, own, node.body, {"varargs": GAP, "kwargs": GAP})
        without_default = len(node.args) - len(node.defaults)
        for i, argument in enumerate(node.args):
            value = arguments.get(argument.name, arguments.get(i))
            if value is None and arguments and i >= without_default:
                value = self._value(node.defaults[i - without_default], scope)
            scope.bound[argument.name] = GAP if value is None else value
        text = self._body(node.body, scope)
        return short(Either((*scope.returned, text)) if scope.returned else text)

    # Blocks

    def _body(self, body: Iterable[nodes.Node], scope: Scope) -> Text:
        return tuple(self._block(node, scope) for node in body)

    def _block(self, node: nodes.Node, scope: Scope) -> Text:
        read = self._blocks.get(type(node))
        if read is None:
            raise Unclear(f"a block of Jinja: {type(node).__name__}")
        return read(node, scope)

    def _silent(self, _: Text) -> Text:
        return ""

    def _if(self, node: nodes.If, scope: Scope) -> Text:
        let_go(self._value(node.test, scope))
        others = [self._block(part, scope) for part in node.elif_]
        return Either((self._body(node.body, scope), *others, self._body(node.else_, scope)))

    def _for(self, node: nodes.For, scope: Scope) -> Text:
        for part in filter(None, (node.iter, node.test)):
            self._value(part, scope)
        return (Again(self._body(node.body, scope)), self._body(node.else_, scope))

    def _call_block(self, node: nodes.CallBlock, scope: Scope) -> Text:
        inside = self._body(node.body, scope)
        callee = node.call.node
        if isinstance(callee, nodes.Name) and callee.name in ("statement", "set_sql_header"):
            self._arguments(node.call, scope)
            if callee.name == "statement":
                self._send(inside)
            return ""
        let_go(inside)
        return self._value(node.call, scope)

    def _send(self, text: Text) -> None:
        self.found |= statements(text, selects_write=self._library.selects_write)

    # Values

    def _value(self, node: nodes.Node, scope: Scope) -> Text:
        if (read := self._values.get(type(node))) is not None:
            return read(node, scope)
        for part in node.iter_child_nodes():
            let_go(self._value(part, scope))
        return GAP

    def _texts(self, parts: Iterable[nodes.Node], scope: Scope) -> tuple[Text, ...]:
        return tuple(self._value(part, scope) for part in parts)

    def _condition(self, node: nodes.CondExpr, scope: Scope) -> Text:
        let_go(self._value(node.test, scope))
        other = self._value(node.expr2, scope) if node.expr2 else ""
        return Either((self._value(node.expr1, scope), other))

    def _filter(self, node: nodes.Filter, scope: Scope) -> Text:
        value = self._value(node.node, scope) if node.node else GAP
        rest = [self._value(part, scope) for part in node.iter_child_nodes(("node",))]
        if node.name in ("default", "d") and rest:
            return Either((value, rest[0]))
        if node.name in _SAME_TEXT:
            return value
        for part in (value, *rest):
            let_go(part)
        return GAP

    def _name(self, name: str, scope: Scope) -> Text:
        if scope.has(name):
            return self._given(name, scope)
        if name in _HANDED_ON:
            raise Unclear(f"{name} is handed on")
        if unique_id := self._library.find(name, scope):
            # Somebody may call it.
            self.macro(unique_id, {}, scope.package)
        return THIS if name == "this" else GAP

    def _given(self, name: str, scope: Scope) -> Text:
        if name in scope.read:
            return scope.read[name]
        if name in scope.reading:
            scope.circles += 1
            return GAP
        circles = scope.circles
        scope.reading.add(name)
        options = [scope.bound[name]] if name in scope.bound else []
        for given in scope.given.get(name, ()):
            if isinstance(given, nodes.AssignBlock):
                options.append(self._body(given.body, scope))
            elif isinstance(given, nodes.Node):
                options.append(self._value(given, scope))
            else:
                options.append(given)
        scope.reading.remove(name)
        value = short(options[0] if len(options) == 1 else Either(tuple(options)))
        if scope.circles == circles:
            scope.read[name] = value
        return value

    def _attribute(self, node: nodes.Getattr | nodes.Getitem, scope: Scope) -> Text:
        base, name = node.node, getattr(node, "attr", "")
        if isinstance(base, nodes.Name) and not scope.has(base.name):
            if base.name == "adapter" and name in _READING:
                return GAP
            if base.name in self._library.packages:
                self._in_package(base.name, name, {}, scope)
                return GAP
        for part in node.iter_child_nodes():
            let_go(self._value(part, scope))
        return GAP

    # Calls

    def _call(self, node: nodes.Call, scope: Scope) -> Text:
        callee, arguments = node.node, self._arguments(node, scope)
        if isinstance(callee, nodes.Name):
            return self._call_name(callee.name, arguments, scope)
        if isinstance(callee, nodes.Getattr):
            return self._call_attribute(callee, arguments, scope)
        if isinstance(callee, nodes.Call) and (name := dispatched(callee, scope)):
            found = self._library.dispatched(name)
            return Either(tuple(self.macro(u, arguments, scope.package) for u in found))
        let_go(self._value(callee, scope))
        return gap(arguments)

    def _arguments(self, node: nodes.Call, scope: Scope) -> Arguments:
        arguments: dict[str | int, Text] = {
            i: short(self._value(argument, scope)) for i, argument in enumerate(node.args)
        }
        for keyword in node.kwargs:
            arguments[keyword.key] = short(self._value(keyword.value, scope))
        more = [part for part in (node.dyn_args, node.dyn_kwargs) if part is not None]
        for part in (*self._texts(more, scope), *(arguments.values() if more else ())):
            let_go(part)
        # Called with nothing is not called with anything.
        return {} if more else arguments or {-1: ""}

    def _call_name(self, name: str, arguments: Arguments, scope: Scope) -> Text:
        if scope.has(name):
            # What it holds was named elsewhere, and read there.
            return gap(arguments)
        found = self._library.find(name, scope)
        own = found is not None and not self._library.is_internal(found)
        if name == "return":
            scope.returned.append(arguments.get(0, GAP))
        elif name == "run_query" and not own:
            self._send(arguments.get(0, arguments.get("sql", GAP)))
            return GAP
        elif name in _REFERENCES and not own:
            return [text for key, text in sorted(arguments.items(), key=position)][-1]
        elif name not in _SILENT or own:
            if found:
                return self.macro(found, arguments, scope.package)
            if name not in _PURE:
                raise Unclear(f"{name} is not known")
            return gap(arguments)
        return ""

    def _call_attribute(self, callee: nodes.Getattr, arguments: Arguments, scope: Scope) -> Text:
        base, name = callee.node, callee.attr
        if isinstance(base, nodes.Name) and not scope.has(base.name):
            if base.name == "adapter" and name == "execute":
                self._send(arguments.get(0, arguments.get("sql", GAP)))
                return GAP
            if base.name == "adapter" and name in _READING:
                gap(arguments)
                return arguments.get("identifier", arguments.get(2, GAP))
            if base.name == "builtins" and name in _REFERENCES:
                return self._call_name(name, arguments, scope)
            if base.name in self._library.packages:
                return self._in_package(base.name, name, arguments, scope)
            if base.name == "exceptions":
                return ""
        return self._method(base, name, arguments, scope)

    def _method(self, base: nodes.Node, name: str, arguments: Arguments, scope: Scope) -> Text:
        value = self._value(base, scope)
        unknown = gap(arguments)
        if name == "format":
            return formatted(value)
        if name == "create":
            return arguments.get("identifier", unknown)
        if name in _SAME_TEXT:
            return value
        let_go(value)
        return unknown

    def _in_package(self, package: str, name: str, arguments: Arguments, scope: Scope) -> Text:
        found = self._library.find_in(package, name)
        if found is None:
            raise Unclear(f"{package}.{name} is not known")
        if name == "run_query" and self._library.is_internal(found):
            self._send(arguments.get(0, GAP))
            return GAP
        return self.macro(found, arguments, scope.package)
