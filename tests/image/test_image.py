"""The image is built, and runs as deploy/compose.yaml says: `make image`.

Without Docker: buildah builds it, and starts each service of the compose file in a container of its
own. PostgreSQL, git and a Snowflake are on this machine. It takes some minutes and gigabytes.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yaml

from tests.automation.site import SHOP, Clone
from tests.conftest import EVERY_NODE, REPOSITORY
from tests.e2e.running import until
from tests.image.buildah import Buildah
from tests.postgres.server import PASSWORD, postgresql
from tests.revisions.git_server import serve_git
from tests.snowflake.emulator import Emulator, running_emulator

pytestmark = [
    pytest.mark.skipif("IMAGE" not in os.environ, reason="make image"),
    pytest.mark.timeout(3600),
]

DEPLOY = REPOSITORY / "deploy"
COMPOSE: Mapping[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
TOKEN = "git-s3cret"
_RUNS = """{ runsOrError(limit: 5) { ... on Runs { results { runId status pipelineName
    tags { key value } } } } }"""
_MINUTES = 600.0


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    folder = tmp_path_factory.mktemp("buildah")
    yield Buildah.at(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def image(buildah: Buildah) -> str:
    tag = subprocess.run([DEPLOY / "image-tag.sh"], capture_output=True, text=True, check=True)
    name = f"localhost/dbt-orchestration:{tag.stdout.strip()}"
    base = os.environ.get("PYTHON_IMAGE") or buildah.debian_with_python()
    buildah(
        *("build", "--isolation=chroot", "--file", DEPLOY / "Containerfile"),
        *("--build-arg", f"PYTHON_IMAGE={base}", "--tag", name, REPOSITORY),
    )
    return name


@dataclass
class Machine:
    """One machine on which the services of the compose file run.

    Attributes:
        folder: what is beside the compose file, and its volumes.
        environment: what stands in dagster.env.
    """

    buildah: Buildah
    image: str
    folder: Path
    environment: Mapping[str, str]
    services: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> subprocess.Popen[bytes]:
        """Start a service."""
        said = COMPOSE["services"][name]
        volumes = {
            self.folder / "home": "/opt/dagster/home",
            self.folder / "state": "/var/lib/dbt-orchestration",
        }
        for volume in said["volumes"]:
            here, there = volume.split(":")[:2]
            if here.startswith("./") and not there.startswith("/opt/dagster/home"):
                volumes[self.folder / here] = there
        # Whom git trusts, as whoever has a git server of their own mounts it.
        volumes[self.folder / "git.pem"] = "/etc/git.pem"
        for each in said["configs"]:
            volumes[self.folder / f"{each['source']}.yaml"] = each["target"]
        hosts = [*COMPOSE["services"]]
        container = self.buildah.container(self.image, name, hosts)
        environment = {**self.environment, **said["environment"]}
        command = self.buildah.running(container, said["command"], environment, volumes)
        with (self.folder / f"{name}.log").open("wb") as log:
            self.services[name] = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        return self.services[name]

    def said(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def stop(self) -> None:
        for service in reversed(self.services.values()):
            if service.poll() is None:
                os.killpg(service.pid, signal.SIGTERM)
        for service in self.services.values():
            try:
                service.wait(90)
            except subprocess.TimeoutExpired:
                os.killpg(service.pid, signal.SIGKILL)

    def runs(self) -> list[Mapping[str, Any]]:
        """What the UI shows of the last runs."""
        asked = requests.post("http://127.0.0.1:3000/graphql", json={"query": _RUNS}, timeout=60)
        found: list[Mapping[str, Any]] = asked.json()["data"]["runsOrError"]["results"]
        return found

    def until(self, what: Callable[[], Any]) -> Any:
        """Wait for something; if it does not come, show what each service has said last."""

        def look() -> Any:
            try:
                return what()
            except requests.ConnectionError:
                return None

        try:
            return until(look, _MINUTES)
        except AssertionError as error:
            said = [f"{name}: {self.said(name)[-3000:]}" for name in self.services]
            raise AssertionError("\n".join([str(error), *said])) from None


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Emulator]:
    with running_emulator() as emulator:
        yield emulator


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("git"), SHOP)


@pytest.fixture(scope="module")
def machine(
    buildah: Buildah,
    image: str,
    clone: Clone,
    warehouse: Emulator,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Machine]:
    folder = tmp_path_factory.mktemp("machine")
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        remote = stack.enter_context(serve_git(clone.remote.parent, patch, token=TOKEN))
        server = stack.enter_context(postgresql())
        shutil.copy(os.environ["GIT_SSL_CAINFO"], folder / "git.pem")
        _write(folder, f"{remote}/{clone.remote.name}", urlsplit(server.url).port)
        environment = {
            **warehouse.environment,
            "DAGSTER_PG_PASSWORD": PASSWORD,
            "DBT_ORCHESTRATION_GIT__TOKEN": TOKEN,
            "GIT_SSL_CAINFO": "/etc/git.pem",
        }
        machine = Machine(buildah, image, folder, environment)
        stack.callback(machine.stop)
        yield machine


def _write(folder: Path, remote: str, port: int | None) -> None:
    """What a platform engineer puts beside the compose file."""
    settings = {
        "git": {"remote": remote, "project_path": "dbt"},
        "load_raw": False,
        "profile": "snowflake_emulator",
        "environments": {
            "prod": {"branch": "main", "target": "prod", "push": {"interval_seconds": 1}}
        },
    }
    (folder / "environments.yaml").write_text(yaml.safe_dump(settings))
    shutil.copy(EVERY_NODE / "profiles.yml", folder)
    (folder / "workspace.yaml").write_text(COMPOSE["configs"]["workspace"]["content"])
    instance = yaml.safe_load((DEPLOY / "vm.dagster.yaml").read_text())
    instance["storage"]["postgres"]["postgres_db"] |= {"port": port, "db_name": "postgres"}
    for volume in ("home", "state"):
        (folder / volume).mkdir()
    (folder / "home" / "dagster.yaml").write_text(yaml.safe_dump(instance))
    # In the image nobody is root.
    for path in [folder / "home", folder / "state", *(folder / "home").iterdir()]:
        shutil.chown(path, 1000, 1000)
    for path in [folder / "git.pem", folder, *folder.parents]:
        path.chmod(path.stat().st_mode | 0o055)


def test_the_services_start_and_build_what_is_on_the_branch(
    machine: Machine, warehouse: Emulator
) -> None:
    migrated = machine.start("migrate")
    assert migrated.wait(300) == 0, machine.said("migrate")
    for service in ("code-prod", "daemon", "webserver"):
        machine.start(service)
    [run] = machine.until(
        lambda: [r for r in machine.runs() if r["status"] in ("SUCCESS", "FAILURE")] or None
    )
    assert run["status"] == "SUCCESS", machine.said("code-prod")[-5000:]
    total = warehouse.execute("select sum(amount) from shop.customers")
    assert total == warehouse.execute("select sum(amount) from shop.raw_orders")


def test_a_push_is_built_in_the_image(machine: Machine, clone: Clone, warehouse: Emulator) -> None:
    clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    clone.push("the largest")

    def built() -> Mapping[str, Any] | None:
        run = machine.runs()[0]
        why = {tag["key"]: tag["value"] for tag in run["tags"]}.get("dbt/why", "")
        return run if "customers" in why and run["status"] in ("SUCCESS", "FAILURE") else None

    run = machine.until(built)
    assert run["status"] == "SUCCESS", machine.said("code-prod")[-5000:]
    largest = warehouse.execute("select max(amount) from shop.customers")
    assert largest == warehouse.execute("select max(amount) from shop.raw_orders")


def test_services_end_when_they_are_told_to(machine: Machine) -> None:
    for name in ("webserver", "daemon", "code-prod"):
        service = machine.services[name]
        os.killpg(service.pid, signal.SIGTERM)
        service.wait(60)  # the grace period of the compose file
