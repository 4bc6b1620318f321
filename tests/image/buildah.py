"""Images and containers without a daemon: buildah, with chroot in the place of namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_MIRROR = "http://deb.debian.org/debian"
_PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"


@dataclass(frozen=True)
class Buildah:
    """Where images and containers are stored."""

    folder: Path

    @classmethod
    def at(cls, folder: Path) -> Buildah:
        """Skips the test where that cannot be."""
        if os.getuid() or not shutil.which("buildah") or not shutil.which("debootstrap"):
            pytest.skip("it takes root, and: apt install buildah debootstrap")
        return cls(folder)

    def __call__(self, *arguments: str | Path, cwd: Path | None = None) -> str:
        """Run one of its commands; what it printed.

        Raises:
            AssertionError: it failed; says what it said last.
        """
        done = subprocess.run(
            self.command(*arguments), cwd=cwd, capture_output=True, text=True, check=False
        )
        assert not done.returncode, f"buildah {arguments[0]}: {(done.stdout + done.stderr)[-4000:]}"
        return done.stdout.strip()

    def command(self, *arguments: str | Path) -> list[str | Path]:
        own: list[str | Path] = ["--root", self.folder / "root", "--runroot", self.folder / "run"]
        return ["buildah", *own, "--storage-driver", "vfs", *arguments]

    def debian_with_python(self) -> str:
        """A base image in the place of Python's own, which stands on Debian, too; its name."""
        tree = self.folder / "debian"
        bootstrap = ["debootstrap", "--variant=minbase", f"--include={_PACKAGES}", "bookworm"]
        subprocess.run([*bootstrap, tree, _MIRROR], check=True, stdout=subprocess.DEVNULL)
        (tree / "usr" / "bin" / "python").symlink_to("python3")
        # Whoever vouches for the package index on this machine.
        shutil.copy(CERTIFICATES, tree / CERTIFICATES.relative_to("/"))
        made = self("from", "scratch")
        self("add", made, tree, "/")
        shutil.rmtree(tree)
        variables = {
            "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            "PIP_BREAK_SYSTEM_PACKAGES": "1",
            "SSL_CERT_FILE": str(CERTIFICATES),
            "PIP_CERT": str(CERTIFICATES),
        }
        self("config", *(f"--env={k}={v}" for k, v in variables.items()), made)
        self("commit", "--rm", made, "localhost/python:debian")
        return "localhost/python:debian"

    def container(self, image: str, name: str, hosts: Sequence[str]) -> str:
        """A new container, in which these hosts are this machine."""
        named = [f"--add-host={host}:127.0.0.1" for host in hosts]
        return self("from", "--network=host", *named, "--name", name, image)

    def running(
        self,
        container: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        volumes: Mapping[Path, str],
    ) -> list[str | Path]:
        """The command that runs a command in a container, as the image's user and entrypoint."""
        config = json.loads(self("inspect", "--type", "container", container))["OCIv1"]["config"]
        options: list[str | Path] = ["--isolation=chroot", f"--user={config['User']}"]
        options += [f"--env={name}={value}" for name, value in environment.items()]
        options += [f"--volume={here}:{there}" for here, there in volumes.items()]
        return self.command("run", *options, container, "--", *config["Entrypoint"], *command)
