"""Rolling back, rolling forward and pausing: what is in the warehouse, and what everybody reads."""

from __future__ import annotations

import getpass
from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg
import pytest
import yaml
from typer.testing import CliRunner

from dbt_orchestration.cli import app
from dbt_orchestration.dbt.internals import adapters
from dbt_orchestration.ledger.held import held, hold_tags
from dbt_orchestration.local.up import home_of
from dbt_orchestration.settings import postgres
from tests.automation.site import Site, git, names
from tests.automation.test_from_nothing import assert_from_nothing
from tests.automation.test_history import partitions, shown
from tests.automation.test_jobs import EIGHT
from tests.automation.test_newest import by_hand
from tests.automation.test_newest import evaluations as newest_commit
from tests.conftest import failure

NOT_HELD = dg.AssetCheckKey(dg.AssetKey(["prod", "pushes"]), "not_held_or_paused")
ROLLED_BACK = ["big_customers", "customers", "daily", "kept", "raw_orders", "stg_orders"]


def begin(site: Site) -> None:
    """Two commits, the second of which has changed a table, a history and a seed."""
    assert site.build().success
    site.clone.edit("models/customers.sql", "sum(amount)", "max(amount)")
    site.clone.edit("models/daily.sql", "sum(amount)", "sum(amount) * 10")
    site.clone.edit("seeds/raw_orders.csv", "1,10,50,", "1,10,60,")
    site.clone.write("models/fresh.sql", "select 1 as one")
    site.clone.push("DATA-7 largest, in pence")
    assert site.build().success


def order(site: Site, form: str, who: str = "", **fields: Any) -> Mapping[str, str]:
    """What a form that is not refused shows."""
    result = site.launch(form, who, **fields)
    assert result.success, failure(result)
    return shown(result)


def first(site: Site) -> str:
    return git(site.clone.folder, "rev-list", "--max-parents=0", "HEAD")


def tags_of(site: Site, run_id: str) -> Mapping[str, str]:
    run = site.instance.get_run_by_id(run_id)
    assert run is not None
    return run.tags


def follows(site: Site) -> tuple[bool, str]:
    """What the check on the asset ``pushes`` says last."""
    storage = site.instance.event_log_storage
    [record] = storage.get_asset_check_execution_history(NOT_HELD, limit=1)
    event = record.event.dagster_event if record.event else None
    assert event is not None
    found = event.asset_check_evaluation_data
    return found.passed, found.description or ""


def assert_is(site: Site, sha: str) -> None:
    """The warehouse is what a commit built from nothing would be."""
    git(site.clone.folder, "push", "--quiet", "--force", "origin", f"{sha}:refs/heads/was")
    assert_from_nothing(site, "was")


def test_an_environment_is_rolled_back_held_and_rolled_forward(built: Site) -> None:
    sha = first(built)
    recent = order(built, "roll_back", reason="whatever", dry_run=False)
    assert "DATA\\-7 largest, in pence | DATA\\-7 |" in recent["plan"]
    assert f"| {sha[:10]} | Ann | " in recent["plan"]
    assert "Nothing was started" in recent["next"]
    plan = order(built, "roll_back", commit=sha[:7])["plan"]
    assert "| daily | 3 partitions, 2024-01-01 to 2024-01-03 | " in plan
    assert "| raw_orders | from nothing | " in plan
    assert "That commit does not have these, and leaves them: fresh." in plan
    assert "nothing is due" in built.says()
    assert follows(built) == (True, "Neither held nor paused.")

    order(built, "roll_back", "ann", commit=sha[:7], reason="wrong totals", dry_run=False)
    request = built.request()
    assert names(request) == ROLLED_BACK
    result = built.run(request)
    assert result.success
    assert sorted(map(str, partitions(result, "daily"))) == [f"2024-01-0{n}" for n in (1, 2, 3)]
    said = built.build_all()
    assert f"main at {sha[:10]} “first”: nothing is due" in said
    by_ann = f"Held at {sha[:10]} by ann since "
    assert by_ann in said
    assert "UTC: wrong totals. Released by the job prod_roll_forward." in said
    assert by_ann in follows(built)[1]
    assert newest_commit(built)[0].passed
    assert_is(built, sha)

    built.clone.edit("models/totals.sql", "sum(orders)", "sum(orders) * 100")
    newest = built.clone.push("DATA-8 hundredfold")
    assert by_ann in built.says()
    assert built.query("select orders from main.totals") == [(4,)]
    assert by_hand(built).passed
    assert by_ann in order(built, "roll_forward", dry_run=True)["held"]
    assert by_ann in built.says()

    plan = order(built, "roll_forward", reason="mended")["plan"]
    assert f"main at **{newest[:10]}** DATA\\-8 hundredfold, by Ann" in plan
    request = built.request()
    assert request.tags["dbt/ticket"] == "DATA-8"
    assert built.run(request).success
    assert f"main at {newest[:10]} “DATA-8 hundredfold”: nothing is due" in built.build_all()
    assert follows(built) == (True, "Neither held nor paused.")
    assert built.query("select orders from main.totals") == [(400,)]
    assert built.query("select max(amount) from main.daily") == [(3500,)]


