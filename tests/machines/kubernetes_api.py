"""The calls of Kubernetes' API that dagster-k8s makes: Jobs, and their Pods.

Each Job's command runs on a host of its own. Its disk is an empty folder, which goes when the
process ends; all that it sees besides are the variables that the Job names, and what is in its
image: the installed packages, settings and profiles.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.machines.network import Network

JOBS = re.compile(r"/apis/batch/v1/namespaces/[^/]+/jobs(?:/(?P<name>[^/]+))?(?:/status)?")
PODS = re.compile(r"/api/v1/namespaces/[^/]+/pods(?:/(?P<name>[^/]+))?")
_ENDED = {None: "Running", 0: "Succeeded"}


@dataclass
class Cluster:
    """What was posted, and what runs.

    Attributes:
        secrets: by name: variables.
        folder: of the disks of pods.
        network: has the hosts on which they run.
        posted, deleted: Jobs as they came, and the names of those that were deleted.
        logs: what each Job's process has printed, by the Job's name.
    """

    secrets: Mapping[str, Mapping[str, str]]
    folder: Path
    network: Network = field(default_factory=Network)
    port: int = 0
    posted: list[dict[str, Any]] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text()

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        self.posted.append(job)
        name = job["metadata"]["name"]
        [container] = job["spec"]["template"]["spec"]["containers"]
        disk = self.folder / name
        disk.mkdir()
        variables = {each["name"]: each["value"] for each in container["env"] if "value" in each}
        for source in container.get("envFrom", ()):
            variables |= self.secrets[source["secretRef"]["name"]]
        own = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        own |= {"HOME": str(disk), "TMPDIR": str(disk)}
        program, *arguments = container["args"]
        with (self.folder / f"{name}.log").open("wb") as log:
            process = subprocess.Popen(
                self.network.on_another([Path(sys.executable).with_name(program), *arguments]),
                cwd=disk, env={**own, **variables}, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        self.processes[name] = process
        threading.Thread(target=self._clean, args=(process, disk), daemon=True).start()
        return job

    def _clean(self, process: subprocess.Popen[bytes], disk: Path) -> None:
        process.wait()
        shutil.rmtree(disk, ignore_errors=True)

    def delete(self, name: str) -> None:
        if name in self.processes and name not in self.deleted:
            self.deleted.append(name)
            if self.processes[name].poll() is None:
                self.processes[name].send_signal(signal.SIGTERM)

    def pods(self) -> list[dict[str, Any]]:
        return [
            {
                "metadata": {"name": name, "namespace": "dagster", "labels": {"job-name": name}},
                "status": {"phase": _ENDED.get(process.poll(), "Failed")},
            }
            for name, process in self.processes.items()
            if name not in self.deleted
        ]

    def job(self, name: str) -> dict[str, Any]:
        [job] = [each for each in self.posted if each["metadata"]["name"] == name]
        code = self.processes[name].poll()
        status = {"active": 1} if code is None else {"succeeded" if code == 0 else "failed": 1}
        return {**job, "status": status}


@contextmanager
def serving(cluster: Cluster) -> Iterator[Cluster]:
    """The API, until the end, when all processes have ended."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self, content: Mapping[str, Any], status: int = 200) -> None:
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def _name(self, what: re.Pattern[str]) -> str | None:
            found = what.fullmatch(self.path.partition("?")[0])
            return (found["name"] or "") if found else None

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self._name(JOBS) is None:
                self._answer({"kind": "Status", "code": 404}, 404)
            else:
                self._answer(cluster.create(json.loads(body)), 201)

        def do_GET(self) -> None:
            job, pod = self._name(JOBS), self._name(PODS)
            if job:
                self._answer(cluster.job(job))
            elif job is not None:
                names = [each["metadata"]["name"] for each in cluster.posted]
                self._answer({"kind": "JobList", "items": [cluster.job(name) for name in names]})
            elif pod is not None:
                asked = re.search(r"job-name(?:%3D|=)([\w-]+)", self.path)
                known = [p for p in cluster.pods() if p["metadata"]["name"] == (asked and asked[1])]
                self._answer({"kind": "PodList", "items": known})
            else:
                self._answer({"kind": "Status", "code": 404}, 404)

        def do_DELETE(self) -> None:
            cluster.delete(self._name(JOBS) or self._name(PODS) or "")
            self._answer({"kind": "Status", "status": "Success"})

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    cluster.port = server.server_address[1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield cluster
    finally:
        server.shutdown()
        for process in cluster.processes.values():
            process.kill()
            process.wait()
