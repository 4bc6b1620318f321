"""Which nodes have a config that is made from the clock, or is another one at each parse.

``alias="t_" ~ run_started_at.strftime("%Y_%m")`` is what it was when dbt parsed the file. dbt, too,
evaluates it again only when it parses that file again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from dbt_orchestration.changes.macros import Reached
from dbt_orchestration.changes.project import Project
from dbt_orchestration.changes.text import Text, read_sql

# In Jinja without one of them, nothing is made from the clock.
WORDS = ("run_started_at", "invocation_id", "modules", "random")
_NAMES = {*WORDS, "now", "utcnow", "today", "localtime", "time"}
_WHY = frozenset({"reads the clock", "picks at random"})
_CONFIG = re.compile(r"\{\{-?\s*config\s*\(.*?\)\s*-?\}\}", re.DOTALL)
_SET = re.compile(r"\{%-?\s*set\b.*?%\}", re.DOTALL)
_SET_NAME = re.compile(r"\{%-?\s*set\s+(\w+)")
_LATER = frozenset({"description", "pre-hook", "post-hook", "pre_hook", "post_hook"})
_NAMING = ("generate_alias_name", "generate_schema_name", "generate_database_name")


def clock_configs(project: Project, properties: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The nodes whose config is made from the clock, by unique id.

    Args:
        properties: what YAML files say of nodes, by unique id.
    """
    naming = [
        macro_id
        for macro_id, macro in project.macros.nodes.items()
        if macro["name"] in _NAMING and macro["package_name"] not in project.macros.internal
    ]
    if _reads_it(project.macros.reached([], naming, package=project.name)):
        return sorted(project.built)
    return sorted(
        unique_id
        for unique_id in project.built
        if any(
            text.names and _reads_it(project.reached(project.nodes[unique_id], [text]))
            for text in _texts(project.nodes[unique_id], properties.get(unique_id) or {})
        )
    )


def _reads_it(reached: Reached) -> bool:
    return bool(_WHY & reached.asks) or "invocation_id" in reached.names


def _texts(node: Mapping[str, Any], properties: Mapping[str, Any]) -> Iterator[Text]:
    """The Jinja that a node's config is made of."""
    for written in (node.get("unrendered_config") or {}, properties):
        yield from (_named(text) for text in _strings(written) if "{" in text)
    code = str(node.get("raw_code") or "")
    calls = _CONFIG.findall(code)
    yield from map(_named, calls)
    names = {name for call in calls for name in read_sql(call).names}
    if names & set(_SET_NAME.findall(code)):
        yield from map(_named, _SET.findall(code))


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        # Hooks are rendered when they run, descriptions are documentation.
        yield from (text for key in value.keys() - _LATER for text in _strings(value[key]))
    elif isinstance(value, list):
        yield from (text for each in value for text in _strings(each))


def _named(source: str) -> Text:
    """A text with no names but of what it calls and of what tells the time.

    ``tags=["date"]`` does not call a macro called ``date``, nor does ``schema="x"`` one ``schema``.
    """
    text = read_sql(source)
    called = {name for name, _ in text.calls} - {"config"}
    return replace(text, names=frozenset(called | (text.names & _NAMES)), strings=frozenset())
