"""Contracts with the private parts of Dagster and dbt that ``upstream`` uses.

Each fails when an upgrade moves its part. Then look at ``dbt_orchestration/upstream.py``, and only
there.
"""

from __future__ import annotations

import inspect
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import grpc  # type: ignore[import-untyped]
import pytest
from dbt.graph.graph import Graph
from dbt.graph.selector_spec import SelectionCriteria

from dbt_orchestration import upstream
from tests.conftest import REPOSITORY

DAILY = dg.DailyPartitionsDefinition("2024-01-01", end_date="2024-01-05")
MONTHLY = dg.MonthlyPartitionsDefinition("2024-01-01", end_date="2024-03-01")


def mixed_assets() -> dg.AssetsDefinition:
    @dg.multi_asset(
        name="mixed",
        can_subset=True,
        specs=[
            dg.AssetSpec("day", partitions_def=DAILY, skippable=True),
            dg.AssetSpec("month", deps=["day"], partitions_def=MONTHLY, skippable=True),
            dg.AssetSpec("mart", deps=["month"], skippable=True),
        ],
    )
    def mixed(context):  # type: ignore[no-untyped-def]
        for key in sorted(
            context.selected_asset_keys, key=lambda k: ["day", "month", "mart"].index(k.path[0])
        ):
            if key.path == ["mart"]:
                yield dg.MaterializeResult(asset_key=key)
            else:
                context.log_event(dg.AssetMaterialization(key, partition="2024-01-01"))

    return upstream.MixedPartitionsAssets.of(mixed)


def run(definitions: dg.Definitions, *names: str, **tags: str) -> set[str]:
    job = definitions.resolve_implicit_global_asset_job_def()
    job = job.get_subset(asset_selection={dg.AssetKey(name) for name in names})
    result = job.execute_in_process(tags={f"dagster/{tag}": value for tag, value in tags.items()})
    return {e.asset_key.path[0] for e in result.get_asset_materialization_events() if e.asset_key}


@pytest.mark.parametrize(
    "names", [("day", "month", "mart"), ("month", "mart"), ("month",), ("mart",)]
)
def test_assets_with_different_partitions_run_in_one_step(names: tuple[str, ...]) -> None:
    definitions = dg.Definitions(assets=[mixed_assets()])
    assert run(definitions, *names) == set(names)


def test_a_subset_keeps_each_assets_own_partitions() -> None:
    subset = mixed_assets().subset_for({dg.AssetKey("month")}, None)
    assert isinstance(subset, upstream.MixedPartitionsAssets)
    graph = dg.Definitions(assets=[mixed_assets()]).resolve_asset_graph()
    assert graph.get(dg.AssetKey("day")).partitions_def == DAILY
    assert graph.get(dg.AssetKey("month")).partitions_def == MONTHLY


def test_a_job_may_hold_assets_with_different_partitions() -> None:
    assets = mixed_assets()
    plain = dg.define_asset_job("everything", dg.AssetSelection.assets(assets), run_tags={"a": "b"})
    with pytest.raises(dg.DagsterInvalidDefinitionError) as refused:
        dg.Definitions(assets=[assets], jobs=[plain]).resolve_job_def("everything")
    assert "same partitions definitions" in str(refused.value.__cause__)
    definitions = dg.Definitions(assets=[assets], jobs=[upstream.MixedPartitionsJob.of(plain)])
    job = definitions.resolve_job_def("everything")
    assert job.run_tags == {"a": "b"}
    assert job.execute_in_process().success


def test_a_run_gets_what_the_code_server_pinned(tmp_path: Path) -> None:
    from dagster._core.code_pointer import CodePointer
    from dagster._core.definitions.reconstruct import (
        initialize_repository_def_from_pointer,
        reconstruct_repository_def_from_pointer,
    )
    from dagster._core.execution.api import create_execution_plan

    world = tmp_path / "world"
    (tmp_path / "location.py").write_text(
        "import dagster as dg\n"
        "from pathlib import Path\n"
        "from dbt_orchestration.upstream import pin\n"
        "def load():\n"
        f"    name = pin('key', lambda: Path({str(world)!r}).read_text())\n"
        "    @dg.asset(name=name)\n"
        "    def made(): ...\n"
        "    return dg.Definitions(assets=[made])\n"
    )
    pointer = CodePointer.from_python_file(str(tmp_path / "location.py"), "load", None)

    def assets(repository: dg.RepositoryDefinition) -> set[str]:
        return {key.path[0] for key in repository.asset_graph.get_all_asset_keys()}

    world.write_text("before")
    loaded = initialize_repository_def_from_pointer(pointer)
    world.write_text("after")
    reconstructed = reconstruct_repository_def_from_pointer(pointer, loaded.repository_load_data)
    assert assets(loaded) == assets(reconstructed) == {"before"}
    assert assets(initialize_repository_def_from_pointer(pointer)) == {"after"}
    with dg.DagsterInstance.ephemeral() as instance:
        job, data = loaded.get_job("__ASSET_JOB"), loaded.repository_load_data
        plan = create_execution_plan(job, repository_load_data=data)  # as the code server does
        run = instance.create_run_for_job(job, execution_plan=plan)
        assert upstream.pinned(instance, run, "key") == "before"
        assert upstream.pinned(instance, run, "other") is None