def test_a_ticket_counts_wherever_the_message_names_it(built: Site) -> None:
    page = "https://acme.com/browse/{ticket}"
    git_settings = built.settings.git.model_copy(update={"ticket_url": page})
    built.settings = built.settings.model_copy(update={"git": git_settings})
    built.clone.edit("models/totals.sql", "sum(orders)", "sum(orders) * 2")
    sha = built.clone.push("twofold\n\nwhat Finance asked for:\n\nfor DATA-55, and DATA-56 | too")
    request = built.request()
    assert request.tags["dbt/ticket"] == "DATA-55"
    assert built.run(request).success
    recent = order(built, "roll_back")["plan"]
    assert "twofold | [DATA\\-55](<https://acme.com/browse/DATA-55>) |" in recent
    assert "first |  |" in recent
    for ticket in ("data-55", "DATA-56"):
        assert f"**{sha[:10]}** twofold" in order(built, "roll_back", commit=ticket)["plan"]
    fields = {"commit": "DATA-55", "reason": "no", "dry_run": False}
    held_by = built.launch("roll_back", **fields).dagster_run.run_id
    assert tags_of(built, held_by)["dbt/ticket"] == "DATA-55"


def test_a_ticket_may_look_like_a_sha(built: Site) -> None:
    """And what begins a SHA is one."""
    pattern = built.settings.git.model_copy(update={"ticket_pattern": r"[0-9a-f]{5,6}"})
    built.settings = built.settings.model_copy(update={"git": pattern})
    begins = first(built)[:5]
    named = built.clone.push(f"{begins} is not this\n\ncloses 471100")
    assert f"**{named[:10]}** " in order(built, "roll_back", commit="471100")["plan"]
    assert f"**{first(built)[:10]}** first" in order(built, "roll_back", commit=begins)["plan"]
    recent = "none of the last 3 commits of main begins with"
    for commit, why in (("471101", ", or names it: leave"), ("4711000", ": leave commit empty")):
        assert f"{recent} {commit}{why}" in failure(built.launch("roll_back", commit=commit))


def test_the_next_push_ends_a_hold_for_good(built: Site) -> None:
    head = git(built.clone.folder, "rev-parse", "HEAD")
    was: dict[str, Any] = {
        "commit": first(built),
        "until": "next_push",
        "reason": "no",
        "dry_run": False,
    }
    said = order(built, "roll_back", **was)["next"]
    assert "until main has another commit, or until the job prod_roll_forward is" in said
    assert "by somebody since" in built.build_all()
    built.clone.edit("models/totals.sql", "sum(orders)", "sum(orders) * 100")
    built.clone.push("hundredfold")
    assert "Held" not in built.build_all()
    assert built.query("select orders from main.totals") == [(400,)]
    # The branch is where it was when it was held.
    git(built.clone.folder, "push", "--quiet", "--force", "origin", f"{head}:main")
    assert "totals" in names(built.request())


