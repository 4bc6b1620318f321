"""Each run on a host of its own: dagster-k8s' own launcher, against an API that we serve.

The code server, whose daemon is played by the tests, PostgreSQL, the bucket and a Snowflake are on
one host; each run's Job is on another one, which reaches them by network alone. The tests are in
the order of a story.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import dagster as dg
import kubernetes_validate
import pytest
import yaml
from dagster._core.code_pointer import ModuleCodePointer
from dagster._core.definitions.metadata.metadata_value import (
    CodeLocationReconstructionMetadataValue,
)
from dagster._core.definitions.repository_definition.repository_definition import (
    RepositoryLoadData,
)
from dagster._core.execution.api import create_execution_plan
from dagster._core.origin import JobPythonOrigin, RepositoryPythonOrigin

from dbt_orchestration.dbt.internals import adapters
from dbt_orchestration.revisions.store import published
from dbt_orchestration.settings import postgres
from dbt_orchestration.settings.models import CONFIG_VARIABLE
from tests.automation.site import SHOP, Clone, Site, follow, prepared_here
from tests.conftest import EVERY_NODE, clean_environment
from tests.e2e.running import until
from tests.machines.conftest import KEYS, Bucket
from tests.machines.kubernetes_api import Cluster, serving
from tests.machines.network import Network, networked
from tests.postgres.server import PASSWORD, Server
from tests.snowflake.emulator import Emulator, running_emulator
from tests.snowflake.test_snowflake import PROFILE, pytestmark, set_environment  # noqa: F401

ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
# Asks until somebody opens it.
GATE = """\
{% macro wait() %}{% if execute %}
  {% set gate = namespace(open=false) %}
  {% for n in range(100000) if not gate.open %}
    {% set gate.open = run_query("select count(*) from ANALYTICS.SHOP.gate").rows[0][0] > 0 %}
  {% endfor %}
{% endif %}{% endmacro %}
"""
GATED = """\
{{ config(pre_hook="{{ wait() }}") }}
select sum(orders) as orders from {{ ref("customers") }}
"""


@dataclass
class Hosts:
    """What each host reaches, and the code server that there is now."""

    site: Site
    cluster: Cluster
    network: Network
    bucket: Bucket
    emulator: Emulator
    database: Server
    folder: Path
    environment: Mapping[str, str]

    def orders(self) -> list[tuple[int]]:
        return self.emulator.execute("select orders from shop.totals")

    def launch(self, request: dg.RunRequest | None = None) -> str:
        """What the daemon does with what the push sensor asks for; the run's id."""
        request, site = request or self.site.request(), self.site
        instance, job = site.instance, site.loaded["prod"].resolve_implicit_global_asset_job_def()
        selected = frozenset(request.asset_selection or ())
        job = job.get_subset(asset_selection=selected)
        digest = str(published("prod", instance.defs_state_storage))
        pinned = {"dbt_orchestration/prod": CodeLocationReconstructionMetadataValue(digest)}
        data = RepositoryLoadData(reconstruction_metadata=pinned)
        code = ModuleCodePointer("dbt_orchestration.definitions", "prod", None)
        origin = RepositoryPythonOrigin(
            sys.executable, code, "acme/dbt-orchestration:1", ["dagster"]
        )
        run = instance.create_run_for_job(
            job,
            execution_plan=create_execution_plan(job)._replace(repository_load_data=data),
            asset_selection=selected,
            run_config=request.run_config,
            tags=dict(request.tags),
            job_code_origin=JobPythonOrigin(job.name, origin),
        )
        adapters.close_duckdb()
        instance.launch_run(run.run_id, None)  # type: ignore[arg-type]
        return run.run_id

    def status(self, run_id: str) -> dg.DagsterRunStatus:
        run = self.site.instance.get_run_by_id(run_id)
        assert run is not None
        return run.status

    def end(self, run_id: str) -> dg.DagsterRunStatus:
        """How a run ends."""
        found = until(lambda: found if (found := self.status(run_id)) in ENDED else None)
        self.cluster.processes[list(self.cluster.processes)[-1]].wait()
        return found

    @property
    def said(self) -> str:
        """By the last pod."""
        return self.cluster.log(list(self.cluster.processes)[-1])

    def push_gated(self, code: str) -> str:
        """Push what builds only once the gate is open; the run, which waits for it."""
        self.emulator.execute("create or replace table shop.gate as select 1 as one where false")
        self.site.clone.write("models/totals.sql", GATED.replace("sum(orders)", code))
        self.site.clone.push(code)
        asked = len(self.emulator.statements)
        run = self.launch()
        until(
            lambda: any("shop.gate" in s.lower() for s in self.emulator.statements[asked:]) or None
        )
        return run

    def open_gate(self) -> None:
        self.emulator.execute("insert into shop.gate select 1")


