"""Remotes: folders, https with a token, ssh with a key; real git on both sides."""

from __future__ import annotations

import base64
import os
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from dbt_orchestration.dbt.parse import Commit
from dbt_orchestration.revisions.addresses import commit_page, file_page
from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.settings.models import Git
from tests.automation.site import Clone, git
from tests.revisions.git_server import TOKEN, serve_git


def remote(clone: Clone, url: str | None = None, **settings: object) -> Remote:
    return Remote(url or str(clone.remote), "dbt", Git.model_validate(settings), clone.home / "git")


def test_the_head_of_a_branch(clone: Clone) -> None:
    sha = git(clone.folder, "rev-parse", "HEAD")
    assert remote(clone).head("main") == sha
    assert remote(clone).head("nowhere") is None


def test_a_commit_is_fetched_with_who_wrote_it(clone: Clone, tmp_path: Path) -> None:
    sha = clone.push("A subject\n\nand a body")
    commit = remote(clone).fetch("main")
    assert (commit.sha, commit.branch, commit.subject) == (sha, "main", "A subject")
    assert commit.author == "Ann <ann@example.com>"
    remote(clone).checkout(sha, tmp_path / "files")
    assert (tmp_path / "files" / "dbt" / "dbt_project.yml").is_file()
    assert not (tmp_path / "files" / ".git").exists()


def test_the_ticket_that_a_message_names(clone: Clone) -> None:
    page = "https://acme.com/browse/{ticket}"

    def ticket(message: str, **settings: object) -> tuple[str, str]:
        clone.push(message)
        commit = remote(clone, None, **settings).fetch("main")
        return commit.ticket, commit.ticket_url

    assert ticket("Totals (DATA-12, DATA-3)") == ("DATA-12", "")
    assert ticket("DATA-12: totals", ticket_url=page) == ("DATA-12", page.format(ticket="DATA-12"))
    assert ticket("no ticket-12x DATA-3x", ticket_url=page) == ("", "")
    assert ticket("closes #4", ticket_pattern=r"#\d+", ticket_url=page)[1].endswith("/%234")
    assert ticket("Totals\n\nfor DATA-55\n", ticket_url=page)[0] == "DATA-55"
    assert ticket("Totals DATA-4\n\nas DATA-3 has it") == ("DATA-4", "")


def test_a_message_may_have_any_characters(clone: Clone) -> None:
    bodies = [
        b"",
        b"one\n\n\x1e two\x1f\r\n\xe2\x80\xa8three\r",
        b" \t%x00 %b\n--\ncommit a\n",
        b"\xff",
    ]
    for number, body in enumerate(bodies):
        file = clone.home / "message"
        file.write_bytes(b"%d\n\n%s DATA-%d\n\n" % (number, body, number))
        git(clone.folder, "commit", "-q", "--allow-empty", "--cleanup=verbatim", "-F", str(file))
    sha = clone.push("last")
    recent = remote(clone).recent(remote(clone).fetch("main"))
    assert [commit.subject for commit in recent] == ["last", "3", "2", "1", "0", "first"]
    assert [commit.ticket for commit in recent] == ["", "DATA-3", "DATA-2", "DATA-1", "DATA-0", ""]
    assert recent[0].sha == sha
    assert remote(clone).fetch_commit("main", recent[1].sha) == recent[1]


@pytest.mark.parametrize("protocol", [0, 2])
def test_an_older_commit_of_the_branch(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int
) -> None:
    # By the older protocol a remote gives away the ends of its branches only.
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "protocol.version")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(protocol))
    # What Python takes for the end of a line may stand in a subject.
    subjects = ["0", "1\u2028one", "2"]
    shas = [clone.push(subject) for subject in subjects]
    newest = remote(clone).fetch("main")
    recent = remote(clone).recent(newest)
    assert [commit.subject for commit in recent] == [*reversed(subjects), "first"]
    older = remote(clone).fetch_commit("main", shas[0])
    assert older == recent[2]
    remote(clone).checkout(older.sha, tmp_path / "files")
    assert (tmp_path / "files" / "dbt" / "dbt_project.yml").is_file()
    assert remote(clone).fetch_commit("main", shas[2]) == newest
    with pytest.raises(GitError, match="has no commit 0000000000 in main any more"):
        remote(clone).fetch_commit("main", "0" * 40)


def test_a_force_push_to_another_history_is_followed(clone: Clone) -> None:
    remote(clone).fetch("main")
    git(clone.folder, "checkout", "-q", "--orphan", "fresh")
    sha = clone.push("another history")
    assert remote(clone).fetch("main").sha == sha


