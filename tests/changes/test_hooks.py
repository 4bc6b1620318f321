"""What hooks send to the warehouse, as far as their text tells: fixtures/hooks.yml.

A case in that file is a hook, the macros there are, and what is said of it:

    - case: what it shows
      hook: "{{ tagged() }}"
      macros:                   # by package; dbt's own are there as well
        shop: "{% macro tagged() %}…{% endmacro %}"
      sends: [nothing, access, writes x, unknown]      # all of it, in any order

``unclear`` is said of a hook of which it cannot be told at all; it counts as one that may write
anything. ``writes this`` is the node's own relation.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from dbt_orchestration.changes.effects.library import Library
from dbt_orchestration.changes.effects.rendered import sent_by_hook
from dbt_orchestration.changes.effects.texts import THIS, Statement, Unclear, statements

FIXTURES = Path(__file__).parent / "fixtures"
CASES: list[dict[str, Any]] = yaml.safe_load((FIXTURES / "hooks.yml").read_text())
_MACRO = re.compile(r"{%-?\s*macro\s+(\w+)\(.*?{%-?\s*endmacro\s*-?%}", re.DOTALL)
_DBT = """\
{% macro statement(name=None) %}{% do adapter.execute(caller()) %}{% endmacro %}
{% macro run_query(sql) %}{% call statement() %}{{ sql }}{% endcall %}{% endmacro %}
{% macro get_current_query_tag() %}
  {{ return(run_query("show parameters like 'query_tag' in session").rows[0]['value']) }}
{% endmacro %}
"""


def library(macros: dict[str, str]) -> Library:
    """The macros of a case, by package."""
    nodes = {
        f"macro.{package}.{found[1]}": {
            "name": found[1],
            "package_name": package,
            "macro_sql": found[0],
        }
        for package, text in {"dbt": _DBT, **macros}.items()
        for found in _MACRO.finditer(text)
    }
    return Library(nodes, "shop", {"dbt", "dbt_snowflake"}, {"elementary"})


def said(statement: Statement) -> str:
    name = "this" if statement.name == THIS else statement.name
    return f"{statement.effect.name.lower()} {name}".strip()


@pytest.mark.parametrize("case", CASES, ids=[case["case"] for case in CASES])
def test_what_a_hook_sends(case: dict[str, Any]) -> None:
    macros = library(case.get("macros", {}))
    if case["sends"] == "unclear":
        with pytest.raises(Unclear):
            sent_by_hook(macros, case["hook"], "shop")
        return
    assert sorted(map(said, sent_by_hook(macros, case["hook"], "shop"))) == sorted(case["sends"])


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case["case"] for case in CASES]
    assert len(set(names)) == len(names)


def test_a_select_may_write_where_functions_do() -> None:
    [found] = statements("select clean_up()", selects_write=True)
    assert said(found) == "unknown"