def test_a_location_that_takes_long_to_load_is_not_waited_for() -> None:
    from dagster._core.remote_origin import GrpcServerCodeLocationOrigin

    loading = threading.Event()
    reload = grpc.unary_unary_rpc_method_handler(lambda *_: loading.wait(10))
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("api.DagsterApi", {"ReloadCode": reload})]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    context: Any = SimpleNamespace(
        code_location_origin=GrpcServerCodeLocationOrigin("127.0.0.1", port, location_name="prod")
    )
    upstream.reload_code_location(context, 0.5)
    loading.set()
    server.stop(None).wait()
    with pytest.raises(dg.DagsterError):
        upstream.reload_code_location(context, 5)


def test_the_limit_of_a_pool_can_be_set() -> None:
    with dg.DagsterInstance.local_temp() as instance:
        upstream.set_pool_limit(instance, "warehouse", 3)
        [limit] = [p for p in instance.event_log_storage.get_pool_limits() if p.name == "warehouse"]
        assert limit.limit == 3


def test_a_saved_parse_can_be_loaded_and_given_batches(prepared: Path) -> None:
    [path] = (prepared / "working_tree" / "prod").glob("*/partial_parse.msgpack")
    manifest = upstream.load_manifest(path)
    batch = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    upstream.set_batches(manifest, "model.every_node.orders_daily", [batch])
    node = manifest.nodes["model.every_node.orders_daily"]
    assert node.previous_batch_results.failed == [batch]
    assert node.previous_batch_results.successful == []


def test_dbt_builds_exactly_what_is_selected_by_unique_id(prepared: Path) -> None:
    from dbt.graph.selector import NodeSelector
    from dbt.task.build import BuildTask
    from dbt.task.test import TestTask

    for source in (BuildTask.get_graph_queue, NodeSelector.get_graph_queue):
        assert ".get_selected(" in inspect.getsource(source)
    assert "get_graph_queue" not in vars(TestTask)
    [saved] = (prepared / "working_tree" / "prod").glob("*/partial_parse.msgpack")
    manifest = upstream.load_manifest(saved)
    wanted = {"model.every_node.report", "model.every_node.customers.v2"}
    for _ in range(2):
        upstream.select_exactly(manifest, {*wanted, "model.every_node.gone"})
    graph = pytest.importorskip("networkx").DiGraph({u: [] for u in manifest.nodes})
    selector = NodeSelector(Graph(graph), manifest)
    assert selector.get_selected(SelectionCriteria.from_single_spec("orders")) == wanted


def test_a_model_can_be_built_and_read_under_another_name(prepared: Path) -> None:
    [saved] = (prepared / "working_tree" / "prod").glob("*/partial_parse.msgpack")
    manifest = upstream.load_manifest(saved)
    upstream.set_alias(manifest, "model.every_node.orders_daily", "beside")
    node = manifest.nodes["model.every_node.orders_daily"]
    assert node.identifier == "beside"
    assert node.relation_name == '"warehouse"."main"."beside"'
    assert node.name == "orders_daily"


def test_macros_can_be_given_to_dbt(prepared: Path) -> None:
    [saved] = (prepared / "working_tree" / "prod").glob("*/partial_parse.msgpack")
    manifest = upstream.load_manifest(saved)
    upstream.add_macros(manifest, REPOSITORY / "dbt_orchestration" / "macros" / "swap_in.sql")
    macro = manifest.macros["macro.dbt.dbt_orchestration__swap_in"]
    assert manifest.find_macro_by_name(macro.name, "every_node", None) is macro


def test_dbt_snowflake_still_replaces_a_batch_in_two_steps() -> None:
    import dbt.include.snowflake as package

    folder = Path(str(package.__file__)).parent / "macros"
    name = "snowflake__get_incremental_microbatch_sql"
    [sql] = [text for path in folder.rglob("*.sql") if name in (text := path.read_text())]
    start = sql.index(f"{{% macro {name}")
    source = sql[start : sql.index("{% endmacro %}", start) + len("{% endmacro %}")]
    macro = SimpleNamespace(macro_sql=source)
    manifest = SimpleNamespace(macros={f"macro.dbt_snowflake.{name}": macro})
    upstream.make_batches_atomic(manifest)
    assert "snowflake_dml_explicit_transaction(dml)" in macro.macro_sql
    assert "snowflake_dml_explicit_transaction" in "".join(
        path.read_text() for path in folder.rglob("*.sql")
    )
    changed = macro.macro_sql
    upstream.make_batches_atomic(manifest)
    assert macro.macro_sql == changed


def test_a_note_is_kept_in_the_database() -> None:
    with dg.DagsterInstance.local_temp() as instance:
        assert upstream.read_notes(instance, ["key"]) == {}
        upstream.write_note(instance, "key", "text")
        upstream.write_note(instance, "key", "other text")
        assert upstream.read_notes(instance, ["key", "other"]) == {"key": "other text"}


def test_dagster_finds_the_data_versions_of_all_partitions_at_once() -> None:
    key = dg.AssetKey("days")
    with dg.DagsterInstance.local_temp() as instance:
        for version in ("old~1", "new~2"):
            tags = {"dagster/data_version": version}
            event = dg.AssetMaterialization(key, partition="2024-01-01", tags=tags)
            instance.report_runless_asset_event(event)
        found = instance.event_log_storage.get_latest_tags_by_partition(
            key, dg.DagsterEventType.ASSET_MATERIALIZATION, ["dagster/data_version"]
        )
        assert found == {"2024-01-01": {"dagster/data_version": "new~2"}}


def test_dbt_still_takes_its_batches_from_there() -> None:
    from dbt.task.run import MicrobatchModelRunner

    assert "model.previous_batch_results.failed" in inspect.getsource(
        MicrobatchModelRunner.get_batches
    )
