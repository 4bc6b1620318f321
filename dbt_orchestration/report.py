"""A plan for people: a table for a terminal, markdown for a pull request."""

from __future__ import annotations

from collections.abc import Iterable

from rich.markup import escape
from rich.table import Table

from dbt_orchestration.changes.plan import Change, ChangedTest, DueNode, Plan

ACTIONS = {
    "build": "build",
    "partitions": "rebuild partitions",
    "full_refresh": "full refresh",
}
_COLOURS = {"build": "green", "partitions": "yellow", "full_refresh": "red"}
_KINDS = {
    "new": "new",
    "renamed": "renamed from {}",
    "rows": "rows",
    "column_added": "+ {}",
    "column_removed": "- {}",
    "column_retyped": "{} (type)",
    "column_changed": "{}",
    "columns_reordered": "order of columns",
    "columns": "columns",
    "names": "case of names",
    "order": "order of rows",
    "partitions": "partitions {}",
    "config": "config {}",
    "name": "moved from {}",
}
# A table is for reading: more than this in one cell is cut, and JSON has it all.
_SHOWN = 4


def describe(changes: Iterable[Change]) -> str:
    """``rows, + late_share, - old_name``"""
    words = [_KINDS[change.kind].format(change.what) for change in changes]
    more = len(words) - _SHOWN
    return ", ".join(words[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def because(node: DueNode | ChangedTest) -> list[str]:
    """The chains of a node, without its own name: ``int_flights.late ← macro x (macros/x.sql)``"""
    lines = [" ← ".join(chain[1:]) for chain in node.reasons]
    more = len(lines) - _SHOWN
    note = [node.note] if isinstance(node, DueNode) and node.note else []
    return lines[:_SHOWN] + ([f"and {more} more"] if more > 0 else []) + note


def table(plan: Plan) -> Table:
    """The nodes and tests that are due, as a table."""
    shown = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("node", "do", "what changed", "why"):
        shown.add_column(heading, overflow="fold")
    for node in plan.due:
        colour = _COLOURS[node.action]
        shown.add_row(
            f"[bold]{escape(node.name)}[/] [dim]{node.resource_type}[/]",
            f"[{colour}]{ACTIONS[node.action]}[/]",
            escape(describe(node.changes)),
            escape("\n".join(because(node))),
        )
    for check in plan.checks:
        shown.add_row(
            f"{escape(check.name)} [dim]test[/]", "test", "", escape("\n".join(because(check)))
        )
    return shown


def summary(plan: Plan) -> list[str]:
    """What is not in the table, a line each."""
    due = f"{len(plan.due)} of {len(plan.due) + plan.unchanged} nodes due"
    checks = f", {len(plan.checks)} tests" if plan.checks else ""
    lines = [f"{due}{checks}, {plan.unchanged} left alone."]
    for gone in plan.deleted:
        left = f"; {gone.relation} stays in the warehouse" if gone.relation else ""
        lines.append(f"deleted: {gone.name}{left}")
    opaque = {node.unique_id for node in plan.due} & {unique_id for unique_id, _ in plan.opaque}
    lines += [f"not analysed by column: {u} ({why})" for u, why in plan.opaque if u in opaque]
    return [*lines, *plan.notes]


def markdown(plan: Plan) -> str:
    """A comment for a pull request."""
    what = f"`{(plan.base or '')[:10]}` → `{plan.head[:10] if plan.head else 'working tree'}`"
    if not plan:
        return "\n".join([f"### Nothing to build ({what})", "", *_list(summary(plan))])
    lines = [
        f"### {len(plan.due)} of {len(plan.due) + plan.unchanged} nodes to build ({what})",
        "",
        "| Node | Do | What changed | Why |",
        "|---|---|---|---|",
    ]
    for node in plan.due:
        cells = (
            f"`{node.name}`",
            ACTIONS[node.action],
            describe(node.changes),
            "<br>".join(because(node)),
        )
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    for check in plan.checks:
        reasons = "<br>".join(because(check))
        lines.append(f"| `{_cell(check.name)}` | test | | {_cell(reasons)} |")
    return "\n".join([*lines, "", *_list(summary(plan))])


def _list(lines: Iterable[str]) -> list[str]:
    return [f"- {_cell(line)}" for line in lines]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
