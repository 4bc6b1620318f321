"""Private parts of dbt and Dagster are used in one room each; import-linter sees to the rest."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.conftest import REPOSITORY

PACKAGE = REPOSITORY / "dbt_orchestration"
INTERNALS = ("dagster_internals.py", "dbt/internals/")
# dbt documents dbtRunner and its exceptions; a component of dagster-dbt's is made to be subclassed.
PUBLIC = re.compile(
    r"dbt\.cli\.main$|dbt_common\.exceptions$|dbt\.adapters\.exceptions$"
    r"|dagster_dbt(\.(asset_utils|utils|dbt_project_manager))?$"
    r"|dagster(\.components\.utils\.defs_state)?$"
)
PRIVATE = re.compile(r"(dagster|dagster_dbt|dagster_shared|dbt|dbt_common)\b")


def imported(file: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module


def test_private_parts_are_imported_in_one_place_each() -> None:
    elsewhere = {
        f"{file.relative_to(PACKAGE)}: {module}"
        for file in PACKAGE.rglob("*.py")
        if not str(file.relative_to(PACKAGE)).startswith(INTERNALS)
        for module in imported(file)
        if PRIVATE.match(module) and not PUBLIC.match(module)
    }
    assert elsewhere == set()
