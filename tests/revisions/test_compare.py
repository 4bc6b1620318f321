"""``dbt-orchestration plan`` in real git repositories."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner, Result

from dbt_orchestration.cli import app
from tests.conftest import REPOSITORY

_FILES = {
    "dbt_project.yml": "name: shop\nprofile: shop\nmodels: {+materialized: table}\n",
    "profiles.yml": (
        "shop:\n  target: prod\n  outputs:\n"
        "    prod: &it {type: duckdb, path: nowhere/shop.duckdb, schema: main}\n"
        "    dev: {<<: *it, schema: dev}\n"
    ),
    "seeds/orders.csv": "id,amount,day\n1,10,2024-01-01\n2,20,2024-01-02\n",
    "macros/cents.sql": "{% macro cents(column) %}{{ column }} * 100{% endmacro %}\n",
    "models/stg_orders.sql": (
        "select id, {{ cents('amount') }} as cents, day from {{ ref('orders') }}\n"
    ),
    "models/revenue.sql": "select sum(cents) as cents from {{ ref('stg_orders') }}\n",
    "models/days.sql": "select distinct day from {{ ref('stg_orders') }}\n",
}


@dataclass(frozen=True)
class Work:
    """A clone with a project in ``shop/``, and the remote it was cloned from."""

    root: Path

    @property
    def project(self) -> Path:
        return self.root / "shop"

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=Ann", "-c", "user.email=ann@example.com", *arguments]
        done = subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, name: str, content: str) -> None:
        path = self.project / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)

    def replace(self, name: str, old: str, new: str) -> None:
        content = (self.project / name).read_text()
        assert old in content
        self.write(name, content.replace(old, new))

    def commit(self, message: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", message)
        return self.git("rev-parse", "HEAD")

    def run(self, *arguments: str) -> Result:
        options = ["plan", "--project-dir", str(self.project), *arguments]
        return CliRunner().invoke(app, options, env={"COLUMNS": "200"})

    def plan(self, *arguments: str) -> Mapping[str, Any]:
        result = self.run("--format", "json", *arguments)
        assert result.exit_code == 0, result.output
        plan: Mapping[str, Any] = json.loads(result.stdout)
        return plan

    def due(self, *arguments: str) -> list[str]:
        return [node["name"] for node in self.plan(*arguments)["due"]]


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def work(tmp_path: Path) -> Work:
    remote = tmp_path / "remote.git"
    subprocess.run(["git", "init", "-q", "--bare", "-b", "main", str(remote)], check=True)
    subprocess.run(["git", "clone", "-q", str(remote), str(tmp_path / "work")], check=True)
    work = Work(tmp_path / "work")
    work.git("checkout", "-qb", "main")
    for name, content in _FILES.items():
        work.write(name, content)
    work.commit("first")
    work.git("push", "-q", "-u", "origin", "main")
    return work


def snapshot(folder: Path) -> dict[str, bytes | str]:
    """Every file and link below ``folder``, git's own folder left out."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        if ".git" not in path.relative_to(folder).parts and not path.is_dir():
            found[str(path)] = os.readlink(path) if path.is_symlink() else path.read_bytes()
    return found


def test_what_is_not_committed_is_compared_with_the_upstream_branch(work: Work) -> None:
    assert work.due() == []
    work.replace("macros/cents.sql", "* 100", "* 1000")
    plan = work.plan()
    assert [node["name"] for node in plan["due"]] == ["stg_orders", "revenue"]
    assert plan["head"] is None
    assert plan["base"] == work.git("rev-parse", "origin/main")
    chain = ["revenue", "stg_orders.cents", "macro cents (macros/cents.sql)"]
    assert plan["due"][1]["reason"] == [chain]
    # Neither the day nor which rows there are has changed.
    assert plan["unchanged"] == 2


