"""Hosts of one network: network namespaces of Linux, whose disks have nothing of this machine's."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

# Runs a command with folders of its own in the place of those that come first.
_WITHOUT = 'until [ "$1" = -- ]; do mount -t tmpfs none "$1"; shift; done; shift; exec "$@"'


@dataclass
class Network:
    """A bridge that other hosts are on.

    Attributes:
        address: of this machine on it, where its services are.
        hidden: folders of this machine's disk, in whose place a host has empty ones of its own.
            What else is on the disk is in each host's image.
        hosts: names of those that were made.
        why_not: why there is no network: hosts are this machine then.
    """

    address: str = "127.0.0.1"
    hidden: Sequence[Path] = ()
    hosts: list[str] = field(default_factory=list)
    why_not: str = ""

    @property
    def _name(self) -> str:
        return f"dbt{os.getpid() % 100_000}"

    def on_another(self, command: Sequence[str | Path]) -> list[str | Path]:
        """The command that runs a command on a new host."""
        if self.why_not:
            return [*command]
        number = len(self.hosts) + 2
        host, wire = f"{self._name}-{number}", f"{self._name}w{number}"
        address = f"{self.address.rpartition('.')[0]}.{number}/24"
        _ip("netns", "add", host)
        self.hosts.append(host)
        _ip("link", "add", wire, "type", "veth", "peer", "name", "eth0", "netns", host)
        _ip("link", "set", wire, "master", self._name, "up")
        _ip("-n", host, "address", "add", address, "dev", "eth0")
        for device in ("eth0", "lo"):
            _ip("-n", host, "link", "set", device, "up")
        return [
            "ip",
            "netns",
            "exec",
            host,
            "sh",
            "-c",
            _WITHOUT,
            "sh",
            *self.hidden,
            "--",
            *command,
        ]

    def _begin(self) -> None:
        pid = os.getpid()
        self.address = f"10.{200 + pid % 50}.{pid // 50 % 250}.1"
        _ip("link", "add", self._name, "type", "bridge")
        _ip("address", "add", f"{self.address}/24", "dev", self._name)
        _ip("link", "set", self._name, "up")

    def _end(self) -> None:
        for host in self.hosts:
            _ip("netns", "delete", host)
        _ip("link", "delete", self._name)


@contextmanager
def networked(*hidden: Path) -> Iterator[Network]:
    """A network, or where there can be none this machine alone.

    Args:
        hidden: folders of this machine's disk, each of which another host has for itself.
    """
    network = Network(hidden=hidden)
    if not shutil.which("ip"):
        network.why_not = "no network of hosts here: apt install iproute2"
    else:
        try:
            network._begin()
        except subprocess.CalledProcessError as error:
            network.why_not = f"no network of hosts here: {error.stderr.strip()}"
    if network.why_not:
        yield Network(why_not=network.why_not)
        return
    try:
        yield network
    finally:
        network._end()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