def test_what_cannot_be_is_said_and_orders_nothing(built: Site) -> None:
    git(built.clone.folder, "checkout", "-q", "-b", "feature")
    other = built.clone.push("DATA-9 elsewhere", branch="feature")
    git(built.clone.folder, "checkout", "-q", "main")
    built.clone.edit("models/customers.sql", "{{ ref(", "{{ ref((")
    broken = built.clone.push("DATA-10 a bracket too many")
    recent = "none of the last 3 commits of main"
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("roll_back", {"commit": other}, f"{recent} begins with {other}: leave commit empty"),
        ("roll_back", {"commit": "data-9"}, f"{recent} names DATA-9: leave commit empty"),
        ("roll_back", {"commit": "yesterday"}, "'yesterday' is neither a SHA (4 to 40 of 0-9 and "),
        ("roll_back", {"commit": "DATA-10"}, f"{broken[:10]}: dbt parse: "),
        ("roll_back", {"commit": "DATA-7", "reason": " "}, "reason: say why, for everybody whose"),
        ("roll_forward", {}, "prod is not held: it follows main as it is."),
        ("pause", {"reason": "\n"}, "reason: say why, for everybody whose push will wait."),
        ("resume", {}, "prod is not paused."),
    ]
    for form, fields, why in cases:
        act = {"dry_run": False} if form == "roll_back" else {}
        said = failure(built.launch(form, **{"reason": "no", **fields, **act}))
        assert said.startswith("Nothing was started: ")
        assert why in said
        assert "\n" not in said
    with pytest.raises(dg.DagsterInvalidConfigError, match="next_push"):
        built.launch("roll_back", commit="DATA-7", until="tomorrow")
    assert built.says().endswith("nothing is due; all 8 nodes are as it says.")
    assert follows(built) == (True, "Neither held nor paused.")