def test_a_pushed_branch_is_compared_with_where_it_left_its_upstream(work: Work) -> None:
    work.git("checkout", "-qb", "topic", "--track", "origin/main")
    work.replace("models/days.sql", "distinct day", "distinct day as the_day")
    work.commit("rename a column")
    assert work.due() == ["days"]
    # Someone else's commit on main is none of this branch's.
    work.git("checkout", "-q", "main")
    work.replace("models/revenue.sql", "sum(cents)", "max(cents)")
    work.commit("another")
    work.git("push", "-q")
    work.git("checkout", "-q", "topic")
    assert work.due() == ["days"]


def test_any_two_commits_can_be_compared(work: Work) -> None:
    first = work.git("rev-parse", "HEAD")
    work.replace("models/revenue.sql", "sum(cents)", "max(cents)")
    second = work.commit("max")
    work.replace("models/days.sql", "select distinct day", "select distinct  day /* of orders */")
    work.git("tag", "cosmetic", work.commit("cosmetic"))
    assert work.due("--base", first, "--head", second) == ["revenue"]
    assert work.due("--base", second, "--head", "cosmetic") == []
    assert work.due("--base", "cosmetic", "--head", first[:8]) == ["revenue"]


def test_nothing_in_the_working_tree_is_touched(work: Work) -> None:
    work.replace("models/revenue.sql", "sum(cents)", "max(cents)")
    work.write("models/untracked.sql", "select 1 as x\n")
    work.git("add", "shop/models/revenue.sql")
    before, status = snapshot(work.root), work.git("status", "--porcelain")
    assert work.due() == ["revenue", "untracked"]
    assert snapshot(work.root) == before
    assert work.git("status", "--porcelain") == status


def test_the_warehouse_is_not_opened(work: Work) -> None:
    work.write(
        "models/late.sql",
        "{{ config(materialized='incremental') }}\nselect * from {{ ref('orders') }}\n"
        "{% if is_incremental() %}where day > (select max(day) from {{ this }}){% endif %}\n",
    )
    # DuckDB cannot make a file in a folder that is not there: had it been opened, it would fail.
    plan = work.plan()
    assert [node["name"] for node in plan["due"]] == ["late"]
    assert not plan["opaque"]
    assert not plan["notes"]


def test_snowflake_needs_neither_network_nor_credentials(work: Work) -> None:
    work.write(
        "profiles.yml",
        "shop:\n  target: prod\n  outputs:\n    prod: {type: snowflake, account: nowhere,"
        " user: nobody, password: none, database: DB, schema: MAIN, warehouse: W}\n",
    )
    work.commit("to Snowflake")
    work.replace("models/stg_orders.sql", "day from", "DAY, amount + 1 as more from")
    plan = work.plan("--base", "HEAD")
    changes = {node["name"]: node["change"] for node in plan["due"]}
    assert changes == {"stg_orders": [{"kind": "column_added", "what": "MORE"}]}
    assert not plan["opaque"]


def test_exit_status_tells_whether_something_is_due(work: Work) -> None:
    assert work.run().exit_code == 0
    assert work.run("--exit-code").exit_code == 0
    work.replace("models/days.sql", "distinct day", "distinct id")
    assert work.run().exit_code == 0
    assert work.run("--exit-code").exit_code == 2
    assert work.run("--base", "nonsense").exit_code == 1


def test_the_table_and_the_markdown_say_what_and_why(work: Work) -> None:
    work.replace("models/stg_orders.sql", "day from", "day, amount > 15 as is_big from")
    table = work.run().stdout
    assert "stg_orders" in table
    assert "+ is_big" in table
    assert "SQL (models/stg_orders.sql)" in table
    assert "1 of 4 nodes due, 3 left alone." in table
    markdown = work.run("--format", "markdown").stdout
    assert "| `stg_orders` | build | + is_big | SQL (models/stg_orders.sql) |" in markdown


def test_dbt_selection_limits_the_plan(work: Work) -> None:
    work.replace("macros/cents.sql", "* 100", "* 1000")
    assert work.due("--select", "revenue") == ["revenue"]
    assert work.due("--select", "stg_orders+") == ["stg_orders", "revenue"]
    assert work.due("--select", "days") == []


