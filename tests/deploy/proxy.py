"""Apache with its login, as the chart configures it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType

import pytest
import requests

from tests.deploy import identity
from tests.deploy.conftest import Render, data_of
from tests.e2e.running import free_port, until

APACHE = shutil.which("apache2", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
MODULE = Path("/usr/lib/apache2/modules/mod_auth_openidc.so")
needs_apache = pytest.mark.skipif(
    not (APACHE and MODULE.is_file()),
    reason="no Apache with OpenID Connect: apt-get install apache2-bin libapache2-mod-auth-openidc",
)
TOKEN = "t0ken"


@contextmanager
def proxy(
    render: Render,
    people: identity.Provider,
    full: int,
    read_only: int,
    other: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[int]:
    """The port of a proxy, as the chart makes it of values-prod.yaml.

    Args:
        full, read_only: ports of the two webservers.
        other: what its configuration says otherwise.
    """
    port = free_port()
    # Not pytest's, which only its own user may read. In the container it is no root, either.
    folder = Path(tempfile.mkdtemp())
    owner = 1000 if os.getuid() == 0 else os.getuid()
    os.chown(folder, owner, -1)
    text = data_of(render("values-prod.yaml"), "dagster-proxy")["httpd.conf"]
    for old, new in {
        "https://dagster.acme.com": f"http://127.0.0.1:{port}",
        "https://login.acme.com/realms/acme": people.address,
        "Listen 8080": f"Listen 127.0.0.1:{port}",
        "dagster-webserver:3000": f"127.0.0.1:{full}",
        "dagster-viewer:3000": f"127.0.0.1:{read_only}",
        "/tmp": str(folder),
        **other,
    }.items():
        assert old in text
        text = text.replace(old, new)
    (folder / "httpd.conf").write_text(text)
    secrets = {"OIDC_CLIENT_SECRET": identity.SECRET, "OIDC_PASSPHRASE": "any passphrase"}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [str(APACHE), "-DFOREGROUND", "-f", str(folder / "httpd.conf")],
            env={**os.environ, **secrets, "HOOK_TOKEN": TOKEN},
            stdout=log, stderr=subprocess.STDOUT, user=owner,
        )  # fmt: skip
        try:
            until(lambda: answers(f"http://127.0.0.1:{port}"))
            yield port
        finally:
            process.terminate()
            process.wait()
            print((folder / "log").read_text())
            shutil.rmtree(folder)


def answers(address: str) -> bool | None:
    try:
        return bool(requests.get(f"{address}/graphql", timeout=5).status_code)
    except requests.ConnectionError:
        return None