def test_the_commit_that_changed_a_file_last(clone: Clone) -> None:
    first = git(clone.folder, "rev-parse", "HEAD")
    clone.write("models/totals.sql", "select 1 as orders")
    changed = clone.push("one order")
    clone.write("models/customers.sql", "select 2 as orders")
    clone.push("two orders")
    newest = remote(clone).fetch("main")
    remote(clone).fetch_history(newest)

    def last(*names: str) -> str | None:
        paths = [f"dbt/models/{name}.sql" for name in names]
        found = remote(clone).last_change(newest, *paths)
        return found.sha if found else None

    assert last("totals") == changed
    assert last("customers") == newest.sha
    assert last("kept") == first
    assert last("kept", "totals") == changed
    assert last("*") is None
    # What is built from has no history still.
    assert remote(clone).fetch("main") == newest
    with pytest.raises(GitError):
        remote(clone).last_change(replace(newest, sha="0" * 40), "dbt/models/kept.sql")
    # Nobody is asked twice for the same.
    clone.remote.rename(clone.home / "away.git")
    remote(clone).fetch_history(newest)
    with pytest.raises(GitError):
        remote(clone).fetch_history(replace(newest, sha="0" * 40))


def test_a_file_that_nobody_changed_lately_has_no_last_change(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dbt_orchestration.revisions.remote._DEEP", 2)
    clone.push("second")
    clone.write("models/totals.sql", "select 1 as orders")
    clone.push("third")
    newest = remote(clone).fetch("main")
    remote(clone).fetch_history(newest)
    assert remote(clone).last_change(newest, "dbt/models/totals.sql") == newest
    assert remote(clone).last_change(newest, "dbt/models/kept.sql") is None


def test_only_the_newest_commit_of_a_long_history_is_fetched(clone: Clone) -> None:
    for number in range(20):
        clone.commit(str(number))
    clone.push("newest")
    commit = remote(clone).fetch("main")
    [mirror] = (clone.home / "git").glob("*/HEAD")
    assert git(mirror.parent, "rev-list", "--count", commit.sha) == "1"


def test_a_shallow_remote(clone: Clone, tmp_path: Path) -> None:
    sha = clone.push("second")
    git(tmp_path, "clone", "-q", "--bare", "--depth=1", f"file://{clone.remote}", "shallow.git")
    assert remote(clone, str(tmp_path / "shallow.git")).fetch("main").sha == sha


def test_a_remote_that_is_gone_says_so_in_one_line(clone: Clone) -> None:
    gone = remote(clone, str(clone.home / "gone.git"))
    with pytest.raises(GitError, match=r"^git ls-remote .*gone.git: .*does not appear to be") as e:
        gone.head("main")
    assert "\n" not in str(e.value)


def test_submodules_are_left_out_unless_asked_for(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Clone(tmp_path / "other")
    git(
        clone.folder, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add",
        "../other/remote.git", "dbt/shared",
    )  # fmt: skip
    sha = clone.push("with a submodule")
    other.push("moved on")
    for asked in (False, True):
        place = remote(clone, submodules=asked)
        place.fetch("main")
        place.checkout(sha, tmp_path / str(asked))
        inside = tmp_path / str(asked) / "dbt" / "shared" / "dbt" / "dbt_project.yml"
        assert inside.is_file() is asked


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("https://github.com/acme/dbt.git", "https://github.com/acme/dbt/commit/"),
        ("git@github.com:acme/dbt.git", "https://github.com/acme/dbt/commit/"),
        ("ssh://git@gitlab.acme.io:2222/a/b/dbt.git", "https://gitlab.acme.io/a/b/dbt/-/commit/"),
        ("https://ann@bitbucket.org/acme/dbt", "https://bitbucket.org/acme/dbt/commits/"),
        ("/srv/git/dbt.git", ""),
    ],
)
def test_the_page_of_a_commit(url: str, page: str) -> None:
    found = commit_page(url, "abc")
    assert found == (f"{page}abc" if page else "")


@pytest.mark.parametrize(
    ("url", "page"),
    [
        ("git@github.com:acme/dbt.git", "https://github.com/acme/dbt/blob/abc"),
        ("ssh://git@gitlab.acme.io:2222/a/b/dbt.git", "https://gitlab.acme.io/a/b/dbt/-/blob/abc"),
        ("https://ann@bitbucket.org/acme/dbt", "https://bitbucket.org/acme/dbt/src/abc"),
        ("/srv/git/dbt.git", ""),
    ],
)
def test_the_page_of_a_file(url: str, page: str) -> None:
    commit = Commit("abc", "main", "Ann", "first", "", commit_page(url, "abc"))
    assert file_page(commit, "dbt/models/a b.sql") == (page and f"{page}/dbt/models/a%20b.sql")
    assert file_page(commit, "") == page


@pytest.mark.parametrize(
    "url",
    [
        "https://ann:hunter2@github.com/acme/dbt.git",
        "HTTPS://ghp_t0ken@github.com/acme/dbt.git",
        "ssh://git:hunter2@github.com/acme/dbt.git",
    ],
)
def test_a_password_in_a_url_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match=r"use git\.username and git\.token instead"):
        Git(remote=url)