def test_targets_are_dbts(work: Work) -> None:
    work.replace("models/days.sql", "distinct day", "distinct '{{ target.name }}' as name")
    assert work.due("--target", "dev") == ["days"]
    result = work.run("--target", "nonsense")
    assert result.exit_code == 1
    assert "does not have a target named 'nonsense'" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--base", "nonsense"), "there is no commit nonsense"),
        (("--head", "nonsense"), "there is no commit nonsense"),
        (("--base=-x",), "there is no commit -x"),
    ],
)
def test_a_revision_that_does_not_exist_is_named(
    work: Work, arguments: tuple[str, ...], message: str
) -> None:
    result = work.run(*arguments)
    assert result.exit_code == 1
    assert message in result.output


def test_a_revision_that_does_not_parse_is_named_with_file_and_line(work: Work) -> None:
    work.replace("models/days.sql", "{{ ref('stg_orders') }}", "{{ ref('stg_orders' }}")
    broken = work.commit("broken")
    work.replace("models/days.sql", "{{ ref('stg_orders' }}", "{{ ref('stg_orders') }}")
    good = work.commit("mended")
    result = work.run("--base", broken, "--head", good)
    assert result.exit_code == 1
    assert f"{broken[:10]}: dbt parse: " in result.output
    assert "models/days.sql" in result.output
    assert "line 1" in result.output
    assert "Traceback" not in result.output
    assert work.due("--base", good) == []


def test_what_a_model_says_wrong_to_dagster_is_named(work: Work) -> None:
    work.write("models/odd.sql", "{{ config(meta={'dagster': {'on_chnge': 'ask'}}) }}select 1 as a")
    result = work.run()
    assert result.exit_code == 1
    assert "working tree: models/odd.sql: meta.dagster of odd: on_chnge: " in result.output


def test_a_folder_outside_git_and_a_folder_without_a_project_say_so(
    work: Work, tmp_path: Path
) -> None:
    shutil.copytree(work.project, tmp_path / "elsewhere")
    outside = work.run("--project-dir", str(tmp_path / "elsewhere"))
    assert "not a git repository" in outside.output
    empty = work.run("--project-dir", str(work.root))
    assert "there is no dbt_project.yml" in empty.output
    assert outside.exit_code == empty.exit_code == 1


def test_a_branch_without_upstream_or_default_branch_asks_for_a_base(tmp_path: Path) -> None:
    lonely = Work(tmp_path / "lonely")
    for name, content in _FILES.items():
        lonely.write(name, content)
    lonely.git("init", "-q", "-b", "trunk")
    lonely.commit("first")
    result = lonely.run()
    assert result.exit_code == 1
    assert "name a commit with --base" in result.output
    assert lonely.due("--base", "HEAD") == []


def test_a_project_that_came_later_is_compared_from_where_it_was(work: Work) -> None:
    before = work.git("rev-parse", "HEAD")
    work.git("mv", "shop", "store")
    work.commit("moved")
    moved = work.run("--project-dir", str(work.root / "store"), "--base", before)
    assert moved.exit_code == 1
    assert f"{before[:10]}: there is no dbt_project.yml in store" in moved.output


def local_package(work: Work) -> None:
    work.write("packages.yml", "packages: [{local: packages/money}]\n")
    work.write("packages/money/dbt_project.yml", "name: money\n")
    work.write("packages/money/macros/tax.sql", "{% macro tax(c) %}{{ c }} * 0.1{% endmacro %}\n")
    work.write("models/taxed.sql", "select {{ money.tax('amount') }} as t from {{ ref('orders') }}")
    work.write("../.gitignore", "dbt_packages/\n")


def test_packages_have_to_be_installed_in_the_working_tree(work: Work) -> None:
    local_package(work)
    result = work.run()
    assert result.exit_code == 1
    assert 'Run "dbt deps" to install package dependencies' in result.output


