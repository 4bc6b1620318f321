"""The images, and Dagster on one machine: what their files say, without building any of it."""

from __future__ import annotations

import configparser
import itertools
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from string import Template

import dagster as dg
import pytest
import yaml
from dagster._core.instance.ref import InstanceRef

from dbt_orchestration.webserver import OWN_PAGES, VARIABLE
from tests.conftest import INSTANCE, REPOSITORY
from tests.deploy.conftest import CHART, DEPLOY, Render, pod_specs

HADOLINT = Path(sys.executable).parent / "hadolint"
SYSTEMD = shutil.which("systemd-analyze") or ""


@pytest.mark.skipif(not HADOLINT.is_file(), reason="there is no hadolint for this kind of machine")
def test_the_images_are_made_as_they_should_be() -> None:
    files = [DEPLOY / "Containerfile", DEPLOY / "Containerfile.proxy"]
    done = subprocess.run([HADOLINT, *files], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_has_extras_that_there_are() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    text = (DEPLOY / "Containerfile").read_text()
    [line] = [line for line in text.splitlines() if line.startswith("ARG EXTRAS=")]
    named = {*line.split('"')[1].split()} - {"--extra"}
    assert named <= {*project["optional-dependencies"]}


@pytest.mark.parametrize(
    ("message", "ends"),
    [
        ("DATA-123: wrong totals", "-DATA-123"),
        ("A comment", ""),
        ("Fix DATA-1 and DATA-2", "-DATA-1"),
        ("Fix totals\n\nfor DATA-3", "-DATA-3"),
    ],
)
def test_a_tag_says_version_commit_and_ticket(message: str, ends: str, tmp_path: Path) -> None:
    (tmp_path / "deploy").mkdir()
    shutil.copy(DEPLOY / "image-tag.sh", tmp_path / "deploy")
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    who = {
        f"GIT_{role}_{what}": "a@b.c"
        for role in ("AUTHOR", "COMMITTER")
        for what in ("NAME", "EMAIL")
    }
    environment = {**os.environ, **who}

    def run(*command: str) -> str:
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    run("git", "init", "--quiet")
    run("git", "commit", "--quiet", "--allow-empty", "--message", message)
    version = tomllib.loads((tmp_path / "pyproject.toml").read_text())["project"]["version"]
    assert (
        run("deploy/image-tag.sh")
        == f"{version}-{run('git', 'rev-parse', '--short=10', 'HEAD')}{ends}"
    )


@pytest.mark.parametrize(
    ("schema", "file"),
    [("compose-spec", "compose.yaml"), ("github-workflows", "pipeline.github.yml")],
)
def test_those_who_read_it_know_each_of_its_keys(schema: str, file: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}"]
    done = subprocess.run([*command, DEPLOY / file], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_pipeline_installs_what_it_has_built(render: Render) -> None:
    [job] = yaml.safe_load((DEPLOY / "pipeline.github.yml").read_text())["jobs"].values()
    said = {**job["env"], "TAG": "0.1.0-3f2a9c1d20"}
    commands = [
        shlex.split(Template(step["run"]).safe_substitute(said))
        for step in job["steps"]
        if "run" in step
    ]
    built = {
        command[command.index("-t") + 1]: command[command.index("-f") + 1]
        for command in commands
        if command[:2] == ["docker", "build"]
    }
    files = {str(file.relative_to(REPOSITORY)) for file in DEPLOY.glob("Containerfile*")}
    assert {*built.values()} == files
    pushed = {command[2] for command in commands if command[:2] == ["docker", "push"]}
    assert pushed == built.keys()

    [helm] = [command for command in commands if command[0] == "helm"]
    options = [
        f"--set-string={value}"
        for option, value in itertools.pairwise(helm)
        if option == "--set-string"
    ]
    values = Path(helm[helm.index("--values") + 1])
    assert values.parent == CHART.relative_to(REPOSITORY)
    images = {
        each["image"]
        for spec in pod_specs(render(values.name, *options))
        for each in spec["containers"]
    }
    assert images == pushed


def test_one_machine_runs_what_the_chart_runs(render: Render, tmp_path: Path) -> None:
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services = compose["services"]
    for name, service in services.items():
        assert {*service["depends_on"]} <= services.keys() if "depends_on" in service else True, (
            name
        )
        for volume in service.get("volumes", []):
            source, _, _ = volume.partition(":")
            known = source in compose["volumes"] or source in (
                "./vm.dagster.yaml",
                "./environments.yaml",
                "./profiles.yml",
            )
            assert known, (name, volume)
        assert {each["source"] for each in service.get("configs", [])} <= compose["configs"].keys()

    # The same commands, but that a run needs no image of its own.
    containers = {
        each["metadata"]["name"].removeprefix("dagster-"): each["spec"]["template"]["spec"][
            "containers"
        ][0]
        for each in render("values-prod.yaml")
        if each["kind"] in ("Deployment", "Job")
    }
    image = containers["code-prod"]["image"]
    for name in ("migrate", "code-prod", "daemon", "webserver", "viewer"):
        arguments = containers[name]["args"]
        assert [each for each in arguments if each not in ("--container-image", image)] == (
            services[name]["command"]
        ), name

    shutil.copy(DEPLOY / "vm.dagster.yaml", tmp_path / "dagster.yaml")
    InstanceRef.from_dir(str(tmp_path))
    ours = yaml.safe_load(INSTANCE.read_text())
    theirs = yaml.safe_load((DEPLOY / "vm.dagster.yaml").read_text())
    storage = theirs.pop("storage")["postgres"]["postgres_db"]
    assert storage["scheme"] == "postgresql+psycopg2"
    assert theirs.pop("concurrency").keys() == ours.pop("concurrency").keys()
    assert theirs == ours


def test_systemd_runs_what_compose_runs() -> None:
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    units = sorted((DEPLOY / "systemd").glob("*.service"))
    assert len(units) == 4
    for unit in units:
        parser = configparser.RawConfigParser(strict=False)
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        parser.read(unit)
        assert parser["Install"]["WantedBy"] == "multi-user.target"
        program, *arguments = parser["Service"]["ExecStart"].split()
        name = unit.stem.removeprefix("dagster-").replace("@", "-prod")
        theirs = services[name]["command"]
        assert Path(program).name == theirs[0]
        # Where it listens and where its files are is another matter.
        options = {each for each in theirs if each.startswith("--")}
        assert {each for each in arguments if each.startswith("--")} == options


@pytest.mark.skipif(not SYSTEMD, reason="there is no systemd-analyze here: apt install systemd")
def test_systemd_knows_what_its_units_say(tmp_path: Path) -> None:
    units = sorted((DEPLOY / "systemd").glob("*.service"))

    def told(restart: str) -> list[str]:
        for unit in units:
            # Their programs have to be there.
            text = unit.read_text().replace("/opt/dbt-orchestration/.venv", sys.prefix)
            (tmp_path / unit.name).write_text(text.replace("\nRestart=", f"\n{restart}="))
        copies = [tmp_path / unit.name for unit in units]
        done = subprocess.run(
            [SYSTEMD, "verify", *copies], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr.splitlines()

    assert told("Restart") == []
    # Of what it does not know it warns, and goes on.
    assert len(told("Restrat")) == len(units)


@pytest.mark.parametrize(
    ("file", "service", "group"),
    [
        ("values-oauth2-proxy.yaml", "dagster-webserver", "data-engineers"),
        ("values-oauth2-proxy-viewers.yaml", "dagster-viewer", "analysts"),
    ],
)
def test_oauth2_proxy_sends_each_group_to_its_webserver(
    render: Render, file: str, service: str, group: str, tmp_path: Path
) -> None:
    text = (DEPLOY / file).read_text()
    stated = tomllib.loads(yaml.safe_load(text)["config"]["configFile"])
    # What it says of the values of our chart is rendered.
    said = (DEPLOY / "values-oauth2-proxy.yaml").read_text()
    ours = tmp_path / "ours.yaml"
    ours.write_text("\n".join(re.findall(r"^#   (\w+: \{.*\})$", said, re.MULTILINE)))
    manifests = render("values-prod.yaml", "--values", str(ours))
    [there] = [
        each
        for each in manifests
        if each["kind"] == "Deployment" and each["metadata"]["name"] == service
    ]
    assert stated["upstreams"] == [f"http://{service}:3000"]
    assert stated["allowed_groups"] == [group]
    # By the host the webserver knows the pages of others.
    assert stated["pass_host_header"] is True
    [container] = there["spec"]["template"]["spec"]["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    if group == "analysts":
        assert container["args"][-1] == "--read-only"
    else:
        assert stated["pass_user_headers"] is True
        assert variables[VARIABLE] == "X-Forwarded-Email"
        assert variables[OWN_PAGES] == "true"


def test_values_for_dagsters_own_chart_know_its_traps() -> None:
    official = yaml.safe_load((DEPLOY / "values-official.yaml").read_text())
    code = official["dagster-user-deployments"]
    assert official["postgresql"]["postgresqlScheme"] == "postgresql+psycopg2"
    [prod] = code["deployments"]
    assert "codeServerArgs" in prod
    assert "dagsterApiGrpcArgs" not in prod
    home = official["global"]["dagsterHome"]
    assert f"DAGSTER_HOME={home}" in (DEPLOY / "Containerfile").read_text()
    assert prod["volumeMounts"][0]["mountPath"] == f"{home}/dagster.yaml"
    for place in (official, code):
        assert "eks.amazonaws.com/role-arn" in place["serviceAccount"]["annotations"]
    webserver = official["dagsterWebserver"]
    assert webserver["service"]["port"] == webserver["readinessProbe"]["httpGet"]["port"] == 3000


def test_dagster_takes_the_queue_of_those_values(tmp_path: Path) -> None:
    official = yaml.safe_load((DEPLOY / "values-official.yaml").read_text())
    ours = yaml.safe_load(INSTANCE.read_text())
    pools = official["concurrency"]["pools"]
    said = {
        "concurrency": {
            "pools": {"granularity": pools["granularity"], "default_limit": pools["defaultLimit"]}
        },
        "telemetry": official["telemetry"],
        **official["additionalInstanceConfig"],
    }
    if official["dagsterDaemon"]["runCoordinator"]["enabled"]:
        # What that chart writes of its own accord.
        said["run_coordinator"] = {
            "module": "dagster",
            "class": "QueuedRunCoordinator",
            "config": {"max_concurrent_runs": -1},
        }
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(said))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert isinstance(instance.run_coordinator, dg.QueuedRunCoordinator)
        granularity = instance.get_concurrency_config().pool_config.pool_granularity
    assert granularity is not None
    assert granularity.value == ours["concurrency"]["pools"]["granularity"]
    assert {name: said[name] for name in ("telemetry", "freshness", "nux")} == {
        name: ours[name] for name in ("telemetry", "freshness", "nux")
    }