@pytest.fixture(scope="module")
def hosts(
    database: str, server: Server, bucket: Bucket, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Hosts]:
    folder = tmp_path_factory.mktemp("hosts")
    image, pods, own = folder / "image", folder / "pods", folder / "machine"
    for each in (image, image / "state", pods, own):
        each.mkdir()
    shutil.copy(EVERY_NODE / "profiles.yml", image)
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        clean_environment(patch)
        network = stack.enter_context(networked(own, image / "state"))
        emulator = stack.enter_context(running_emulator(network.address))
        bucket.host = network.address
        # All that the chart has pods take from a Secret, and from its values.
        secret = {
            **bucket.variables,
            **emulator.environment,
            postgres.VARIABLE: database.replace("127.0.0.1", network.address),
            CONFIG_VARIABLE: str(image / "environments.yaml"),
            "DBT_ORCHESTRATION_STATE_DIR": str(image / "state"),
            "DBT_ORCHESTRATION_GIT__TOKEN": "git-s3cret",
        }
        environment = {
            name: value
            for name, value in secret.items()
            if name.startswith(("AWS_", "SNOWFLAKE_", "DBT_ENV", postgres.VARIABLE))
            or name.endswith("_TOKEN")
        }
        set_environment(patch, environment)
        cluster = stack.enter_context(serving(Cluster({"dagster-env": secret}, pods, network)))
        home = own / "first"
        _write_instance(home, bucket, cluster)
        stack.enter_context(prepared_here())
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(home)))
        clone = Clone(own, SHOP)
        (clone.folder / "dbt" / "macros").mkdir()
        clone.write("macros/wait.sql", GATE)
        clone.push("a gate")
        settings = follow(own, str(clone.remote), profile=PROFILE, profiles_dir=image)
        settings.make_state_dir()
        stated = {
            "profile": PROFILE,
            "profiles_dir": str(image),
            "git": {"remote": settings.git.remote, "project_path": "dbt"},
            "load_raw": False,
            "environments": {"prod": {"branch": "main", "target": "prod"}},
        }
        (image / "environments.yaml").write_text(yaml.safe_dump(stated))
        site = Site(clone, instance, settings)
        yield Hosts(site, cluster, network, bucket, emulator, server, own, environment)
        bucket.host = "127.0.0.1"