def test_installed_packages_are_those_of_each_revision(work: Work) -> None:
    local_package(work)
    (work.project / "dbt_packages").mkdir()
    (work.project / "dbt_packages" / "money").symlink_to(work.project / "packages" / "money")
    assert work.due() == ["taxed"]
    first = work.commit("a package")
    work.replace("packages/money/macros/tax.sql", "0.1", "0.2")
    plan = work.plan("--base", first)
    assert [node["name"] for node in plan["due"]] == ["taxed"]
    assert plan["due"][0]["reason"] == [["taxed", "macro tax (macros/tax.sql)"]]


def test_a_second_plan_reads_what_the_first_one_kept(work: Work, tmp_path: Path) -> None:
    work.replace("macros/cents.sql", "* 100", "* 1000")
    first = work.plan()
    for cache in (tmp_path / "cache").rglob("*.sqlite"):
        assert cache.stat().st_size
    assert work.plan() == first
    # Whatever is wrong with what was kept, the answer is the same.
    for cache in (tmp_path / "cache").rglob("*.sqlite"):
        cache.write_bytes(b"not a database")
    assert work.plan() == first


DOCS = REPOSITORY / "docs"


def shell(work: Work, command: Sequence[str], **environment: str) -> str:
    """Run a command of the documentation in the work's folder, as a person there would."""
    bin_folder = Path(sys.executable).parent
    done = subprocess.run(
        command,
        cwd=work.root,
        env={**os.environ, **environment, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 2), done.stdout + done.stderr
    return done.stdout


def test_every_command_of_the_guide_runs(work: Work) -> None:
    work.replace("macros/cents.sql", "* 100", "* 1000")
    page = (DOCS / "plan.md").read_text()
    commands = re.findall(r"`(dbt-orchestration plan[^`]*)`", page)
    assert len(commands) == 6
    for command in commands:
        assert "revenue" in shell(work, shlex.split(command)) or "--head HEAD" in command


def test_the_json_of_the_guide_has_the_fields_of_a_plan(work: Work) -> None:
    [text] = re.findall(r"```json\n(.*?)```", (DOCS / "plan.md").read_text(), re.DOTALL)
    documented = json.loads(text)
    work.replace("macros/cents.sql", "* 100", "* 1000")
    plan = work.plan()
    assert plan.keys() == documented.keys()
    assert plan["due"][0].keys() == documented["due"][0].keys()
    assert plan["version"] == documented["version"]


def test_make_plan_runs_on_the_demo_project(tmp_path: Path) -> None:
    subprocess.run(["git", "clone", "-q", str(REPOSITORY), str(tmp_path / "clone")], check=True)
    clone = tmp_path / "clone"
    (clone / ".venv").symlink_to(REPOSITORY / ".venv")
    (clone / "install.sh").write_text("#!/bin/sh\n")
    shutil.copy(REPOSITORY / "Makefile", clone)
    project = clone / "dbt_project"
    dbt = str(Path(sys.executable).with_name("dbt"))
    subprocess.run([dbt, "deps", "--quiet"], cwd=project, check=True)
    model = project / "models" / "marts" / "reference" / "dim_aircraft.sql"
    model.write_text(model.read_text().replace("2013 - ", "2014 - "))
    done = subprocess.run(["make", "plan"], cwd=clone, capture_output=True, text=True, check=False)
    assert "dim_aircraft" in done.stdout, done.stdout + done.stderr
    assert "age_years" in done.stdout


class Host:
    """A git host that takes comments on a pull request."""

    def __init__(self) -> None:
        self.comments: list[tuple[Any, str | None]] = []
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                host.comments.append((json.loads(body), self.headers["Authorization"]))
                self.send_response(201)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_port}"


