"""Contracts with the private parts of dbt that ``dbt.internals`` uses.

Each fails when an upgrade moves its part. Then look there, and only there.
"""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import duckdb
import orjson
import pytest
from dagster_dbt.utils import select_unique_ids
from dbt.graph import Graph, SelectionCriteria
from dbt_common.exceptions import DbtBaseException

from dbt_orchestration.dbt.internals import adapters, manifests, sessions
from dbt_orchestration.dbt.internals.selection import select
from dbt_orchestration.dbt.invocation import DbtError, DbtInvocation, DbtTarget, dbt_session
from dbt_orchestration.dbt.operation import operate
from dbt_orchestration.revisions.working_tree import prepare
from dbt_orchestration.settings.models import Settings
from tests.conftest import REPOSITORY

PROFILES = """
shop:
  target: "{{ env_var('SHOP_TARGET', 'prod') }}"
  outputs:
    prod:
      type: duckdb
      path: "nowhere/{{ env_var('SHOP_FILE', 'shop') }}.duckdb"
      schema: main
      threads: 3
      settings:
        integer_division: true
        s3_secret_access_key: "{{ env_var('DBT_ENV_SECRET_KEY') }}"
"""
PROJECT = """
name: shop
profile: shop
packages-install-path: "{{ env_var('SHOP' ~ '_PACKAGES', 'dbt_packages') }}"
vars:
  factor: "{{ env_var('SHOP_FACTOR', '2') }}"
  plain: [1, 2]
models: {+materialized: "{{ env_var(var('kind', 'SHOP_KIND'), 'view') }}"}
flags: {write_json: false}
"""
# What dbt 1.12 brought.
NEW = {"HINTS_ENABLED", "SNOWFLAKE_PROJECTS_OTEL"}
# Flags of dbt that a project or whoever runs us may set: how dbt talks, checks and works, and which
# profile and target it takes. A new one in this list or in OUR_VARIABLES: think of what it does to
# a parse, to compiled SQL and to a build.
THEIRS = {
    *("CACHE_SELECTED_ONLY", "CLEAN_PROJECT_FILES_ONLY", "DEBUG", "DOWNLOAD_DIR"),
    *("EXPORT_SAVED_QUERIES", "HOST", "INCLUDE_SAVED_QUERY", "INVOCATION_ENV"),
    *("LOG_CACHE_EVENTS", "LOG_FILE_MAX_BYTES", "LOG_FORMAT", "LOG_FORMAT_FILE", "LOG_LEVEL"),
    *("LOG_LEVEL_FILE", "MACRO_DEBUGGING", "NO_PRINT", "PACKAGE_HUB_URL", "PARTIAL_PARSE"),
    *("POPULATE_CACHE", "PRINT", "PRINTER_WIDTH", "PROFILE", "PROFILES_DIR", "QUIET"),
    *("RECORDED_FILE_PATH", "SEND_ANONYMOUS_USAGE_STATS", "SHOW_RESOURCE_REPORT"),
    *("SINGLE_THREADED", "SQLPARSE", "STATIC_PARSER", "STORE_FAILURES", "TARGET"),
    *("TEST_STATE_MODIFIED", "USE_COLORS", "USE_COLORS_FILE", "USE_EXPERIMENTAL_PARSER"),
    *("USE_FAST_TEST_EDGES", "VERSION_CHECK", "WARN_ERROR", "WARN_ERROR_OPTIONS"),
}


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DbtTarget:
    monkeypatch.setenv("DBT_ENV_SECRET_KEY", "not to be told")
    project = tmp_path / "shop"
    for name, text in {
        "dbt_project.yml": PROJECT,
        "profiles.yml": PROFILES,
        "models/one.sql": "select {{ var('factor') }} n, {{ env_var('SHOP' ~ '_MODEL', '1') }} m",
        "models/inner.sql": "{{ config(materialized='ephemeral') }}select n from {{ ref('one') }}",
        "models/outer.sql": "select n from {{ ref('inner') }} {{ 'x' if is_incremental() }}",
        "models/asks.sql": "{% if execute %}{% do run_query('select 1') %}{% endif %}select 1 as n",
        "models/run.sql": "select '{{ invocation_id }}' as run",
        "models/text.yml": "models: [{name: one, description: A number., meta: {big: 1e3}}]",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    return DbtTarget(project, tmp_path / "logs", project)


def parse(target: DbtTarget, folder: Path) -> Sequence[str]:
    return ["parse", "--target-path", str(folder)]


def test_a_session_knows_the_project_as_dbt_renders_it(target: DbtTarget, tmp_path: Path) -> None:
    with dbt_session(target, ["deps"]) as session:
        assert session.manifest is None
        assert session.render("{{ env_var('SHOP_X', 'x') }}-{{ target.name }}") == "x-prod"
        assert session.render_packages([{"local": "{{ env_var('SHOP_Y', '../y') }}"}]) == [
            {"local": "../y"}
        ]
        assert session.names == ("shop", "main")
        assert session.folders == {"shop": target.project_dir}
        assert session.settings["shop"]["vars"]["factor"] == "{{ env_var('SHOP_FACTOR', '2') }}"
        assert session.settings["shop"]["flags"] == {"write_json": False}


def test_a_session_notes_which_environment_variables_jinja_asks_for(
    target: DbtTarget, tmp_path: Path
) -> None:
    with dbt_session(target, parse(target, tmp_path)) as session:
        assert session.profile_variables >= {"SHOP_TARGET", "SHOP_FILE"}
        assert session.variables >= {"SHOP_PACKAGES", "SHOP_FACTOR", "SHOP_KIND", "SHOP_MODEL"}
        assert not {n for n in session.variables | session.profile_variables if "SECRET" in n}


def test_a_session_tells_no_secret(target: DbtTarget) -> None:
    with dbt_session(target, ["deps"]) as session:
        assert session.profile["settings"]["integer_division"] is True
        told = repr((session.profile, session.target, session.settings))
    assert "not to be told" not in told
    assert "DBT_ENV_SECRET_KEY" in told


def test_flags_of_a_profile_are_flags(target: DbtTarget) -> None:
    file = target.project_dir / "dbt_project.yml"
    file.write_text(file.read_text().replace("flags: {write_json: false}", ""))
    profiles = target.project_dir / "profiles.yml"
    profiles.write_text(profiles.read_text() + "config: {fail_fast: true}\n")
    with dbt_session(target, ["deps"]) as session:
        assert session.settings["shop"]["flags"] == {"fail_fast": True}


def test_the_manifest_is_written_as_dbt_writes_it(target: DbtTarget, tmp_path: Path) -> None:
    with dbt_session(target, parse(target, tmp_path / "ours")) as session:
        (tmp_path / "ours").mkdir(exist_ok=True)
        session.write_manifest(tmp_path / "ours" / "manifest.json")
        session.manifest.write(str(tmp_path / "theirs.json"))
    ours = orjson.loads((tmp_path / "ours" / "manifest.json").read_bytes())
    assert ours == json.loads((tmp_path / "theirs.json").read_text())
    assert (tmp_path / "ours" / "partial_parse.msgpack").is_file()


def test_nodes_are_compiled_one_by_one_without_the_warehouse(
    target: DbtTarget, tmp_path: Path
) -> None:
    from dbt.adapters.exceptions import InvalidConnectionError

    with dbt_session(target, parse(target, tmp_path)) as session:
        manifest = session.manifest
    with dbt_session(target, ["compile", "--no-introspect"], manifest) as session:
        sessions.answer_is_incremental(manifest, False)
        first = session.compile("model.shop.outer")
        with pytest.raises(InvalidConnectionError):
            session.compile("model.shop.asks")
        # Again, and also when what stands inside was compiled in between.
        session.compile("model.shop.inner")
        assert session.compile("model.shop.outer") == first
        assert first.startswith("with __dbt__cte__inner as (")
        assert first.strip().endswith("__dbt__cte__inner")
        manifest.nodes["model.shop.outer"].config.materialized = "incremental"
        sessions.answer_is_incremental(manifest, True)
        assert session.compile("model.shop.outer").strip().endswith("x")
        # Each session has a number, which no two commits are to differ by.
        run = session.compile("model.shop.run")
        assert run == f"select '{sessions.INVOCATION}' as run"
    assert not (target.project_dir / "target").exists()


def test_flags_that_are_ours_are_not_taken_from_the_environment(
    target: DbtTarget, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (target.project_dir / "models/flags.sql").write_text(
        "select '{{ flags.FULL_REFRESH }} {{ env_var('DBT_STATE') }}' as n"
    )
    for name in ("DBT_FULL_REFRESH", "DBT_ENGINE_DEFER", "DBT_FAIL_FAST"):
        monkeypatch.setenv(name, "true")
    for name in ("DBT_STATE", "DBT_TARGET_PATH"):
        monkeypatch.setenv(name, str(tmp_path / "elsewhere"))
    with dbt_session(target, parse(target, tmp_path)) as session:
        manifest = session.manifest
        flags = session._config.args
        assert (flags.DEFER, flags.FAIL_FAST, flags.STATE) == (False, False, None)
    command = ["compile", "--no-introspect", "--no-populate-cache", "--select", "flags"]
    DbtInvocation(target, [*command, "--target-path", str(tmp_path)], manifest).finish()
    [node] = [node for node in manifest.nodes.values() if node.name == "flags"]
    assert node.compiled_code == f"select 'False {tmp_path / 'elsewhere'}' as n"
    assert os.environ["DBT_FULL_REFRESH"] == "true"


def test_every_flag_of_dbt_is_ours_or_was_thought_of() -> None:
    from dbt.cli import params
    from dbt.env_vars import _ADDITIONAL_ENGINE_ENV_VARS

    known = {variable.name.removeprefix("DBT_ENGINE_") for variable in params.KNOWN_ENV_VARS}
    known |= {name.removeprefix("DBT_") for name in _ADDITIONAL_ENGINE_ENV_VARS}
    ours = {name.removeprefix("DBT_").removeprefix("ENGINE_") for name in sessions.OUR_VARIABLES}
    parser = {"USE_V2_PARSER", "V2_PARSER"}  # which dbt 1.12 brought, too
    assert ours - parser <= known
    assert known - ours == THEIRS | (NEW if parser <= known else set())


def test_a_project_that_cannot_be_loaded_says_why(target: DbtTarget) -> None:
    (target.project_dir / "dbt_project.yml").write_text("name: shop\nprofile: other\n")
    with pytest.raises(DbtError, match="other"), dbt_session(target, ["deps"]):
        pass
    nowhere = DbtTarget(target.project_dir / "nowhere", target.log_dir, target.project_dir)
    with pytest.raises(DbtError, match="nowhere"), dbt_session(nowhere, ["deps"]):
        pass


def test_importing_it_imports_neither_dbt_nor_dagster() -> None:
    script = (
        "import sys; import dbt_orchestration.revisions.compare\n"
        "print({name.partition('.')[0] for name in sys.modules} & {'dbt', 'dagster'})"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout == "set()\n"


def test_a_saved_parse_knows_the_graph_that_jinja_reads(prepared: Path) -> None:
    [saved] = (prepared / "working_tree" / "prod").glob("*/partial_parse.msgpack")
    manifest = sessions.load_manifest(saved)
    assert "model.every_node.report" in manifest.flat_graph["nodes"]


def test_a_thread_can_be_interrupted() -> None:
    interrupted = threading.Event()

    def work() -> None:
        try:
            while True:
                time.sleep(0.01)
        except KeyboardInterrupt:
            interrupted.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    sessions.interrupt(thread)
    assert interrupted.wait(10)


def test_credentials_are_read_as_dbt_reads_them(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in settings.dbt_environment.items():
        monkeypatch.setenv(name, value)
    credentials = sessions.load_credentials(
        settings.project_dir, settings.profiles_dir, "duckdb", "dev"
    )
    assert (credentials.type, credentials.schema) == ("duckdb", "dev")
    assert credentials.path == str(settings.duckdb_path)


def test_adapters_are_adjusted_when_they_are_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """dbt connects only after an adapter was registered here, with these credentials."""
    from dbt.adapters import factory
    from dbt.adapters.duckdb.credentials import DuckDBCredentials

    assert "FACTORY.register_adapter(" in inspect.getsource(factory.register_adapter)
    registered: list[SimpleNamespace] = []
    monkeypatch.setattr(
        factory.FACTORY, "register_adapter", lambda config, *_: registered.append(config)
    )
    for _ in range(2):
        adapters.adjust_adapters()
    factory.FACTORY.load_plugin("duckdb")
    credentials = DuckDBCredentials(
        database="memory", schema="main", settings={"timezone": "utc", "threads": 2}
    )
    config = SimpleNamespace(target_name="prod", credentials=credentials)
    factory.register_adapter(config, None)
    assert registered == [config]
    assert credentials.settings == {"threads": 2, "TimeZone": "UTC"}
    assert credentials.retries.connect_attempts == 3
    assert credentials.retries.query_attempts is None
    adapter = factory.FACTORY.get_adapter_class_by_name("duckdb")
    assert "list_relations" in adapter._available_
    assert callable(adapter.list_relations)
    credentials.settings = {"TimeZone": "Asia/Seoul"}
    with pytest.raises(DbtBaseException, match="target prod sets the time zone Asia/Seoul"):
        factory.register_adapter(config, None)


def test_a_duckdb_file_can_be_let_go(settings: Settings) -> None:
    revision = prepare(settings, "prod")
    target = DbtTarget.of(settings, "prod")
    manifest = sessions.load_manifest(revision.partial_parse_path)

    def open_by_others() -> None:
        # In one process, another configuration is what a lock is for another process.
        duckdb.connect(str(settings.duckdb_path), read_only=True).close()

    zones = operate(target, manifest, "session", str(revision.directory))
    assert zones == {"session": "UTC", "user": None}
    with pytest.raises(duckdb.Error):
        open_by_others()
    adapters.close_duckdb()
    open_by_others()


def test_a_saved_parse_can_be_loaded_and_given_batches(prepared: Path) -> None:
    [path] = (prepared / "working_tree" / "prod").glob("*/partial_parse.msgpack")
    manifest = sessions.load_manifest(path)
    batch = datetime(2024, 1, 1, tzinfo=UTC), datetime(2024, 1, 2, tzinfo=UTC)
    manifests.set_batches(manifest, "model.every_node.orders_daily", [batch])
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
    manifest = sessions.load_manifest(saved)
    wanted = {"model.every_node.report", "model.every_node.customers.v2"}
    for _ in range(2):
        manifests.select_exactly(manifest, {*wanted, "model.every_node.gone"})
    graph = pytest.importorskip("networkx").DiGraph({u: [] for u in manifest.nodes})
    selector = NodeSelector(Graph(graph), manifest)
    assert selector.get_selected(SelectionCriteria.from_single_spec("orders")) == wanted


def test_a_model_can_be_built_and_read_under_another_name(prepared: Path) -> None:
    [saved] = (prepared / "working_tree" / "prod").glob("*/partial_parse.msgpack")
    manifest = sessions.load_manifest(saved)
    manifests.set_alias(manifest, "model.every_node.orders_daily", "beside")
    node = manifest.nodes["model.every_node.orders_daily"]
    assert node.identifier == "beside"
    assert node.relation_name == '"warehouse"."main"."beside"'
    assert node.name == "orders_daily"


def test_dbt_can_be_told_to_leave_the_view_that_points_at_a_model(prepared: Path) -> None:
    from dbt.contracts.project import ProjectFlags

    [saved] = (prepared / "working_tree" / "prod").glob("*/partial_parse.msgpack")
    manifest, model = sessions.load_manifest(saved), "model.every_node.customers.v2"
    manifests.leave_pointer(manifest, model)  # dbt 1.11 has none
    assert not manifests.has_pointer(manifest, model)
    pointer = getattr(manifest.nodes[model].config, "latest_version_pointer", None)
    if pointer is None:
        pytest.skip("dbt 1.12 brought it")
    assert hasattr(ProjectFlags(), "latest_version_pointer_enabled_by_default")
    pointer.enabled = True
    assert manifests.has_pointer(manifest, model)
    manifests.leave_pointer(manifest, model)
    assert not manifests.has_pointer(manifest, model)


def test_macros_can_be_given_to_dbt(prepared: Path) -> None:
    [saved] = (prepared / "working_tree" / "prod").glob("*/partial_parse.msgpack")
    manifest = sessions.load_manifest(saved)
    manifests.add_macros(
        manifest, REPOSITORY / "dbt_orchestration" / "dbt" / "macros" / "swap_in.sql"
    )
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
    manifests.make_batches_atomic(manifest)
    assert "snowflake_dml_explicit_transaction(dml)" in macro.macro_sql
    assert "snowflake_dml_explicit_transaction" in "".join(
        path.read_text() for path in folder.rglob("*.sql")
    )
    changed = macro.macro_sql
    manifests.make_batches_atomic(manifest)
    assert macro.macro_sql == changed


def test_dbt_still_takes_its_batches_from_there() -> None:
    from dbt.task.run import MicrobatchModelRunner

    assert "model.previous_batch_results.failed" in inspect.getsource(
        MicrobatchModelRunner.get_batches
    )


@pytest.mark.parametrize(
    ("chosen", "exclude"),
    [("fqn:*", ""), ("orders+", "report"), ("tag:finance,config.tags:none", "")],
)
def test_a_selection_chooses_what_dagster_dbt_chooses(
    settings: Settings, chosen: str, exclude: str
) -> None:
    revision = prepare(settings, "prod")
    ours = select(revision.manifest, revision.project_dir, chosen, exclude, "")
    assert ours == select_unique_ids(chosen, exclude, "", None, revision.manifest)
