"""Submodules, as somebody sets them who may commit, and wants more than the repository."""

from __future__ import annotations

from pathlib import Path

import pytest

from dbt_orchestration.revisions.git import GitError
from dbt_orchestration.revisions.remote import Remote
from dbt_orchestration.settings.models import Git
from tests.automation.site import Clone, git
from tests.revisions.git_server import TOKEN, serve_git


@pytest.fixture
def private(tmp_path: Path) -> Clone:
    """A repository on the same machine that is nobody's submodule."""
    (tmp_path / "private").mkdir()
    return Clone(tmp_path / "private")


def push_submodule(clone: Clone, url: str, pinned: str) -> str:
    """A commit with the submodule ``dbt/shared``, made by hand: git itself would not add it."""
    modules = f'[submodule "shared"]\n\tpath = dbt/shared\n\turl = "{url}"\n'
    (clone.folder / ".gitmodules").write_text(modules)
    git(clone.folder, "add", "--all")
    git(clone.folder, "update-index", "--add", "--cacheinfo", f"160000,{pinned},dbt/shared")
    git(clone.folder, "commit", "--quiet", "-m", "a submodule")
    git(clone.folder, "push", "--quiet", "--force", "origin", "HEAD:main")
    return git(clone.folder, "rev-parse", "HEAD")


def check_out(clone: Clone, url: str, sha: str, folder: Path, **settings: object) -> Path:
    """The folder of the submodule, once ``sha`` is checked out of the remote ``url``."""
    chosen = Git.model_validate({"submodules": True, **settings})
    remote = Remote(url, "dbt", chosen, clone.home / "git")
    remote.fetch("main")
    remote.checkout(sha, folder)
    return folder / "dbt" / "shared"


def test_a_url_that_is_an_option_runs_no_command(
    clone: Clone, private: Clone, tmp_path: Path
) -> None:
    head = git(private.folder, "rev-parse", "HEAD")
    sha = push_submodule(clone, f"--upload-pack=sh -c 'touch {tmp_path}/was-here' x", head)
    with pytest.raises(GitError):
        check_out(clone, str(clone.remote), sha, tmp_path / "files")
    assert not (tmp_path / "was-here").exists()


def test_a_helper_of_gits_runs_no_command(clone: Clone, private: Clone, tmp_path: Path) -> None:
    head = git(private.folder, "rev-parse", "HEAD")
    sha = push_submodule(clone, f"ext::sh -c touch% {tmp_path}/was-here", head)
    with pytest.raises(GitError, match="not allowed"):
        check_out(clone, str(clone.remote), sha, tmp_path / "files")
    assert not (tmp_path / "was-here").exists()


@pytest.mark.parametrize("form", ["{0}", "file://{0}", "../../../../../../../../{0}"])
def test_a_remote_elsewhere_reads_no_repository_of_this_machine(
    clone: Clone, private: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    head = git(private.folder, "rev-parse", "HEAD")
    sha = push_submodule(clone, form.format(private.remote), head)
    with serve_git(clone.home, monkeypatch) as url:
        with pytest.raises(GitError, match=r"submodule dbt/shared.*not allowed"):
            check_out(clone, f"{url}/remote.git", sha, tmp_path / "files", token=TOKEN)
        assert not list((tmp_path / "files" / "dbt").glob("shared/*"))


def test_a_submodule_of_a_remote_elsewhere_reads_none_either(
    clone: Clone, private: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The remote is a folder here; its submodule is not, and names a repository of this machine.
    (clone.home / "between").mkdir()
    between = Clone(clone.home / "between")
    inner = push_submodule(between, str(private.remote), git(private.folder, "rev-parse", "HEAD"))
    with serve_git(clone.home, monkeypatch, token="") as url:
        sha = push_submodule(clone, f"{url}/between/remote.git", inner)
        with pytest.raises(GitError, match="not allowed"):
            check_out(clone, str(clone.remote), sha, tmp_path / "files")


def test_a_submodule_of_the_same_host_gets_the_token(
    clone: Clone, private: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = git(private.folder, "rev-parse", "HEAD")
    sha = push_submodule(clone, "../private/remote.git", head)
    with serve_git(clone.home, monkeypatch) as url:
        found = check_out(clone, f"{url}/remote.git", sha, tmp_path / "files", token=TOKEN)
        assert (found / "dbt" / "dbt_project.yml").is_file()


@pytest.mark.parametrize("tls", [True, False])
def test_another_host_or_scheme_gets_no_credentials(
    clone: Clone, private: Clone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool
) -> None:
    # What this machine keeps for itself is not for submodules either.
    home = tmp_path / "person"
    home.mkdir()
    (home / ".netrc").write_text("default login x-access-token password from-netrc")
    (home / ".gitconfig").write_text(f'[credential]\n\thelper = "!touch {tmp_path}/asked; :"\n')
    monkeypatch.setenv("HOME", str(home))
    asked: list[str | None] = []
    head = git(private.folder, "rev-parse", "HEAD")
    with (
        serve_git(clone.home, monkeypatch) as url,
        serve_git(private.home, monkeypatch, token="another", tls=tls, asked=asked) as other,
    ):
        sha = push_submodule(clone, f"{other}/remote.git", head)
        with pytest.raises(GitError):
            check_out(clone, f"{url}/remote.git", sha, tmp_path / "files", token=TOKEN)
    assert set(asked) <= {None}
    assert not (tmp_path / "asked").exists()
