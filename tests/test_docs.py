"""Every command in the documentation exists and is run; both languages say the same."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import dagster as dg
import pytest
import yaml
from pydantic import BaseModel

from dbt_orchestration.history.partitions import partition_config
from dbt_orchestration.operations.dbt_command import DbtForm
from dbt_orchestration.operations.hold_form import RollBackForm
from dbt_orchestration.operations.rebuild_form import RebuildForm
from dbt_orchestration.operations.run_now import RunNowForm
from dbt_orchestration.settings.allowed import ProjectFileRules
from dbt_orchestration.settings.failed_rows import FailedRows
from dbt_orchestration.settings.lightdash import Lightdash
from dbt_orchestration.settings.models import Environment, Git, Push, Settings
from dbt_orchestration.settings.notify import (
    Email,
    Notify,
    QuietHours,
    Route,
    Slack,
    Teams,
    Webhook,
)
from dbt_orchestration.settings.project_file import ProjectFile
from dbt_orchestration.settings.project_meta import DagsterMeta, Freshness, Partitions
from tests.conftest import REPOSITORY

ENGLISH, KOREAN = REPOSITORY / "README.md", REPOSITORY / "README.ko.md"
PAGES = [
    ENGLISH,
    KOREAN,
    REPOSITORY / "CONTRIBUTING.md",
    *sorted((REPOSITORY / "docs").glob("*.md")),
    *sorted((REPOSITORY / "docs" / "how").glob("*.md")),
    *sorted((REPOSITORY / "deploy").glob("*.md")),
]
FORMS: Mapping[str, type[dg.Config]] = {
    "prod_form": RebuildForm,
    "prod_command": DbtForm,
    "prod_now": RunNowForm,
    "prod_hold": RollBackForm,
}
# `make test` runs this test; the others have one of their own, named here.
RUN_BY = {
    "make up": "tests/e2e/test_up.py",
    "make demo": "tests/test_demo.py",
    "make check": "Makefile",
    ".venv/bin/pytest -x tests/changes/test_queries.py": ".ci/run",
    "make test": ".ci/run",
    "make plan": "tests/revisions/test_compare.py",
    "FAULTS=all .venv/bin/pytest tests/faults": "tests/faults/test_kills.py",
    "dbt-orchestration up": "tests/e2e/test_stranger.py",
    "pip install '.[duckdb]'": "tests/e2e/test_stranger.py",
    "dbt-orchestration plan": "tests/revisions/test_compare.py",
    "dbt-orchestration notify --test": "tests/automation/telling/test_trial.py",
    "dbt-orchestration rollback": "tests/automation/test_held.py",
    'dbt-orchestration rollback --to DATA-123 --reason "wrong totals" --no-dry-run': (
        "tests/automation/test_held.py"
    ),
    "dbt-orchestration rollback --to DATA-123": "tests/automation/test_held.py",
    "dbt-orchestration roll-forward": "tests/automation/test_held.py",
    'dbt-orchestration pause --reason "the warehouse is moved"': "tests/automation/test_held.py",
    "dbt-orchestration resume": "tests/automation/test_held.py",
    "dbt-orchestration launch": "tests/automation/test_held.py",
    "dbt-orchestration launch run_now --help": "tests/automation/test_held.py",
    'dbt-orchestration launch run_now --select customers --reason "wrong totals" --dry-run': (
        "tests/automation/test_held.py"
    ),
    "helm template dagster deploy/chart --values deploy/chart/values-prod.yaml": (
        "tests/deploy/test_chart.py"
    ),
    "deploy/image-tag.sh": "tests/deploy/test_files.py",
    "dg check defs": "tests/location/test_dg.py",
    "dg scaffold defs dbt_orchestration.DbtEnvironmentComponent warehouse --project-path dbt": (
        "tests/location/test_dg.py"
    ),
}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)


def commands(page: Path) -> list[str]:
    lines = [line.strip() for block in blocks(page, "sh") for line in block.splitlines()]
    return [line for line in lines if line]


_CODE = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
_TWINS = [page for page in PAGES if page.name.endswith(".ko.md")]


@pytest.mark.parametrize("korean", _TWINS, ids=lambda page: f"{page.parent.name}/{page.name}")
def test_both_languages_have_the_same_headings_rows_code_and_pictures(korean: Path) -> None:
    def skeleton(page: Path) -> list[object]:
        text = page.read_text()
        prose = _CODE.sub("", text)
        return [
            len(re.findall(r"(?m)^#+ ", prose)),
            len(re.findall(r"(?m)^ *\|", prose)),
            # Reasons and comments are for people.
            [(kind, re.sub(r" *#.*|reason: .*", "", code)) for kind, code in _CODE.findall(text)],
            re.findall(r"\(((?:\.\./|docs/)?images/[^)]*)\)", text),
        ]

    assert skeleton(korean.with_name(korean.name.replace(".ko.md", ".md"))) == skeleton(korean)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if not link.startswith("http"):
            assert (page.parent / link).exists(), link


def anchors(page: Path) -> set[str]:
    """Those that GitHub makes of a page's headings."""
    headings = re.findall(r"(?m)^#+ (.*)$", _CODE.sub("", page.read_text()))
    words = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {word.replace(" ", "-") for word in words}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_heading(page: Path) -> None:
    for link, anchor in re.findall(r"\]\(([^)#\s]*\.md|)#([^)\s]+)\)", page.read_text()):
        if not link.startswith("http"):
            assert anchor in anchors(page.parent / link if link else page), f"{link}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_run_by_a_test(page: Path) -> None:
    for command in commands(page):
        if command.startswith("export "):
            continue
        known = RUN_BY.get(command)
        assert command == "make doctor" or (known and (REPOSITORY / known).is_file()), command


