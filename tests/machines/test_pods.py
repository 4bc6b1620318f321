"""Each run in a pod of its own: dagster-k8s' own launcher, against an API that we serve."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
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
from tests.automation.site import Site, prepared_here
from tests.e2e.running import until
from tests.machines.conftest import KEYS, Bucket
from tests.machines.kubernetes_api import Cluster, serving
from tests.postgres.server import PASSWORD

ENDED = {dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED}
SECRETS = {PASSWORD, KEYS["AWS_SECRET_ACCESS_KEY"], "sn0wflake-s3cret"}
ENDLESS = (
    "select count(*) as orders from range(1000000) a, range(1000000) b where a.range > b.range"
)


@pytest.fixture
def cluster(database: str, bucket: Bucket, tmp_path: Path) -> Iterator[Cluster]:
    """Its Secret has all that the chart has pods take from one."""
    secret = {
        **bucket.variables,
        postgres.VARIABLE: database,
        "DBT_ENV_SECRET_PASSWORD": "sn0wflake-s3cret",
        CONFIG_VARIABLE: str(tmp_path / "environments.yaml"),
        # Of the pod's own disk.
        "DBT_ORCHESTRATION_STATE_DIR": "state",
    }
    (tmp_path / "pods").mkdir()
    with serving(Cluster({"dagster-env": secret}, tmp_path / "pods")) as cluster:
        yield cluster


@pytest.fixture
def site(
    cluster: Cluster, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Site]:
    for name, value in cluster.secrets["dagster-env"].items():
        if name.startswith(("AWS_", postgres.VARIABLE)):
            monkeypatch.setenv(name, value)
    server = {"name": "c", "cluster": {"server": f"http://127.0.0.1:{cluster.port}"}}
    kubeconfig = {
        **{"apiVersion": "v1", "kind": "Config", "current-context": "c", "clusters": [server]},
        **{"users": [{"name": "u", "user": {}}]},
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    }
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(kubeconfig))
    launcher = {
        "module": "dagster_k8s",
        "class": "K8sRunLauncher",
        "config": {
            "load_incluster_config": False,
            "kubeconfig_file": str(tmp_path / "kubeconfig"),
            "service_account_name": "dagster-run",
            "job_namespace": "dagster",
            "instance_config_map": "dagster-instance",
            "dagster_home": "/opt/dagster/home",
            "env_secrets": ["dagster-env"],
        },
    }
    home = tmp_path / "code-server"
    home.mkdir()
    (home / "dagster.yaml").write_text(
        yaml.safe_dump({**bucket.instance, "run_launcher": launcher})
    )
    with prepared_here(), dg.DagsterInstance.from_config(str(home)) as instance:
        site = Site.of(tmp_path, instance)
        site.settings.make_state_dir()
        settings = site.settings
        stated = {
            "project_dir": str(settings.project_dir),
            "profiles_dir": str(settings.profiles_dir),
            "duckdb_path": str(settings.duckdb_path),
            "git": {"remote": settings.git.remote, "project_path": "dbt"},
            "load_raw": False,
            "environments": {"prod": {"branch": "main", "target": "prod"}},
        }
        (tmp_path / "environments.yaml").write_text(yaml.safe_dump(stated))
        yield site


def launch(site: Site) -> str:
    """What the daemon does with what the push sensor asks for; the run's id."""
    request, instance = site.request(), site.instance
    job = site.loaded["prod"].resolve_implicit_global_asset_job_def()
    selected = frozenset(request.asset_selection or ())
    job = job.get_subset(asset_selection=selected)
    digest = str(published("prod", instance.defs_state_storage))
    pinned = {"dbt_orchestration/prod": CodeLocationReconstructionMetadataValue(digest)}
    data = RepositoryLoadData(reconstruction_metadata=pinned)
    code = ModuleCodePointer("dbt_orchestration.definitions", "prod", None)
    origin = RepositoryPythonOrigin(sys.executable, code, "acme/dbt-orchestration:1", ["dagster"])
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


def status(site: Site, run_id: str) -> dg.DagsterRunStatus:
    run = site.instance.get_run_by_id(run_id)
    assert run is not None
    return run.status


def ended(site: Site, run_id: str) -> dg.DagsterRunStatus | None:
    return found if (found := status(site, run_id)) in ENDED else None


def test_a_push_is_built_in_a_pod_with_an_empty_disk_and_a_terminated_run_has_none_left(
    site: Site, cluster: Cluster
) -> None:
    run = launch(site)
    found = until(lambda: ended(site, run))
    [first] = cluster.processes
    assert found is dg.DagsterRunStatus.SUCCESS, cluster.log(first)
    assert site.query("select orders from main.totals") == [(4,)]
    assert "nothing is due" in site.says()
    cluster.processes[first].wait()

    site.clone.write("models/totals.sql", ENDLESS)
    site.clone.push("never ends")
    run = launch(site)
    second = list(cluster.processes)[-1]
    started = dg.DagsterEventType.STEP_START
    until(lambda: site.instance.get_records_for_run(run, of_type=started).records or None)
    assert site.instance.run_launcher.terminate(run)
    assert cluster.deleted == [second]
    assert until(lambda: ended(site, run)) is dg.DagsterRunStatus.CANCELED, cluster.log(second)
    cluster.processes[second].wait()
    # It stopped in the middle: what was there is there, and due.
    assert site.query("select orders from main.totals") == [(4,)]

    # Each Job is one that Kubernetes takes, and says no secret. Nothing is left of a pod's disk.
    assert len(cluster.posted) == 2
    for job in cluster.posted:
        kubernetes_validate.validate(job, "1.35", strict=True)
        assert not [secret for secret in SECRETS if secret in json.dumps(job)]
    until(lambda: not [path for path in cluster.folder.iterdir() if path.is_dir()] or None)