def test_a_wrong_job_of_the_file_is_refused_as_it_would_be_when_loaded(work: Work) -> None:
    for said in ("jobs: {j: {select: %s}}", "environments: {dev: {jobs: {j: {select: %s}}}}"):
        work.write("orchestration.yml", said % "revenue dayss")
        result = work.run()
        assert result.exit_code == 1
        assert result.stderr.splitlines()[-1] == (
            "error: working tree: orchestration.yml: jobs.j.select: there is no model 'dayss': did"
            " you mean days?"
        )
        work.write("orchestration.yml", said % "revenue days")
        assert work.run().exit_code == 0
    work.write("orchestration.yml", "routes: {money: {groups: [finance], slack: '#a'}}")
    assert work.plan()["notes"] == [
        "orchestration.yml: routes.money.groups: no model is in the group 'finance'; there are:"
        " models, seeds"
    ]


def test_the_rules_of_the_platform_count_where_they_are_at_hand(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work.root)
    prod = "environments:\n  prod: {branch: main, target: prod%s}\n"
    (work.root / "environments.yaml").write_text(prod % ", project_file: {allow: [on_change]}")
    for said, why in {
        "jobs: {j: {select: revenue}}": "jobs: the settings of the platform do not let",
        "environments: {prodd: {}}": "environments.prodd: there is no such environment: did you",
    }.items():
        work.write("orchestration.yml", said)
        result = work.run()
        assert result.exit_code == 1
        assert why in result.stderr
    work.write("orchestration.yml", "on_change: ask")
    assert work.plan()["notes"] == []
    (work.root / "environments.yaml").write_text(prod % ", branhc: main")
    [note] = work.plan()["notes"]
    assert note.startswith("orchestration.yml: the platform's rules are not known: ")
    assert "branhc: there is no such setting: did you mean branch?" in note


def test_a_model_of_another_target_is_not_missed(
    work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(work.root)
    (work.root / "environments.yaml").write_text(
        "environments:\n  prod: {branch: main, target: prod}\n  dev: {branch: dev, target: dev}\n"
    )
    work.write("models/dear.sql", "{{ config(enabled=target.name == 'prod') }} select 1 as one")
    work.write("orchestration.yml", "environments: {prod: {jobs: {j: {select: dear}}}}")
    [note] = work.plan("--target", "dev")["notes"]
    assert note == (
        "orchestration.yml: the jobs of prod are not checked, as models are disabled here: see plan"
        " --target prod"
    )
    assert work.plan()["notes"] == []  # none is disabled
    work.write("orchestration.yml", "environments: {prod: {jobs: {j: {select: deer}}}}")
    assert "there is no model 'deer': did you mean dear?" in work.run().stderr


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.server.shutdown()
    host.server.server_close()


@pytest.fixture
def topic(work: Work) -> Work:
    work.git("checkout", "-qb", "topic")
    work.replace("macros/cents.sql", "* 100", "* 1000")
    work.commit("thousandths")
    return work


@pytest.mark.parametrize("path", ["repos/o/r/issues/1/comments", "2.0/bitbucket/comments"])
def test_the_shell_script_posts_the_plan(topic: Work, host: Host, path: str) -> None:
    script = str(DOCS / "ci" / "plan.sh")
    url = f"{host.url}/{path}"
    said = shell(topic, ["sh", script], BASE="origin/main", COMMENTS_URL=url, TOKEN="a-secret")
    assert said == "posted: 201\n"
    [(comment, authorization)] = host.comments
    text = comment["content"]["raw"] if "bitbucket" in path else comment["body"]
    assert text.startswith("### 2 of 4 nodes to build")
    assert "| `stg_orders` | build | cents | macro cents (macros/cents.sql) |" in text
    assert authorization == "Bearer a-secret"


def test_the_workflow_writes_the_plan(topic: Work) -> None:
    workflow = yaml.safe_load((DOCS / "ci" / "plan.github.yml").read_text())
    steps = {step.get("name"): step for step in workflow["jobs"]["plan"]["steps"]}
    summary = topic.root / "summary.md"
    shell(
        topic,
        ["bash", "-e", "-c", steps["Plan"]["run"]],
        BASE="origin/main",
        GITHUB_STEP_SUMMARY=str(summary),
    )
    assert "| `revenue` | build | cents | stg_orders.cents ← macro cents" in summary.read_text()
    assert "plan.md" in steps["Comment"]["run"]
