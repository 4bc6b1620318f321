"""A commit is prepared once, whole or not at all, in a folder that stands on its own."""

from __future__ import annotations

import json
import pickle
import resource
import shutil
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Timer

import pytest
from filelock import FileLock

from dbt_orchestration.dbt.parse import PrepareError
from dbt_orchestration.revisions.commits import find_commit, is_current, prepare_commit
from dbt_orchestration.revisions.follow import Follower
from dbt_orchestration.revisions.kept import revisions_home
from dbt_orchestration.settings.models import Settings
from tests.automation.site import Clone
from tests.conftest import REPOSITORY
from tests.e2e.running import PATIENCE


def folders(settings: Settings) -> list[str]:
    home = revisions_home(settings, "prod")
    return sorted(path.name for path in home.iterdir() if path.is_dir())


def test_a_commit_has_its_files_manifest_and_fingerprints(clone: Clone, settings: Settings) -> None:
    sha = clone.push("second")
    revision = prepare_commit(settings, "prod")
    assert revision.digest.startswith(f"{sha}-")
    assert revision.commit is not None
    assert revision.commit.subject == "second"
    assert (revision.project_dir / "models" / "customers.sql").is_file()
    assert revision.manifest["nodes"].keys() >= revision.fingerprints.keys()
    assert set(revision.checks) == {
        u for u, n in revision.manifest["nodes"].items() if n["resource_type"] == "test"
    }
    assert find_commit(settings, "prod", sha) == revision


def test_the_same_commit_is_prepared_once(settings: Settings) -> None:
    first = prepare_commit(settings, "prod")
    written = first.manifest_path.stat().st_mtime_ns
    assert prepare_commit(settings, "prod") == first
    assert first.manifest_path.stat().st_mtime_ns == written


def test_two_preparers_do_not_clash(settings: Settings) -> None:
    follower = Follower(settings, "prod")
    with ThreadPoolExecutor(2) as pool:
        ended = list(pool.map(lambda _: follower.prepare("0" * 40, {}, PATIENCE), range(2)))
    assert ended == [True, True]
    assert len(folders(settings)) == 1


def test_a_large_file_is_on_the_disk_once(clone: Clone, settings: Settings) -> None:
    def checked_out() -> Path:
        return prepare_commit(settings, "prod").project_dir / "large.bin"

    clone.write("large.bin", "a" * 2**21)
    clone.push("large")
    first = checked_out()
    clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    clone.push("a model")
    second = checked_out()
    assert second != first
    assert second.samefile(first)
    clone.write("large.bin", "b" * 2**21)
    clone.push("another")
    assert checked_out().read_text() == "b" * 2**21
    assert first.read_text() == "a" * 2**21


def test_a_commit_that_does_not_parse_leaves_nothing(clone: Clone, settings: Settings) -> None:
    clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
    sha = clone.push("broken")
    with pytest.raises(PrepareError, match=rf"^{sha[:10]}: dbt parse: (.|\n)*customers\.sql"):
        prepare_commit(settings, "prod")
    assert folders(settings) == []


def test_a_package_that_cannot_be_installed_says_which(clone: Clone, settings: Settings) -> None:
    clone.write("packages.yml", "packages: [{local: ../missing}]\n")
    sha = clone.push("package")
    with pytest.raises(PrepareError, match=rf"^{sha[:10]}: dbt deps: (.|\n)*missing"):
        prepare_commit(settings, "prod")
    assert folders(settings) == []