def test_a_form_that_dies_has_ordered_nothing(built: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write = dg.DagsterInstance.add_run_tags

    def write_and_die(instance: dg.DagsterInstance, run_id: str, tags: Mapping[str, str]) -> None:
        write(instance, run_id, tags)
        raise OSError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(dg.DagsterInstance, "add_run_tags", write_and_die)
        result = built.launch("roll_back", commit=first(built), reason="no", dry_run=False)
        assert not result.success
        assert not built.launch("pause", reason="no").success
    assert "nothing is due; all 8 nodes are as it says." in built.says()
    assert follows(built) == (True, "Neither held nor paused.")


def test_a_held_commit_that_cannot_be_prepared_leaves_the_environment_as_it_is(
    built: Site,
) -> None:
    built.clone.edit("models/customers.sql", "max(amount)", "min(amount)")
    built.clone.push("smallest")
    built.request()
    job = built.loaded["prod"].resolve_job_def("prod_roll_back")
    gone = hold_tags("prod", "0" * 40, "", "no")
    built.instance.create_run_for_job(job, tags=gone, status=dg.DagsterRunStatus.SUCCESS)
    for _ in range(2):
        said = built.says()
        assert "main at 0000000000 cannot be prepared: " in said
        assert "has no commit 0000000000 in main any more" in said
        assert "Held at 0000000000 by somebody since " in said
    assert not newest_commit(built)[0].passed
    order(built, "roll_forward")
    assert names(built.request()) == ["big_customers", "customers"]


def test_a_paused_environment_looks_and_starts_nothing(built: Site) -> None:
    order(built, "pause", "ann", reason="the warehouse is moved")
    built.clone.edit("models/customers.sql", "max(amount)", "min(amount)")
    built.clone.push("smallest")
    said = built.says()
    assert "“smallest”: 2 nodes due, and not started: big_customers, customers." in said
    paused = "UTC: the warehouse is moved. The job prod_resume lets it go on."
    assert said.endswith(paused)
    assert follows(built)[1].startswith("Paused by ann since ")
    definitions = built.loaded["prod"].get_repository_def()
    with dg.build_schedule_context(
        instance=built.instance, scheduled_execution_time=EIGHT, repository_def=definitions
    ) as context:
        schedule = definitions.get_schedule_def("prod_full_build_schedule")
        assert paused in (schedule.evaluate_tick(context).skip_message or "")
    assert built.materialize("customers").success
    again = failure(built.launch("pause", reason="another one"))
    assert "prod is paused by ann since " in again
    assert "launch prod_resume before you give another reason." in again
    sha = built.clone.head(1)
    back = order(built, "roll_back", commit=sha, reason="wrong totals", dry_run=False)
    assert " But not while it is paused. Paused by ann since " in back["next"]
    assert f"at {sha[:10]}" in built.says()
    order(built, "roll_forward")
    assert "due, and not started" in built.says()

    assert "It was paused by ann since " in order(built, "resume")["plan"]
    assert names(built.request()) == ["big_customers"]
    assert follows(built) == (True, "Neither held nor paused.")


Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(built: Site, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line, beside a Dagster that runs."""
    home = built.clone.home
    settings = {
        "project_dir": str(home / "nowhere"),
        "profiles_dir": str(home / "profile"),
        "state_dir": str(home / "state"),
        "git": {"remote": str(built.clone.remote), "project_path": "dbt"},
        "environments": {"prod": {"branch": "main", "target": "prod"}},
    }
    (home / "environments.yaml").write_text(yaml.safe_dump(settings))
    (home / "dagster" / "dagster.yaml").touch()
    monkeypatch.setenv("DBT_ORCHESTRATION_CONFIG", str(home / "environments.yaml"))
    monkeypatch.setenv("DAGSTER_HOME", str(home / "dagster"))
    built.says()

    def run(*arguments: str) -> tuple[int, str]:
        adapters.close_duckdb()
        result = CliRunner().invoke(app, arguments)
        assert result.exception is None or isinstance(result.exception, SystemExit), result
        return result.exit_code, " ".join(result.output.split())

    return run


def test_the_same_from_the_command_line(built: Site, run: Run) -> None:
    code, said = run("rollback", "--to", first(built)[:7], "--dry-run")
    assert code == 0
    assert "3 partitions" in said
    assert "Nothing was started" in said
    assert "Held" not in built.says()
    to = ("rollback", "--to", first(built), "--reason", "no", "--no-dry-run")
    assert run(*to, "--until", "next_push")[0] == 0
    assert f"by {getpass.getuser()} since " in str(held(built.instance, "prod"))
    assert run("roll-forward", "--reason", "mended")[0] == 0
    assert run("pause", "--reason", "a holiday")[0] == 0
    code, said = run("pause", "--reason", "another one")
    assert code == 1
    assert f"error: Nothing was started: prod is paused by {getpass.getuser()}" in said
    assert run("resume")[0] == 0
    code, said = run("launch", "pause", "--reason", "a move", "--environment", "prod")
    assert code == 0
    assert run("launch", "prod_resume")[0] == 0
    code, said = run(
        "launch", "run-now", "--select", "customers", "--reason", "wrong totals", "--dry-run"
    )
    assert code == 0
    assert "customers as a whole" in said.replace("│", " ").replace("  ", " ")
    code, said = run("launch")
    assert code == 0
    assert "run_now: Run models at once" in said
    code, said = run("launch", "run_now", "--help")
    assert code == 0
    assert "--vars" in said
    for words, why in (
        (("run_now", "--selct", "customers"), "run_now: No such option '--selct'. (Did you mean"),
        (("run_now", "--vars", "3"), "run_now: Invalid value for '--vars': 3"),
        (("run_now", "--select", "customers"), "Nothing was started: reason: say in a few words"),
        (("roll_back", "--until", "tomorrow"), "tomorrow"),
        (("rol_back",), "no form is called 'rol_back'; prod has adopt, dbt, docs, "),
        (("prod", "resume_build"), ": write dbt-orchestration launch FORM"),
    ):
        code, said = run("launch", *words)
        assert code == 1
        assert why in said
    code, said = run("rollback", "--environment", "production")
    assert code == 1
    assert "no environment is called 'production'; there are: prod" in said
    assert "Held" not in built.build_all()


def test_a_command_leaves_what_up_runs_on(
    built: Site, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DAGSTER_HOME")
    file = home_of(built.settings) / "dagster.yaml"
    assert run("pause", "--reason", "we adopt what is there")[0] == 0  # before up was ever started
    assert "prod is paused by " in run("pause", "--reason", "no")[1]
    file.write_text(yaml.safe_dump({"storage": dict(postgres.STORAGE)}))
    code, said = run("pause", "--reason", "no")
    assert code == 1
    assert "DAGSTER_POSTGRES_URL" in said
    assert yaml.safe_load(file.read_text()) == {"storage": postgres.STORAGE}
