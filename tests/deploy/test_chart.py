"""The chart without a cluster: what Kubernetes, Dagster and our settings say of what it makes."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dagster as dg
import dagster_k8s.client
import kubernetes
import kubernetes_validate
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef
from dagster_k8s.job import construct_dagster_k8s_job

from dbt_orchestration.settings.models import CONFIG_VARIABLE, load_settings
from dbt_orchestration.webserver import OWN_PAGES, VARIABLE
from tests.conftest import INSTANCE
from tests.deploy.conftest import CHART, Render, data_of, editors_login, pod_specs

BOTH = pytest.mark.parametrize("values", ["values-dev.yaml", "values-prod.yaml"])
KUBERNETES = "1.35"


@BOTH
def test_every_manifest_is_one_of_kubernetes(values: str, render: Render, helm: str) -> None:
    subprocess.run([helm, "lint", CHART, "--strict", "--values", CHART / values], check=True)
    manifests = render(values)
    for each in manifests:
        kubernetes_validate.validate(each, KUBERNETES, strict=True)
    names = [(each["kind"], each["metadata"]["name"]) for each in manifests]
    assert len(names) == len(set(names))
    for spec in pod_specs(manifests):
        # Else a Service of ours becomes a variable that is taken for a setting.
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        mounted = {each["name"] for each in spec["containers"][0]["volumeMounts"]}
        assert mounted == {each["name"] for each in spec["volumes"]}


@BOTH
def test_dagster_takes_what_the_chart_says_to_it(
    values: str, render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = render(values)
    instance = data_of(manifests, "dagster-instance")
    migrate = data_of(manifests, "dagster-migrate")
    monkeypatch.setattr(kubernetes.config, "load_incluster_config", lambda **_: None)
    monkeypatch.setenv("DAGSTER_PG_PASSWORD", "s3cret")
    for text in (migrate["dagster.yaml"], instance["dagster.yaml"]):
        (tmp_path / "dagster.yaml").write_text(text)
        ref = InstanceRef.from_dir(str(tmp_path))
        said = ref.storage_data.config_yaml if ref.storage_data else ""
        # The plain scheme is another driver, with which Dagster fails at the first event.
        scheme = yaml.safe_load(said)["postgres_db"]["scheme"]
        assert scheme == "postgresql+psycopg2"
        assert "s3cret" not in str(ref)
    assert isinstance(ref.defs_state_storage, dg.UPathDefsStateStorage)
    assert str(ref.defs_state_storage.base_path).startswith("s3://acme-dagster")
    assert type(ref.compute_log_manager).__name__ == "S3ComputeLogManager"

    # A run's pod is made of it, too.
    launcher: Any = ref.run_launcher
    run = dg.DagsterRun(job_name="prod_full_build")
    context = launcher.get_container_context_for_run(run)
    job = construct_dagster_k8s_job(
        context.get_k8s_job_config(job_image="acme/image:1", run_launcher=launcher),
        ["dagster", "api", "execute_run"],
        "dagster-run-1",
        user_defined_k8s_config=context.run_k8s_config,
    )
    manifest = kubernetes.client.ApiClient().sanitize_for_serialization(job)
    kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
    # A secret is a reference, in the pod and in what travels with the run.
    assert "s3cret" not in json.dumps(manifest)
    spec = manifest["spec"]["template"]["spec"]
    assert spec["enableServiceLinks"] is False
    assert spec["automountServiceAccountToken"] is False
    # It sees what the code server saw that it was launched from.
    server = next(s for s in pod_specs(manifests) if s["containers"][0]["name"] == "code-server")
    for key in ("env", "envFrom", "volumeMounts"):
        ours, theirs = (
            sorted(json.dumps(each, sort_keys=True) for each in s["containers"][0].get(key, []))
            for s in (spec, server)
        )
        # But for the name of its job.
        assert [each for each in ours if "DAGSTER_RUN" not in each] == theirs, key


@BOTH
def test_it_is_our_dagster_but_for_what_is_of_kubernetes(values: str, render: Render) -> None:
    theirs = yaml.safe_load(data_of(render(values), "dagster-instance")["dagster.yaml"])
    ours = yaml.safe_load(INSTANCE.read_text())
    assert theirs.keys() - ours.keys() == {"storage", "defs_state_storage", "compute_logs"}
    for name in ("run_launcher", "concurrency", "run_monitoring"):
        said, other = ours.pop(name), theirs[name]
        assert said.keys() <= other.keys(), name
    assert ours == {name: theirs[name] for name in ours}


@BOTH
def test_each_environment_is_a_code_location(
    values: str, render: Render, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifests = render(values)
    written = data_of(manifests, "dagster-settings")
    files = [tmp_path / name for name in ("id", "known_hosts", "profiles.yml", "environments.yaml")]
    for file in files:
        file.write_text(written.get(file.name, "").replace("/etc/secrets/git", str(tmp_path)))
    monkeypatch.setenv(CONFIG_VARIABLE, str(files[-1]))
    monkeypatch.setenv("DBT_ORCHESTRATION_STATE_DIR", str(tmp_path / "state"))
    settings = load_settings()

    workspace = yaml.safe_load(data_of(manifests, "dagster-instance")["workspace.yaml"])
    servers = {s["grpc_server"]["location_name"]: s["grpc_server"] for s in workspace["load_from"]}
    services = {s["metadata"]["name"]: s["spec"] for s in manifests if s["kind"] == "Service"}
    assert servers.keys() == settings.environments.keys()
    for name, server in servers.items():
        service = services[server["host"]]
        assert service["ports"][0]["port"] == server["port"]
        [deployment] = [
            each["spec"]["template"]
            for each in manifests
            if each["kind"] == "Deployment"
            and service["selector"].items() <= each["spec"]["selector"]["matchLabels"].items()
        ]
        [check] = deployment["spec"]["initContainers"]
        [container] = deployment["spec"]["containers"]
        assert check["args"][:3] == ["dagster", "definitions", "validate"]
        assert container["args"][:3] == ["dagster", "code-server", "start"]
        for arguments in (check["args"], container["args"]):
            assert arguments[arguments.index("--attribute") + 1] == name
        assert all(check[key] == container[key] for key in ("image", "env", "volumeMounts"))


def test_the_launcher_may_do_what_dagster_asks_of_kubernetes(render: Render) -> None:
    [role] = [each for each in render("values-dev.yaml") if each["kind"] == "Role"]
    allowed = {
        (resource, verb)
        for rule in role["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    words = {"create": "create", "delete": "delete", "read": "get", "list": "list"}
    source = Path(dagster_k8s.client.__file__).read_text()
    called = set(re.findall(r"_api\.(create|delete|read|list)_namespaced_(\w+)\(", source))
    what = {"job": "jobs", "job_status": "jobs/status", "pod": "pods", "pod_log": "pods/log"}
    # What is read of a job itself is read with its pods.
    asked = {(what.get(thing, f"{thing}s"), words[verb]) for verb, thing in called}
    assert asked
    assert asked <= allowed


@BOTH
def test_only_the_daemon_ends_before_its_successor_starts(values: str, render: Render) -> None:
    specs = deployments(render(values))
    ways = {name: spec.get("strategy", {}).get("type") for name, spec in specs.items()}
    assert [name for name, way in ways.items() if way == "Recreate"] == ["dagster-daemon"]
    assert specs["dagster-daemon"]["replicas"] == 1


@pytest.mark.parametrize("twice", ["", "webserver", "viewer", "proxy"])
def test_of_what_runs_twice_one_always_stays(twice: str, render: Render) -> None:
    replicas = {name: 1 + (name == twice) for name in ("webserver", "viewer", "proxy")}
    options = [f"--set={name}.replicas={number}" for name, number in replicas.items()]
    manifests = render("values-dev.yaml", *options)
    budgets = {
        each["metadata"]["name"]: each["spec"]
        for each in manifests
        if each["kind"] == "PodDisruptionBudget"
    }
    # With one replica a budget would keep a node from ever being drained.
    assert [*budgets] == ([f"dagster-{twice}"] if twice else [])
    for name, budget in budgets.items():
        selector = deployments(manifests)[name]["selector"]
        assert budget == {"minAvailable": 1, "selector": selector}


# The proxy listens as soon as it is started. Nobody calls the daemon, so nobody has to know whether
# it is ready; whether it lives is first asked when it has had time to say so in the database.
PROBES = {
    "code-server": {"startupProbe", "readinessProbe", "livenessProbe"},
    "webserver": {"startupProbe", "readinessProbe", "livenessProbe"},
    "proxy": {"readinessProbe", "livenessProbe"},
    "daemon": {"livenessProbe"},
}


@BOTH
def test_kubernetes_asks_each_container_how_it_is(values: str, render: Render) -> None:
    specs = deployments(render(values)).values()
    containers = [each for spec in specs for each in spec["template"]["spec"]["containers"]]
    assert {each["name"] for each in containers} == PROBES.keys()
    for each in containers:
        probes = {key: probe for key, probe in each.items() if key.endswith("Probe")}
        assert probes.keys() == PROBES[each["name"]]
        ports = {port[key] for port in each.get("ports", []) for key in ("name", "containerPort")}
        for probe in probes.values():
            [asked] = [
                probe[way] for way in ("grpc", "httpGet", "tcpSocket", "exec") if way in probe
            ]
            assert "command" in asked or asked["port"] in ports
        if each["name"] == "daemon":
            assert probes["livenessProbe"]["initialDelaySeconds"] == 120


@BOTH
def test_each_container_says_what_it_needs_and_has_a_limit(values: str, render: Render) -> None:
    manifests = render(values)
    instance = yaml.safe_load(data_of(manifests, "dagster-instance")["dagster.yaml"])
    containers = [
        instance["run_launcher"]["config"],
        *(each for spec in pod_specs(manifests) for each in spec["containers"]),
        *(each for spec in pod_specs(manifests) for each in spec.get("initContainers", [])),
    ]
    for each in containers:
        assert each["resources"]["requests"].keys() == {"cpu", "memory"}
        # A limit of processors would only slow it down.
        assert "memory" in each["resources"]["limits"]


@BOTH
def test_each_pod_has_the_role_that_values_give(values: str, render: Render) -> None:
    manifests = render(values)
    roles = {
        each["metadata"]["name"]: each["metadata"].get("annotations")
        for each in manifests
        if each["kind"] == "ServiceAccount"
    }
    given = yaml.safe_load((CHART / values).read_text())["serviceAccounts"]
    assert roles == {f"dagster-{name}": said["annotations"] for name, said in given.items()}
    assert all("eks.amazonaws.com/role-arn" in annotations for annotations in roles.values())

    accounts = {
        "code": "dagster-code",
        "daemon": "dagster-launcher",
        "webserver": "dagster-launcher",
        "viewer": "dagster-viewer",
        "proxy": None,
    }
    for name, spec in deployments(manifests).items():
        account = spec["template"]["spec"].get("serviceAccountName")
        assert account == accounts[name.split("-")[1]], name
    instance = yaml.safe_load(data_of(manifests, "dagster-instance")["dagster.yaml"])
    assert instance["run_launcher"]["config"]["service_account_name"] == "dagster-run"


WRONG = {
    "image.tag=latest": "at '/image/tag': 'latest' does not match pattern",
    "image.tga=1": "at '/image': additional properties 'tga' not allowed",
    "image.repository=null": "at '/image/repository': got null, want string",
    "postgres.port=0": "at '/postgres/port': minimum: got 0, want 1",
    "settings.git.token=abc": "at '/settings/git/token': value must be 'in a Secret of envSecrets",
    "settings.environments.Prod.branch=main": "'Prod' does not match pattern",
    "settings.environments.dev.branch=null": "environments/dev/branch': got null, want string",
    "proxy.oidc.issuer=http://login.acme.com": "at '/proxy/oidc/issuer': 'http://login.acme.com'",
    "proxy.editors=null": "at '/proxy/editors': got null, want array",
    "daemon.replicas=2": "at '/daemon/replicas': maximum: got 2, want 1",
    "bucket.name=s3://acme": "at '/bucket/name': 's3://acme' does not match pattern",
    "env.DAGSTER_OWN_PAGES=true": "value must be 'in webserver.ownPages'",
    "runs.stateSize=5": "at '/runs/stateSize': got number, want string",
}


def test_wrong_values_are_refused_by_name(
    template: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    for wrong, said in WRONG.items():
        done = template("values-dev.yaml", ["--set", wrong])
        assert done.returncode != 0, wrong
        assert said in done.stderr, (wrong, done.stderr)
        assert done.stdout == ""


def test_without_a_proxy_there_is_none_and_nothing_is_asked_of_it(render: Render) -> None:
    manifests = render("values-dev.yaml", "--set", "proxy.enabled=false")
    assert not [each for each in manifests if "proxy" in each["metadata"]["name"]]
    assert not [each for each in manifests if each["kind"] == "Ingress"]
    # Whatever the login is, another web page cannot use it, and nobody names a header of users.
    assert editors_login(manifests) == {OWN_PAGES: "true"}
    own = ("--set", "proxy.enabled=false", "--set", "webserver.ownPages=false")
    header = ("--set", "webserver.userHeader=X-Forwarded-Email")
    stated = editors_login(render("values-dev.yaml", *own, *header))
    assert stated == {OWN_PAGES: "false", VARIABLE: "X-Forwarded-Email"}
    # The proxy of ours has both tasks.
    assert editors_login(render("values-dev.yaml")) == {VARIABLE: "X-Forwarded-User"}


def deployments(manifests: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What each is to be, by its name."""
    return {
        each["metadata"]["name"]: each["spec"] for each in manifests if each["kind"] == "Deployment"
    }