def test_packages_are_copied_while_they_are_the_same(
    clone: Clone, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = clone.folder / "package"
    (package / "models").mkdir(parents=True)
    (package / "dbt_project.yml").write_text("name: extra\nconfig-version: 2\n")
    (package / "models" / "extra.sql").write_text("select 1 as one")
    clone.write("packages.yml", "packages: [{local: ../package}]\n")
    clone.push("package")
    first = prepare_commit(settings, "prod")
    assert "model.extra.extra" in first.fingerprints
    monkeypatch.setattr("dbt_orchestration.revisions.packages.run_dbt", None)
    (package / "models" / "extra.sql").write_text("select 2 as one")
    clone.push("edited")
    second = prepare_commit(settings, "prod")
    shutil.rmtree(first.directory)
    # A local package is the commit's own.
    assert second.fingerprints["model.extra.extra"] != ""
    text = (second.project_dir / "dbt_packages" / "extra" / "models" / "extra.sql").read_text()
    assert text == "select 2 as one"


def test_another_profile_or_variable_prepares_the_commit_anew(
    clone: Clone, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone.edit("models/totals.sql", "sum(orders)", "{{ env_var('FACTOR', '1') }} * sum(orders)")
    clone.push("variable")
    first = prepare_commit(settings, "prod")
    monkeypatch.setenv("UNRELATED", "2")
    assert prepare_commit(settings, "prod") == first
    monkeypatch.setenv("FACTOR", "2")
    assert not is_current(settings, "prod", first)
    second = prepare_commit(settings, "prod")
    assert second.digest[:40] == first.digest[:40]
    assert second.fingerprints["model.shop.totals"] != first.fingerprints["model.shop.totals"]
    profiles = settings.profiles_dir / "profiles.yml"
    profiles.write_text(profiles.read_text() + "# a comment\n")
    assert is_current(settings, "prod", second)
    profiles.write_text(profiles.read_text().replace("schema: main", "schema: other"))
    assert not is_current(settings, "prod", second)


def test_a_project_that_is_not_where_it_was_said(clone: Clone, settings: Settings) -> None:
    elsewhere = settings.git.model_copy(update={"project_path": "elsewhere"})
    with pytest.raises(PrepareError, match=r"no dbt_project\.yml in elsewhere \(git\.project_path"):
        prepare_commit(settings.model_copy(update={"git": elsewhere}), "prod")


def test_a_full_disk_leaves_nothing_and_the_next_try_succeeds(
    clone: Clone, settings: Settings
) -> None:
    sha = clone.push("second")
    script = (
        "import pickle, resource, signal, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))\n"
        "follower, sha = pickle.load(sys.stdin.buffer)\n"
        "from dbt_orchestration.location.definitions import check_revision\n"
        "sys.exit(follower.work(sha, {}, check_revision))\n"
    )
    follower = Follower(settings, "prod")
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps((follower, sha)),
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert done.returncode != 0
    assert folders(settings) == []
    assert find_commit(settings, "prod", sha) is None
    assert follower.prepare(sha, {}, PATIENCE)
    assert [folder[:40] for folder in folders(settings)] == [sha]
    assert follower.problem(sha) == ""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_a_preparer_that_is_killed_leaves_nothing_whole(clone: Clone, settings: Settings) -> None:
    sha = clone.push("second")
    follower = Follower(settings, "prod")
    process = follower._start(sha, {})
    home = revisions_home(settings, "prod")
    while not list(home.glob(".*/files")):
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert find_commit(settings, "prod", sha) is None
    assert follower.prepare(sha, {}, PATIENCE)
    revision = find_commit(settings, "prod", sha)
    assert revision is not None
    assert folders(settings) == [revision.digest]


def test_a_preparer_waits_for_another_and_then_does_its_own_work(
    clone: Clone, settings: Settings
) -> None:
    sha = clone.push("second")
    follower = Follower(settings, "prod")
    revisions_home(settings, "prod").mkdir(parents=True, exist_ok=True)
    other = FileLock(revisions_home(settings, "prod") / "follow.lock", thread_local=False)
    other.acquire()
    assert not follower.prepare(sha, {}, 1)
    release = Timer(1, other.release)
    release.start()
    assert follower.prepare(sha, {}, PATIENCE)
    assert follower.doing == " (done)"
    release.join()
    assert find_commit(settings, "prod", sha) is not None


def test_what_went_wrong_is_said_once_for_the_commit(clone: Clone, settings: Settings) -> None:
    clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
    sha = clone.push("broken")
    follower = Follower(settings, "prod")
    assert follower.prepare(sha, {}, PATIENCE)
    assert "customers.sql" in follower.problem(sha)
    assert follower.problem("1" * 40) == ""
    note = revisions_home(settings, "prod") / "failed.json"
    content = json.loads(note.read_text())
    note.write_text(json.dumps({**content, "at": content["at"] - 301}))
    assert follower.problem(sha) == ""  # time to try again
