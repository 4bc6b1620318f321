"""What SQLMesh would rebuild of a dbt project, asked by ``benchmarks.change_detection``.

Runs in an environment of its own, which has SQLMesh and no package of this repository::

    python sqlmesh_worker.py FOLDER        # warehouse and SQLMesh's state go there

Each line of the input is a request, each line of the output an answer: ``{"project": …,
"environment": {…}}`` and ``{"due": […], "error": ""}``, unique ids of dbt. The first request also
has ``sources``, SQL that makes the tables the project reads, in the schema ``bank``; its project is
built by SQLMesh, and is what all others are compared with.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

import duckdb
from sqlmesh import Context  # type: ignore[import-not-found]
from sqlmesh.core.config import (  # type: ignore[import-not-found]
    CategorizerConfig,
    DuckDBConnectionConfig,
    ModelDefaultsConfig,
)
from sqlmesh.dbt.loader import sqlmesh_config  # type: ignore[import-not-found]

_START, _NOW = "2024-01-01", "2024-05-01"
_COLUMNS = "select table_name, column_name, data_type from information_schema.columns"


class Planner:
    """SQLMesh with its default plan: changes are categorized by itself, and history follows."""

    def __init__(self, folder: Path) -> None:
        self._warehouse, self._state = folder / "warehouse.duckdb", folder / "state.duckdb"
        self._external = ""
        os.environ["DBT_DUCKDB_PATH"] = str(self._warehouse)

    def build(self, project: Path, environment: dict[str, str], sources: str) -> None:
        """Build the project that all others are compared with."""
        with duckdb.connect(str(self._warehouse)) as connection:
            connection.execute(sources)
            columns = connection.execute(f"{_COLUMNS} where table_schema = 'bank'").fetchall()
        # What `sqlmesh create_external_models` writes: with it, columns of sources are known.
        tables: dict[str, dict[str, str]] = {}
        for table, column, kind in columns:
            tables.setdefault(table, {})[column] = kind
        names = {table: f'"{self._warehouse.stem}"."bank"."{table}"' for table in tables}
        self._external = json.dumps([{"name": names[t], "columns": tables[t]} for t in tables])
        context = self._open(project, environment)
        context.plan("prod", execution_time=_NOW, auto_apply=True, no_prompts=True, skip_tests=True)
        context.close()

    def due(self, project: Path, environment: dict[str, str]) -> list[str]:
        """What a plan from the first project to this one would build."""
        context = self._open(project, environment)
        try:
            plan = context.plan_builder(
                "prod",
                execution_time=_NOW,
                skip_tests=True,
                categorizer_config=CategorizerConfig.all_full(),
            ).build()
            names = {missing.snapshot_id.name for missing in plan.missing_intervals}
            names |= {s.name for s in plan.new_snapshots if s.is_forward_only and not s.is_metadata}
            models = [context.models[name] for name in names if name in context.models]
            return sorted({model.dbt_unique_id for model in models if model.dbt_unique_id})
        finally:
            context.close()

    def _open(self, project: Path, environment: dict[str, str]) -> Any:
        os.environ.update(environment)
        (project / "external_models.yaml").write_text(self._external)
        config = sqlmesh_config(
            project,
            profiles_dir=project,
            model_defaults=ModelDefaultsConfig(start=_START),
            state_connection=DuckDBConnectionConfig(database=str(self._state)),
        )
        return Context(paths=str(project), config=config)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # SQLMesh and dbt print
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    planner = Planner(Path(sys.argv[1]))
    for line in sys.stdin:
        request = json.loads(line)
        answer: dict[str, Any] = {"due": [], "error": ""}
        try:
            if sources := request.get("sources"):
                planner.build(Path(request["project"]), request["environment"], sources)
            answer["due"] = planner.due(Path(request["project"]), request["environment"])
        except Exception as error:
            answer["error"] = f"{type(error).__name__}: {error}"[:600]
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
