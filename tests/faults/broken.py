"""What can break around a push: each breaks something, yields what is said of it, and mends it."""

from __future__ import annotations

import contextlib
import shutil
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dbt_orchestration.revisions.kept import revisions_home
from tests.automation.site import Site, git
from tests.revisions.test_submodules import push_submodule

Fault = Callable[[Site], contextlib.AbstractContextManager[str]]


# The remote


@contextlib.contextmanager
def remote_is_gone(site: Site) -> Iterator[str]:
    away = site.clone.remote.rename(site.clone.home / "away.git")
    yield "there is no such folder: check git.remote"
    away.rename(site.clone.remote)


@contextlib.contextmanager
def branch_is_deleted(site: Site) -> Iterator[str]:
    git(site.clone.remote, "update-ref", "refs/heads/kept", "main")
    git(site.clone.remote, "update-ref", "-d", "refs/heads/main")
    yield "There is no branch main"
    git(site.clone.remote, "update-ref", "refs/heads/main", "kept")


@contextlib.contextmanager
def another_remote(site: Site, url: str) -> Iterator[None]:
    own = site.settings
    other = own.git.model_copy(update={"remote": url})
    site.settings = own.model_copy(update={"git": other})
    site.load()
    yield
    site.settings = own
    site.load()


@contextlib.contextmanager
def remote_hangs(site: Site) -> Iterator[str]:
    with socket.socket() as silent, pytest.MonkeyPatch.context() as patch:
        patch.setattr("dbt_orchestration.automation.wanted._LOOK_SECONDS", 1.0)
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with another_remote(site, f"http://127.0.0.1:{silent.getsockname()[1]}/dbt.git"):
            yield "no answer in 1 s"


@contextlib.contextmanager
def remote_answers_with_garbage(site: Site) -> Iterator[str]:
    class Garbage(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>Please log in \0\xff</html>")

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Garbage) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with another_remote(site, f"http://127.0.0.1:{server.server_port}/dbt.git"):
            yield "There is no branch main in http://127.0.0.1"
        server.shutdown()


@contextlib.contextmanager
def history_is_rewritten(site: Site) -> Iterator[str]:
    site.tick()
    git(site.clone.folder, "checkout", "--quiet", "--orphan", "fresh")
    site.clone.push("another history")
    yield "nothing is due"


@contextlib.contextmanager
def mirror_is_broken(site: Site) -> Iterator[str]:
    [head] = (site.settings.state_dir / "git").glob("*/HEAD")
    head.write_text("")
    for pack in head.parent.glob("objects/pack/*"):
        pack.chmod(0o644)
        pack.write_bytes(b"")
    yield "nothing is due"


# The commit


@contextlib.contextmanager
def reset(site: Site) -> Iterator[None]:
    good = git(site.clone.folder, "rev-parse", "HEAD")
    yield
    git(site.clone.folder, "reset", "--quiet", "--hard", good)
    git(site.clone.folder, "push", "--quiet", "--force", "origin", f"{good}:main")


@contextlib.contextmanager
def submodule_is_hostile(site: Site) -> Iterator[str]:
    with reset(site):
        asked = site.settings.git.model_copy(update={"submodules": True})
        site.settings = site.settings.model_copy(update={"git": asked})
        site.load()
        head, trap = git(site.clone.folder, "rev-parse", "HEAD"), site.clone.home / "was-here"
        push_submodule(site.clone, f"--upload-pack=sh -c 'touch {trap}' x", head)
        yield "submodule dbt/shared: "
        assert not trap.exists()


@contextlib.contextmanager
def link_leaves_the_checkout(site: Site) -> Iterator[str]:
    with reset(site):
        (site.clone.folder / "dbt" / "seeds" / "users.csv").symlink_to("/etc/passwd")
        site.clone.push("a link")
        yield "users.csv is a symbolic link to /etc/passwd"


@contextlib.contextmanager
def project_is_a_list(site: Site) -> Iterator[str]:
    with reset(site):
        site.clone.write("dbt_project.yml", "[1, 2]\n")
        site.clone.push("a list")
        yield "dbt_project.yml: it is no mapping"


@contextlib.contextmanager
def commit_does_not_parse(site: Site) -> Iterator[str]:
    with reset(site):
        site.clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
        site.clone.push("broken")
        yield "customers.sql"


@contextlib.contextmanager
def second_commit_mends_the_first(site: Site) -> Iterator[str]:
    with commit_does_not_parse(site):
        pass
    yield "nothing is due"


@contextlib.contextmanager
def profile_is_missing(site: Site) -> Iterator[str]:
    profile = site.settings.profiles_dir / "profiles.yml"
    away = profile.rename(profile.with_name("away.yml"))
    yield f"there is no profiles.yml in {profile.parent}, where profiles_dir says that it is"
    away.rename(profile)


# The warehouse


@contextlib.contextmanager
def table_is_dropped(site: Site) -> Iterator[str]:
    site.query("drop table main.customers; drop table main.daily; drop view main.stg_orders")
    yield "nothing is due"


@contextlib.contextmanager
def table_is_a_view(site: Site) -> Iterator[str]:
    site.query("drop table main.kept; create view main.kept as select 1 as order_id")
    yield "nothing is due"


# The state folder


@contextlib.contextmanager
def notes_are_truncated(site: Site) -> Iterator[str]:
    write_notes(site, '{"sha": "')
    yield "nothing is due"


@contextlib.contextmanager
def notes_are_of_another_version(site: Site) -> Iterator[str]:
    write_notes(site, '{"version": 0}')
    yield "nothing is due"


def write_notes(site: Site, text: str) -> None:
    home = revisions_home(site.settings, "prod")
    explained = home.glob("*.why.json")
    for note in (*explained, *(home / f"{name}.json" for name in ("failed", "seen", "begun"))):
        note.write_text(text)
    (home / "follow.log").write_bytes(b"\0\xff")


@contextlib.contextmanager
def cache_is_garbage(site: Site) -> Iterator[str]:
    caches = [*site.settings.state_dir.rglob("*.sqlite")]
    assert caches
    for cache in caches:
        cache.write_bytes(b"\0" * 100)
    yield "nothing is due"


@contextlib.contextmanager
def all_of_a_revision_is_truncated(site: Site) -> Iterator[str]:
    truncate(site, "*")
    yield "nothing is due"


@contextlib.contextmanager
def analysis_of_a_revision_is_truncated(site: Site) -> Iterator[str]:
    truncate(site, "analysis.json")
    yield "nothing is due"


def truncate(site: Site, name: str) -> None:
    found = [*revisions_home(site.settings, "prod").glob(f"*/{name}")]
    assert found
    for path in found:
        if path.is_file():
            path.write_bytes(b"")


@contextlib.contextmanager
def state_is_removed(site: Site) -> Iterator[str]:
    for name in ("revisions", "git", "logs"):
        shutil.rmtree(site.settings.state_dir / name)
    yield "nothing is due"


FAULTS: list[Fault] = [
    *(remote_is_gone, branch_is_deleted, remote_hangs, remote_answers_with_garbage),
    *(history_is_rewritten, mirror_is_broken, submodule_is_hostile, link_leaves_the_checkout),
    *(project_is_a_list, commit_does_not_parse, second_commit_mends_the_first),
    *(profile_is_missing, table_is_dropped, table_is_a_view, notes_are_truncated),
    *(notes_are_of_another_version, cache_is_garbage, state_is_removed),
    *(all_of_a_revision_is_truncated, analysis_of_a_revision_is_truncated),
]
