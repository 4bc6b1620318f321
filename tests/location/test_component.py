"""What a ``defs.yaml`` may say of dagster-dbt's component, said of an environment."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import dagster as dg
import pytest

from tests.automation.site import Site, names
from tests.instances import dagster_in
from tests.location.conftest import DefsYaml

_PROJECT = """\
    type: dbt_orchestration.DbtEnvironmentComponent
    attributes:
      project:
        project_dir: "{{ project_root }}/dbt"
        profiles_dir: "{{ project_root }}/dbt"
        target: prod
    """


def written(*attributes: str) -> str:
    return "\n".join([dedent(_PROJECT).rstrip(), *(f"  {each}" for each in attributes), ""])


def test_column_metadata_is_what_runs_record_anyway(defs_yaml: DefsYaml) -> None:
    defs = defs_yaml(
        written(
            *("include_metadata: [column_metadata]", "select: +customers"),
            "environment: {push: {enabled: false}}",
        )
    )
    with dg.DagsterInstance.ephemeral() as instance:
        job = defs.resolve_job_def("prod_full_build")
        job.execute_in_process(instance=instance)
        result = job.execute_in_process(instance=instance)  # which sees the types of the tables
    [made] = [
        event.materialization
        for event in result.get_asset_materialization_events()
        if event.asset_key == dg.AssetKey("customers")
    ]
    schema = made.metadata["dagster/column_schema"].value
    assert isinstance(schema, dg.TableSchema)
    assert {"amount"} <= {column.name for column in schema.columns}
    assert "?" not in {column.type for column in schema.columns}
    lineage = made.metadata["dagster/column_lineage"].value
    assert isinstance(lineage, dg.TableColumnLineage)
    assert lineage.deps_by_column["amount"][0].asset_key == dg.AssetKey("stg_orders")


def test_a_selector_says_which_nodes_are_assets(home: Path, defs_yaml: DefsYaml) -> None:
    (home / "dbt" / "selectors.yml").write_text(
        "selectors: [{name: nightly, definition: {method: fqn, value: customers}}]\n"
    )
    graph = defs_yaml(written("selector: nightly")).resolve_asset_graph()
    assert graph.materializable_asset_keys >= {dg.AssetKey("customers")}
    assert dg.AssetKey("totals") not in graph.materializable_asset_keys


def test_settings_of_the_translation_count(defs_yaml: DefsYaml) -> None:
    def is_virtual(*attributes: str) -> bool:
        graph = defs_yaml(written(*attributes)).resolve_asset_graph()
        return graph.get(dg.AssetKey("stg_orders")).is_virtual

    assert not is_virtual()
    assert is_virtual("translation_settings: {enable_dbt_views_as_virtual_assets: true}")


def test_other_definitions_learn_the_key_of_a_model(home: Path, defs_yaml: DefsYaml) -> None:
    (home / "src" / "shop_project" / "defs" / "report.py").write_text(
        dedent("""\
        import dagster as dg


        @dg.definitions
        def report(context: dg.ComponentLoadContext) -> dg.Definitions:
            key = context.load_component("warehouse").asset_key_for_model("customers")

            @dg.asset(deps=[key])
            def report(): ...

            return dg.Definitions(assets=[report])
        """)
    )
    text = written("translation: {key_prefix: gold}")
    graph = defs_yaml(text).resolve_asset_graph()
    [parent] = graph.get(dg.AssetKey("report")).parent_keys
    assert parent == dg.AssetKey(["gold", "customers"])
    assert parent in graph.materializable_asset_keys


@dataclass
class Written(Site):
    """A site whose code location a ``defs.yaml`` describes."""

    defs_yaml: DefsYaml | None = None

    def load(self, name: str = "prod") -> dg.Definitions:
        assert self.defs_yaml
        self.loaded[name] = self.defs_yaml(
            dedent(f"""\
            type: dbt_orchestration.DbtEnvironmentComponent
            attributes:
              project:
                repo_url: {self.clone.remote}
                repo_relative_path: dbt
                profile: duckdb
                target: prod
              branch: main
              environment: {{push: {{interval_seconds: 1}}}}
            """)
        )
        return self.loaded[name]


@pytest.fixture
def site(
    tmp_path_factory: pytest.TempPathFactory, defs_yaml: DefsYaml, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Written]:
    folder = tmp_path_factory.mktemp("site")
    monkeypatch.chdir(folder)
    with dagster_in(folder) as instance:
        site = Written.of(folder, instance)
        site.defs_yaml = defs_yaml
        yield site


def test_the_repository_of_a_url_is_followed(site: Written) -> None:
    assert "nothing is due" in site.build_all()
    site.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    site.clone.push("one model")
    assert "customers" in names(site.request())