def test_a_fetch_that_was_killed_holds_up_nobody(clone: Clone) -> None:
    remote(clone).fetch("main")
    [mirror] = (clone.home / "git").glob("*/HEAD")
    (mirror.parent / "shallow.lock").touch()
    sha = clone.push("second")
    assert remote(clone).fetch("main").sha == sha


def test_a_fetch_that_was_killed_takes_nothing_from_other_environments(
    clone: Clone, tmp_path: Path
) -> None:
    """They share the mirror, and one may be checking a commit out of it just now."""
    fetched = remote(clone).fetch("main")
    [mirror] = (clone.home / "git").glob("*/HEAD")
    (mirror.parent / "shallow.lock").touch()
    sha = clone.push("second", "dev")
    assert remote(clone).fetch("dev").sha == sha
    (tmp_path / "files").mkdir()
    remote(clone).checkout(fetched.sha, tmp_path / "files")
    assert (tmp_path / "files" / "dbt" / "dbt_project.yml").is_file()


def test_a_remote_that_does_not_answer_is_given_up(clone: Clone) -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        place = remote(clone, f"http://127.0.0.1:{silent.getsockname()[1]}/dbt.git")
        with pytest.raises(GitError, match="no answer in 1 s"):
            place.head("main", seconds=1)


# https: git's own server program, behind a door that wants a token


@pytest.fixture
def https(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with serve_git(clone.home, monkeypatch) as url:
        yield f"{url}/remote.git"


def test_a_token_opens_an_https_remote_and_is_seen_nowhere(
    clone: Clone, https: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = _record_arguments(tmp_path, monkeypatch, "git")
    place = remote(clone, https, token=TOKEN)
    assert place.fetch("main").sha == git(clone.folder, "rev-parse", "HEAD")
    said = arguments.read_text()
    assert "fetch" in said
    for secret in (TOKEN, base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()):
        assert secret not in said
        assert secret not in repr(place._git)
        for file in (clone.home / "git").rglob("*"):
            assert not file.is_file() or secret.encode() not in file.read_bytes()


def test_a_wrong_token_says_what_to_check(clone: Clone, https: str) -> None:
    place = remote(clone, https, token="wrong")
    with pytest.raises(GitError, match=r": check git\.token \(docs") as error:
        place.head("main")
    assert "wrong" not in str(error.value)


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_folder_that_is_gone_is_not_taken_for_a_wrong_token(clone: Clone, scheme: str) -> None:
    place = remote(clone, f"{scheme}{clone.home}/gone.git")
    with pytest.raises(GitError, match=r"there is no such folder: check git\.remote$"):
        place.head("main")
    with pytest.raises(GitError, match="check that the folder is a git repository"):
        remote(clone, f"{scheme}{clone.home}").head("main")


def test_a_token_is_not_sent_in_the_clear(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    for url in ("http://github.com/acme/dbt.git", "HTTP://github.com/acme/dbt.git"):
        with pytest.raises(ValidationError, match=r"git\.token.*in the clear: use https"):
            Git(remote=url, token=SecretStr(TOKEN))
    asked: list[str | None] = []
    with (
        serve_git(clone.home, monkeypatch, tls=False, asked=asked) as url,
        pytest.raises(GitError),
    ):
        remote(clone, f"{url}/remote.git", token=TOKEN).head("main")
    assert set(asked) <= {None}


def test_no_token_does_not_ask_anybody(clone: Clone, https: str) -> None:
    with pytest.raises(GitError, match=r"check git\.token"):
        remote(clone, https).head("main")


def test_the_token_can_be_set_by_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    assert Git(token=SecretStr(TOKEN)).token is not None
    assert TOKEN not in str(Git(token=SecretStr(TOKEN)))


# ssh: a client that runs git's server program here


def test_ssh_uses_the_key_and_asks_nobody(
    clone: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    ssh = folder / "ssh"
    ssh.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/ssh.log\n'
        'for command; do :; done\nexec sh -c "$command"\n'
    )
    ssh.chmod(ssh.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    key = tmp_path / "deploy key"
    key.touch()
    place = remote(clone, f"git@example.com:{clone.remote}", ssh_key=str(key))
    assert place.fetch("main").sha == git(clone.folder, "rev-parse", "HEAD")
    said = (tmp_path / "ssh.log").read_text()
    assert f"-i {key} -o IdentitiesOnly=yes -o BatchMode=yes" in said
    assert "StrictHostKeyChecking=accept-new" in said


def _record_arguments(folder: Path, monkeypatch: pytest.MonkeyPatch, program: str) -> Path:
    real = subprocess.run(
        ["which", program], capture_output=True, text=True, check=True
    ).stdout.strip()
    (folder / "recorder").mkdir()
    script = folder / "recorder" / program
    script.write_text(f'#!/bin/sh\necho "$@" >> {folder}/arguments.log\nexec {real} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{script.parent}{os.pathsep}{os.environ['PATH']}")
    return folder / "arguments.log"
