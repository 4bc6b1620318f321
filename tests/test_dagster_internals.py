"""Contracts with the private parts of Dagster that ``dagster_internals`` uses.

Each fails when an upgrade moves its part. Then look there, and only there.
"""

from __future__ import annotations

import os
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dagster as dg
import grpc  # type: ignore[import-untyped]
import pytest
import yaml
from dagster._cli.proxy_server_manager import ProxyServerManager
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.freshness import FreshnessState, FreshnessStateChange
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.execution.api import execute_run
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin
from dagster._core.remote_origin import (
    GrpcServerCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.scheduler.instigation import InstigatorStatus, ScheduleInstigatorData
from dagster._core.workspace.load_target import CompositeTarget, PythonFileTarget
from pydantic import Field
from upath import UPath

from dbt_orchestration import dagster_internals
from tests.automation.telling.office import keep_cursor, keep_state
from tests.instances import dagster_in

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

    return dagster_internals.MixedPartitionsAssets.of(mixed)


def run(definitions: dg.Definitions, *names: str, **tags: str) -> set[str]:
    job = definitions.resolve_implicit_global_asset_job_def()
    job = job.get_subset(asset_selection={dg.AssetKey(name) for name in names})
    result = job.execute_in_process(tags={f"dagster/{tag}": value for tag, value in tags.items()})
    return {e.asset_key.path[0] for e in result.get_asset_materialization_events() if e.asset_key}


def recorded_error(error: Exception) -> tuple[str, bool]:
    """What a run and its step record of an error that an op raises, and whether with a trace."""

    @dg.op
    def fails() -> None:
        raise error

    @dg.job(executor_def=dg.in_process_executor)
    def job() -> None:
        fails()

    result = job.execute_in_process(raise_on_error=False)
    [step] = [e.step_failure_data.error for e in result.all_events if e.is_step_failure]
    [run] = [e.job_failure_data.error for e in result.all_events if e.is_job_failure]
    assert step is not None
    assert step == run
    return step.message, bool(step.stack)


def test_a_plain_failure_is_recorded_as_its_words() -> None:
    said = "Nothing was started: there is no model ordrs."
    assert recorded_error(dagster_internals.PlainFailure(said)) == (said, False)
    message, traced = recorded_error(dg.Failure("of somebody else's"))
    assert "of somebody else's" in message
    assert traced


@pytest.mark.parametrize(
    "names", [("day", "month", "mart"), ("month", "mart"), ("month",), ("mart",)]
)
def test_assets_with_different_partitions_run_in_one_step(names: tuple[str, ...]) -> None:
    definitions = dg.Definitions(assets=[mixed_assets()])
    assert run(definitions, *names) == set(names)


def test_a_subset_keeps_each_assets_own_partitions() -> None:
    subset = mixed_assets().subset_for({dg.AssetKey("month")}, None)
    assert isinstance(subset, dagster_internals.MixedPartitionsAssets)
    graph = dg.Definitions(assets=[mixed_assets()]).resolve_asset_graph()
    assert graph.get(dg.AssetKey("day")).partitions_def == DAILY
    assert graph.get(dg.AssetKey("month")).partitions_def == MONTHLY


def test_a_job_may_hold_assets_with_different_partitions() -> None:
    assets = mixed_assets()
    plain = dg.define_asset_job("everything", dg.AssetSelection.assets(assets), run_tags={"a": "b"})
    with pytest.raises(dg.DagsterInvalidDefinitionError) as refused:
        dg.Definitions(assets=[assets], jobs=[plain]).resolve_job_def("everything")
    assert "same partitions definitions" in str(refused.value.__cause__)
    definitions = dg.Definitions(
        assets=[assets], jobs=[dagster_internals.MixedPartitionsJob.of(plain)]
    )
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
        "from dbt_orchestration.dagster_internals import pin\n"
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
        assert dagster_internals.pinned(instance, run, "key") == "before"
        assert dagster_internals.pinned(instance, run, "other") is None


def test_the_instance_is_known_while_a_location_loads(tmp_path: Path) -> None:
    with dg.DagsterInstance.local_temp(str(tmp_path)) as instance:
        storage = dagster_internals.state_storage()
        assert storage is not None
        assert dagster_internals.instance_of(storage) is instance


def test_two_instances_of_one_database_are_told_from_another_one(tmp_path: Path) -> None:
    homes = [tmp_path / name for name in "ab"]
    for home in homes:
        home.mkdir()
    one, same, other = (dg.DagsterInstance.local_temp(str(homes[n])) for n in (0, 0, 1))
    assert dagster_internals.is_one_database(one, same)
    assert not dagster_internals.is_one_database(one, other)
    assert dagster_internals.is_one_database(None, one)


def test_versions_are_stored_listed_and_removed_where_there_is_no_disk(tmp_path: Path) -> None:
    storage: Any = dg.UPathDefsStateStorage(UPath("memory://states"))
    archive = tmp_path / "archive"
    archive.write_bytes(b"content")
    assert not dagster_internals.has_state(storage, "a/b", "1")
    for version in "12":
        dagster_internals.upload_state(storage, "a/b", version, archive)
        dagster_internals.forget_listings(storage)
    assert dagster_internals.has_state(storage, "a/b", "1")
    storage.download_state_to_path("a/b", "1", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == b"content"
    assert sorted(dagster_internals.stored_versions(storage, "a/b")) == ["1", "2"]
    dagster_internals.delete_state(storage, "a/b", "1")
    assert dagster_internals.stored_versions(storage, "a/b") == ["2"]
    assert dagster_internals.place_of(storage) == "memory://states"


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
    dagster_internals.reload_code_location(context, 0.5)
    loading.set()
    server.stop(None).wait()
    with pytest.raises(dg.DagsterError):
        dagster_internals.reload_code_location(context, 5)


def test_code_servers_start_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each loads only once the other is being loaded, too."""
    patched = ProxyServerManager._initialize_endpoints
    monkeypatch.setattr(ProxyServerManager, "_initialize_endpoints", patched)
    files = {name: tmp_path / f"{name}.py" for name in ("one", "two")}
    for name, other in (("one", "two"), ("two", "one")):
        files[name].write_text(
            "import pathlib, time, dagster as dg\n"
            f"pathlib.Path({str(tmp_path / name)!r}).touch()\n"
            f"other = pathlib.Path({str(tmp_path / other)!r})\n"
            "end = time.monotonic() + 60\n"
            "while not other.exists() and time.monotonic() < end:\n"
            "    time.sleep(0.05)\n"
            "assert other.exists()\n"
            "defs = dg.Definitions()\n"
        )
    dagster_internals.start_code_servers_at_once()
    files_of = [PythonFileTarget(str(f), None, str(tmp_path), f.stem) for f in files.values()]
    with (
        dg.DagsterInstance.local_temp(str(tmp_path)) as instance,
        ProxyServerManager(instance, CompositeTarget(files_of)) as manager,
    ):
        servers = {spec["grpc_server"]["location_name"] for spec in manager.get_code_server_specs()}
        assert servers == files.keys()
        assert all((tmp_path / name).exists() for name in files)


def test_the_limit_of_a_pool_can_be_set() -> None:
    with dg.DagsterInstance.local_temp() as instance:
        dagster_internals.set_pool_limit(instance, "warehouse", 3)
        assert dagster_internals.pool_limit(instance, "warehouse") == 3
        assert dagster_internals.pool_limit(instance, "another") is None


def test_a_note_is_kept_in_the_database() -> None:
    with dg.DagsterInstance.local_temp() as instance:
        assert dagster_internals.read_notes(instance, ["key"]) == {}
        dagster_internals.write_note(instance, "key", "text")
        dagster_internals.write_note(instance, "key", "other text")
        assert dagster_internals.read_notes(instance, ["key", "other"]) == {"key": "other text"}


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


def test_a_sensor_reads_what_another_one_of_its_location_has_left() -> None:
    with dg.DagsterInstance.local_temp() as instance:
        keep_cursor(instance, "prod_push", "left")
        with dg.build_sensor_context(instance) as context:
            assert dagster_internals.sensor_cursor(context, "prod_push") == "left"
            assert dagster_internals.sensor_cursor(context, "dev_push") is None


def test_a_run_reads_what_a_sensor_of_its_location_has_left() -> None:
    found: dict[str, str | None] = {}

    def read(place: str) -> None:
        @dg.asset
        def page(context) -> None:  # type: ignore[no-untyped-def]
            found[place] = dagster_internals.sensor_cursor(context, "prod_push")

        defs = dg.Definitions([page], executor=dg.in_process_executor)
        job = defs.resolve_implicit_global_asset_job_def()
        location = GrpcServerCodeLocationOrigin("localhost", 4000, location_name=place)
        origin = RemoteJobOrigin(RemoteRepositoryOrigin(location, "repository"), job.name)
        code = RepositoryPythonOrigin("python", ModuleCodePointer("module", "repository"))
        python = JobPythonOrigin(job.name, code)
        run = instance.create_run_for_job(job, remote_job_origin=origin, job_code_origin=python)
        assert execute_run(InMemoryJob(job), run, instance).success

    with dg.DagsterInstance.local_temp() as instance:
        keep_cursor(instance, "prod_push", "left")
        read("prod")
        read("dev")
    assert found == {"prod": "left", "dev": None}


@pytest.mark.parametrize("default", [True, False])
def test_since_when_a_schedule_is_on(default: bool) -> None:
    with dg.DagsterInstance.local_temp() as instance, dg.build_sensor_context(instance) as context:

        def since() -> float | None:
            return dagster_internals.on_since(context, "prod_full_build_schedule", default)

        def becomes(status: InstigatorStatus) -> None:
            data = ScheduleInstigatorData("0 8 * * *", start_timestamp=5.0)
            keep_state(instance, "prod_full_build_schedule", status, data)

        assert since() == (0.0 if default else None)
        becomes(InstigatorStatus.DECLARED_IN_CODE)
        assert since() == (5.0 if default else None)
        becomes(InstigatorStatus.RUNNING)
        assert since() == 5.0
        becomes(InstigatorStatus.STOPPED)
        assert since() is None


def test_when_a_schedule_ticked_last() -> None:
    now = datetime(2024, 5, 1, 22, tzinfo=UTC)  # 07:00 of the next day in Seoul
    last = dagster_internals.last_cron_tick("0 8 * * *", "Asia/Seoul", now)
    assert last.isoformat() == "2024-05-01T08:00:00+09:00"


def test_when_a_schedule_ticks_next() -> None:
    now = datetime(2024, 5, 3, 22, tzinfo=UTC)  # Saturday, 07:00 in Seoul
    ticks = dagster_internals.next_cron_ticks("0 8 * * 1", "Asia/Seoul", now, 2)
    assert [tick.isoformat() for tick in ticks] == [
        "2024-05-06T08:00:00+09:00",
        "2024-05-13T08:00:00+09:00",
    ]


def test_which_assets_are_not_fresh() -> None:
    keys = {state: dg.AssetKey(state.lower()) for state in ("PASS", "WARN", "FAIL", "UNKNOWN")}
    with dg.DagsterInstance.ephemeral() as instance:
        for state, key in keys.items():
            instance._report_runless_asset_event(
                FreshnessStateChange(
                    key=key,
                    new_state=FreshnessState(state),
                    previous_state=FreshnessState.UNKNOWN,
                    state_change_timestamp=1.0,
                )
            )
        assert dagster_internals.not_fresh(instance, [*keys.values(), dg.AssetKey("other")]) == {
            keys["PASS"]: False,
            keys["WARN"]: False,
            keys["FAIL"]: True,
        }


def test_a_run_that_dagster_has_still_to_start_again() -> None:
    def run(status: dg.DagsterRunStatus, **tags: str) -> dg.DagsterRun:
        named = {f"dagster/{name}": value for name, value in tags.items()}
        return dg.DagsterRun("job", tags=named, status=status)

    failed = dg.DagsterRunStatus.FAILURE
    assert dagster_internals.is_to_be_retried(run(failed, will_retry="true"))
    again = run(failed, will_retry="true", auto_retry_run_id="1")
    assert not dagster_internals.is_to_be_retried(again)
    assert not dagster_internals.is_to_be_retried(run(failed, will_retry="false"))
    assert not dagster_internals.is_to_be_retried(run(dg.DagsterRunStatus.SUCCESS))


@pytest.mark.parametrize("enabled", [True, False])
def test_whether_dagster_starts_failed_runs_again(tmp_path: Path, enabled: bool) -> None:
    settings = {"run_retries": {"enabled": enabled}, "telemetry": {"enabled": False}}
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert dagster_internals.retries_runs(instance) is enabled


def test_a_line_in_the_log_of_a_run_has_metadata() -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        job = dg.Definitions(assets=[mixed_assets()]).resolve_implicit_global_asset_job_def()
        run = instance.create_run_for_job(job)
        dagster_internals.say(instance, run, "done", {"built": dg.MetadataValue.md("| 1 |")})
        [entry] = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
        assert entry.dagster_event is not None
        assert entry.dagster_event.message == "done"
        assert entry.dagster_event.engine_event_data.metadata["built"].value == "| 1 |"


def test_the_fields_of_a_form_are_described() -> None:
    class Form(dg.Config):
        since: str = Field(default="", description="First day.")
        days: int = 3

    def ask(config: dg.Config) -> None: ...

    ask.__annotations__ = {"config": Form}
    found = dagster_internals.field_descriptions(dg.op(ask))
    assert found == {"since": "First day.", "days": ""}


@dg.op
def dies() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dg.op
def fails() -> None:
    raise dg.Failure("no", metadata={"rows": 1})


@dg.job(executor_def=dg.multiprocess_executor)
def dying() -> None:
    dies()


@dg.job(executor_def=dg.multiprocess_executor)
def failing() -> None:
    fails()


@pytest.mark.parametrize(("job", "died"), [(dying, True), (failing, False)])
def test_a_step_whose_process_died(tmp_path: Path, job: dg.JobDefinition, died: bool) -> None:
    with (
        dagster_in(tmp_path) as instance,
        dg.execute_job(dg.reconstructable(job), instance) as result,
    ):
        assert not result.success
        assert dagster_internals.a_step_died(instance, result.run_id) is died
