"""A Dagster project whose environment a ``defs.yaml`` describes."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import dagster as dg
import pytest

from tests.automation.site import SHOP, git

DefsYaml = Callable[[str], dg.Definitions]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Dagster project, in git, with a dbt project in the folder ``dbt``."""
    monkeypatch.setenv("DBT_DUCKDB_PATH", str(tmp_path / "warehouse.duckdb"))
    shutil.copytree(SHOP, tmp_path / "dbt")
    (tmp_path / "dbt" / "models" / "sources.yml").write_text(
        dedent("""\
        sources:
          - name: crm
            schema: main
            tables:
              - name: people
                meta: {dagster: {asset_key: [imported, people]}}
        """)
    )
    (tmp_path / "dbt" / "models" / "callers.sql").write_text(
        "select name from {{ source('crm', 'people') }}"
    )
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


@pytest.fixture
def defs_yaml(home: Path, monkeypatch: pytest.MonkeyPatch) -> DefsYaml:
    """The definitions of a Dagster project whose only component a ``defs.yaml`` describes."""
    package = home / "src" / "shop_project"
    monkeypatch.syspath_prepend(str(package.parent))
    for module in [name for name in sys.modules if name.startswith(package.name)]:
        monkeypatch.delitem(sys.modules, module)
    (package / "defs" / "warehouse").mkdir(parents=True)
    (home / "pyproject.toml").write_text(
        dedent("""\
        [tool.dg]
        directory_type = "project"
        [tool.dg.project]
        root_module = "shop_project"
        """)
    )
    (package / "defs" / "people.py").write_text(
        "import dagster as dg\n\n\n@dg.asset(key=['imported', 'people'])\ndef people(): ...\n"
    )

    def load(text: str) -> dg.Definitions:
        (package / "defs" / "warehouse" / "defs.yaml").write_text(dedent(text))
        return dg.load_from_defs_folder(path_within_project=package)

    return load