def test_every_picture_is_shown_and_taken_by_the_tests_of_the_browser() -> None:
    kept = {picture.stem for picture in (REPOSITORY / "docs" / "images").glob("*.png")}
    shown = {
        name for page in PAGES for name in re.findall(r"images/([\w-]+)\.png", page.read_text())
    }
    tests = "".join(file.read_text() for file in (REPOSITORY / "tests" / "browser").glob("test_*"))
    taken = set(re.findall(r"ui\.picture\(\"([\w-]+)\"[,)]", tests))
    assert kept == shown == taken


_HOW = REPOSITORY / "docs" / "how"
_COMPLAINTS = sorted(
    p.stem.removesuffix(".ko") for p in _HOW.glob("*.ko.md") if "README" not in p.stem
)


@pytest.mark.parametrize("name", _COMPLAINTS)
def test_a_page_on_how_it_is_done_is_short_and_its_forms_are_filled_in_right(name: str) -> None:
    pages = [_HOW / f"{name}.md", _HOW / f"{name}.ko.md"]
    # Pictures, jobs, numbered clicks, and what is said.
    same = (r"\(\.\./images/.*?\)", r"\bprod_[a-z_]+", r"(?m)^\d\.", r"(?m)\| `([^`]*)` \|$")
    english, korean = ([{*re.findall(each, p.read_text())} for each in same] for p in pages)
    assert english == korean
    assert len(english[0]) == 1
    for page in pages:
        assert len(page.read_text().splitlines()) < 50
        assert f"]({page.name})" in (_HOW / page.name.replace(name, "README")).read_text()
        for said in map(yaml.safe_load, blocks(page, "yaml")):
            if "ops" not in said:
                ProjectFile.model_validate(said)
                continue
            [(op, filled_in)] = said["ops"].items()
            assert filled_in["config"].keys() <= FORMS[op].model_fields.keys()
            FORMS[op](**filled_in["config"])


def test_no_page_and_no_message_installs_from_an_index_what_no_index_has() -> None:
    # Only after `@` pip takes it from elsewhere.
    for file in [*PAGES, *(REPOSITORY / "dbt_orchestration").rglob("*.py")]:
        for said in re.findall(
            r"pip install ['\"]?dbt-orchestration[^ '\"]*(..)", file.read_text()
        ):
            assert said == " @", file