@pytest.fixture(autouse=True)
def _environment(hosts: Hosts, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before each test all that is set on this machine is forgotten."""
    set_environment(monkeypatch, hosts.environment)


def _write_instance(home: Path, bucket: Bucket, cluster: Cluster) -> None:
    """Write the dagster.yaml of a code server."""
    at = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{cluster.port}"}}
    kubeconfig = {
        **{"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [at]},
        **{"users": [{"name": "u", "user": {}}]},
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    home.mkdir()
    (home / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    launcher = {
        "module": "dagster_k8s",
        "class": "K8sRunLauncher",
        "config": {
            "load_incluster_config": False,
            "kubeconfig_file": str(home / "kubeconfig"),
            "service_account_name": "dagster-run",
            "job_namespace": "dagster",
            "instance_config_map": "dagster-instance",
            "dagster_home": "/opt/dagster/home",
            "env_secrets": ["dagster-env"],
        },
    }
    (home / "dagster.yaml").write_text(
        yaml.safe_dump({**bucket.instance, "run_launcher": launcher})
    )


def test_another_host_reaches_what_is_shared_and_sees_nothing_of_this_ones_disk(
    hosts: Hosts,
) -> None:
    if hosts.network.why_not:
        pytest.skip(hosts.network.why_not)
    port = hosts.cluster.port  # served on this machine's loopback alone
    script = (
        "import os, socket, sys\n"
        f"print(os.listdir({str(hosts.folder)!r}))\n"
        f"socket.create_connection(({hosts.network.address!r}, {hosts.bucket.port}), 30).close()\n"
        f"try: socket.create_connection(('127.0.0.1', {port}), 30)\n"
        "except OSError as error: print(error.strerror)\n"
    )
    command = hosts.network.on_another([sys.executable, "-c", script])
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout.splitlines() == ["[]", "Connection refused"]


def test_a_push_is_built_on_another_host(hosts: Hosts) -> None:
    assert hosts.end(hosts.launch()) is dg.DagsterRunStatus.SUCCESS, hosts.said
    assert hosts.orders() == [(4,)]
    assert "nothing is due" in hosts.site.says()


def test_a_run_that_is_terminated_leaves_no_job_and_no_query(hosts: Hosts) -> None:
    run = hosts.push_gated("sum(orders) + 1")
    assert hosts.site.instance.run_launcher.terminate(run)
    assert hosts.end(run) is dg.DagsterRunStatus.CANCELED, hosts.said
    assert hosts.cluster.deleted == [list(hosts.cluster.processes)[-1]]
    assert not hosts.emulator.running
    # It stopped in the middle: what was there is there, and due.
    assert hosts.orders() == [(4,)]


def test_a_run_goes_on_while_its_code_server_is_replaced(hosts: Hosts) -> None:
    run, old = hosts.push_gated("sum(orders) + 2"), hosts.site
    new = hosts.folder / "second"
    _write_instance(new, hosts.bucket, hosts.cluster)
    with ExitStack() as stack:
        instance = stack.enter_context(dg.DagsterInstance.from_config(str(new)))
        settings = old.settings.model_copy(update={"state_dir": new / "state"})
        hosts.site = replace(old, instance=instance, settings=settings, cursors={}, loaded={})
        shutil.rmtree(old.settings.state_dir)
        shutil.rmtree(hosts.folder / "first")
        assert "waiting for run" in hosts.site.says()
        hosts.open_gate()
        assert hosts.end(run) is dg.DagsterRunStatus.SUCCESS, hosts.said
        assert hosts.orders() == [(6,)]
        assert "nothing is due" in hosts.site.says()
        stack.pop_all()


def test_a_run_goes_on_after_the_database_was_restarted(hosts: Hosts) -> None:
    run = hosts.push_gated("sum(orders) + 3")
    hosts.database.restart()
    hosts.open_gate()
    assert hosts.end(run) is dg.DagsterRunStatus.SUCCESS, hosts.said
    assert hosts.orders() == [(7,)]
    assert "nothing is due" in hosts.site.says()


def test_a_run_that_cannot_reach_the_bucket_says_so_and_is_built_once_it_is_there(
    hosts: Hosts,
) -> None:
    hosts.site.clone.write("models/totals.sql", "select 8 as orders")
    hosts.site.clone.push("eight")
    request = hosts.site.request()
    hosts.bucket.stop()
    failed = hosts.launch(request)
    assert hosts.end(failed) is dg.DagsterRunStatus.FAILURE
    told = " ".join(str(event) for event in hosts.site.instance.all_logs(failed))
    assert "Check that it can be reached from this machine" in told
    hosts.bucket.start()
    assert hosts.end(hosts.launch(request)) is dg.DagsterRunStatus.SUCCESS, hosts.said
    assert hosts.orders() == [(8,)]
    assert "nothing is due" in hosts.site.says()


def test_each_job_is_one_that_kubernetes_takes_and_says_no_secret(hosts: Hosts) -> None:
    secrets = {PASSWORD} | {
        value
        for name, value in hosts.environment.items()
        if any(word in name for word in ("PASSWORD", "SECRET", "TOKEN"))
    }
    assert secrets > {KEYS["AWS_SECRET_ACCESS_KEY"], "git-s3cret"}
    assert len(hosts.cluster.posted) >= 6
    for job in hosts.cluster.posted:
        kubernetes_validate.validate(job, "1.35", strict=True)
        assert not [secret for secret in secrets if secret in json.dumps(job)]
    # Nothing is left of a pod's disk.
    until(lambda: not [each for each in hosts.cluster.folder.iterdir() if each.is_dir()] or None)
