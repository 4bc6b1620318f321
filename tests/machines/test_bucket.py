"""Two machines that share PostgreSQL and a bucket, and no disk."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import dagster as dg
import pytest
import yaml

from dbt_orchestration.automation.outcome import Outcome, findings
from dbt_orchestration.dbt.parse import PrepareError
from dbt_orchestration.revisions.current import open_revision
from dbt_orchestration.revisions.store import published, state_key
from dbt_orchestration.settings import postgres
from tests.automation.site import Site, launched_by, prepared_here
from tests.machines.conftest import Bucket

pytest.importorskip("dagster_postgres", reason="pip install '.[postgres]'")

Machine = Callable[[str], Site]


@pytest.fixture(scope="module")
def machine(
    database: str, bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Machine]:
    """A machine of a new name, whose disk is empty."""
    folder = tmp_path_factory.mktemp("machines")
    first: list[Site] = []
    with pytest.MonkeyPatch.context() as patch, prepared_here(), ExitStack() as stack:
        for name, value in bucket.variables.items():
            patch.setenv(name, value)

        def named(name: str) -> Site:
            patch.setenv(postgres.VARIABLE, database)
            home = folder / name
            home.mkdir()
            (home / "dagster.yaml").write_text(yaml.safe_dump(bucket.instance))
            instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
            if not first:
                warehouse = folder / "warehouse.duckdb"
                site = Site.of(folder, instance, keep_revisions=1, duckdb_path=warehouse)
                first.append(site)
            settings = first[0].settings.model_copy(update={"state_dir": home / "state"})
            return replace(first[0], instance=instance, settings=settings, cursors={}, loaded={})

        yield named


@pytest.fixture(scope="module")
def code_server(machine: Machine) -> Site:
    """It has prepared the first commit, and another machine has built it."""
    site = machine("code-server")
    asked = site.request()
    away = site.clone.remote.rename(site.clone.home / "away.git")
    pod = machine("pod")  # which cannot prepare anything itself
    pod.load()
    assert pod.run(asked).success
    away.rename(site.clone.remote)
    return site


def digest_at(site: Site) -> str:
    return str(published("prod", site.instance.defs_state_storage))


def test_what_one_machine_has_prepared_another_one_builds(code_server: Site) -> None:
    assert "nothing is due" in code_server.says()
    assert code_server.query("select orders from main.totals") == [(4,)]


def refusal(bucket: Bucket, *actions: str) -> str:
    """A policy of the bucket."""
    deny = {"Effect": "Deny", "Principal": "*", "Action": [f"s3:{each}" for each in actions]}
    deny["Resource"] = f"arn:aws:s3:::{bucket.name}/*"
    return json.dumps({"Version": "2012-10-17", "Statement": [deny]})


def test_what_is_wrong_with_the_bucket_is_one_line_and_is_over_by_itself(
    code_server: Site, machine: Machine, bucket: Bucket
) -> None:
    first = digest_at(code_server)

    def cannot_store(said: str) -> None:
        """A tick goes on with what is loaded; a run says where it has looked."""
        code_server.tick()
        [problem, *_, last] = findings(code_server.cursors["prod"])
        assert problem.outcome is Outcome.NOT_STORED
        assert last.outcome is Outcome.NOTHING_DUE
        line = str(problem)
        assert f"cannot be stored in s3://{bucket.name}/states: " in line
        assert said in line
        assert line.endswith(". It is tried again.")
        assert "\n" not in line

    def cannot_fetch(name: str, said: str) -> None:
        pod = machine(name)
        assert pod.load().resolve_sensor_def("prod_push")
        with pytest.raises(PrepareError) as refused:
            open_revision(pod.settings, "prod", digest_at(code_server))
        line = str(refused.value)
        assert f"{digest_at(code_server)} " in line
        assert f"s3://{bucket.name}/states" in line
        assert said in line
        assert "\n" not in line

    code_server.clone.push("while it cannot be reached")
    bucket.stop()
    cannot_store("Could not connect to the endpoint URL")
    cannot_fetch("a", "Check that it can be reached from this machine")
    assert digest_at(code_server) == first
    bucket.start()
    assert "nothing is due" in code_server.says()
    assert digest_at(code_server) != first

    bucket.lose()
    code_server.tick()
    assert "Make the bucket, or correct base_path" in str(findings(code_server.cursors["prod"])[0])
    cannot_fetch("b", "it is not there")
    assert bucket.client.list_buckets()["Buckets"] == []
    bucket.make()
    code_server.tick()
    [stored] = bucket.stored
    assert stored.endswith(digest_at(code_server))

    code_server.clone.push("while it refuses")
    bucket.client.put_bucket_policy(Bucket=bucket.name, Policy=refusal(bucket, "PutObject"))
    cannot_store("Let this machine's role")
    bucket.client.put_bucket_policy(
        Bucket=bucket.name, Policy=refusal(bucket, "GetObject", "DeleteObject")
    )
    # Old ones that cannot be removed keep nobody from loading the new one.
    bucket.client.put_object(Bucket=bucket.name, Key=f"{stored}-old", Body=b"")
    assert "nothing is due" in code_server.says()
    assert f"{stored}-old" in bucket.stored
    cannot_fetch("c", "Let this machine's role")
    bucket.client.delete_bucket_policy(Bucket=bucket.name)


def test_old_revisions_go_whichever_machine_has_stored_them(
    code_server: Site, machine: Machine, bucket: Bucket
) -> None:
    """Those of machines that are not there any more, and stored since the bucket was listed."""
    first, key = digest_at(code_server), f"states/{state_key('prod').replace('/', '__')}"
    others = [f"{each * 40}-00000000" for each in "ab"]
    for other in others:
        copy = {"Bucket": bucket.name, "Key": f"{key}/{first}"}
        bucket.client.copy_object(Bucket=bucket.name, Key=f"{key}/{other}", CopySource=copy)
    assert open_revision(code_server.settings, "prod", others[0]).digest == others[0]
    # What a run has still to open stays, and what is loaded, and what is published.
    job = code_server.loaded["prod"].resolve_implicit_global_asset_job_def()
    launched_by(code_server.instance, job, others[1])
    code_server.clone.push("another")
    code_server.says()
    stay = [first, others[1], digest_at(code_server)]
    assert sorted(bucket.stored) == sorted(f"{key}/{each}" for each in stay)