def test_make_doctor_runs_with_the_exports_of_the_page(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "doctor"],
        cwd=REPOSITORY,
        env=os.environ
        | {
            "DBT_ORCHESTRATION_STATE_DIR": str(tmp_path),
            "DBT_ORCHESTRATION_PROFILE": "snowflake",
            "DBT_ORCHESTRATION_ENVIRONMENTS__PROD__FULL_BUILD__TIMEZONE": "Europe/Berlin",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "prod: credentials: set DBT_ENV_SECRET_SNOWFLAKE_PRIVATE_KEY, SNOWFLAKE_A" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_the_settings_page_names_every_setting() -> None:
    pages = ("settings.md", "push.md")
    page = "".join((REPOSITORY / "docs" / name).read_text() for name in pages)
    for name in (
        *Settings.model_fields,
        *Environment.model_fields,
        *Push.model_fields,
        *Git.model_fields,
        *Lightdash.model_fields,
    ):
        assert f"`{name}`" in page or f"{name}:" in page, name


def test_the_page_of_notifications_names_every_setting() -> None:
    page = (REPOSITORY / "docs" / "notifications.md").read_text()
    for name in Notify.model_fields:
        assert f"`{name}" in page, name
    parts: dict[str, type[BaseModel]] = {
        "slack": Slack,
        "email": Email,
        "teams": Teams,
        "webhook": Webhook,
    }
    models: list[tuple[str, type[BaseModel]]] = [
        *parts.items(),
        ("routes.NAME", Route),
        ("quiet_hours", QuietHours),
    ]
    for part, model in models:
        for name in model.model_fields:
            assert f"`{part}.{name}`" in page or f"`.{name}`" in page, name


def test_the_example_of_notifications_is_valid() -> None:
    [text] = blocks(REPOSITORY / "docs" / "notifications.md", "yaml")
    assert Notify.model_validate(yaml.safe_load(text)["notify"]).problem() == ""


def test_the_failures_page_names_every_setting_with_its_default() -> None:
    page = REPOSITORY / "docs" / "failures.md"
    [text] = blocks(page, "yaml")
    said = yaml.safe_load(text)["environments"]["prod"]["failed_rows"]
    assert said == FailedRows().model_dump()


def test_what_the_page_sets_of_dagster_is_what_we_set() -> None:
    _, text = blocks(REPOSITORY / "docs" / "dagster.md", "yaml")
    ours = yaml.safe_load((REPOSITORY / "dbt_orchestration" / "dagster.yaml").read_text())
    for name, said in yaml.safe_load(text).items():
        assert said == {key: ours[name][key] for key in said}, name


def test_the_dbt_page_names_every_key_of_meta_dagster() -> None:
    page = (REPOSITORY / "docs" / "dbt.md").read_text()
    for name in (*DagsterMeta.model_fields, *Partitions.model_fields, *Freshness.model_fields):
        assert f"`{name}`" in page or f"{name}:" in page, name


def test_the_example_environment_is_valid() -> None:
    [text] = blocks(REPOSITORY / "docs" / "settings.md", "yaml")
    prod = yaml.safe_load(text)["environments"]["prod"]
    assert Environment.model_validate(prod).jobs["finance"].exclude == "tag:slow"


@pytest.mark.parametrize("name", ["orchestration-file.md", "orchestration-file.ko.md"])
def test_the_example_of_the_file_of_analysts_is_valid(name: str) -> None:
    file, rules = (yaml.safe_load(b) for b in blocks(REPOSITORY / "docs" / name, "yaml"))
    said = ProjectFile.model_validate(file)
    assert said.model_fields_set == ProjectFile.model_fields.keys()
    stated = Environment.model_validate(rules["environments"]["prod"])
    assert stated.project_file == ProjectFileRules()
    assert stated.project_file.model_fields_set == ProjectFileRules.model_fields.keys()


def test_the_example_with_lightdash_is_valid() -> None:
    page = REPOSITORY / "docs" / "lightdash.md"
    [text] = blocks(page, "yaml")
    prod = Environment.model_validate(yaml.safe_load(text)["environments"]["prod"])
    assert prod.lightdash is not None
    default = Lightdash.model_fields["timeout_seconds"].default
    assert prod.lightdash.timeout_seconds == default
    [export] = commands(page)
    variable = "DBT_ORCHESTRATION_ENVIRONMENTS__PROD__LIGHTDASH__TOKEN"
    assert export.startswith(f"export {variable}=")
    assert variable in (REPOSITORY / "tests" / "automation" / "test_lightdash.py").read_text()


def test_the_example_partitions_are_valid() -> None:
    _, microbatch, opted_in = (
        yaml.safe_load(block) for block in blocks(REPOSITORY / "docs" / "dbt.md", "yaml")
    )
    for example in (microbatch, opted_in):
        node = {"resource_type": "model", "name": "example", **example}
        assert partition_config(node) is not None
