"""The form for dbt commands: what builds is a run of assets, the rest is shown on its page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from upath import UPath

from dbt_orchestration.operations.dbt_command import DbtForm, argv
from dbt_orchestration.operations.form import RefusedError
from dbt_orchestration.settings.docs import Docs
from tests.automation.site import Site, names
from tests.conftest import checks, failure, materialized
from tests.operations.forms import rows, shown, started

SOURCE = """\
sources:
  - name: raw
    schema: main
    tables:
      - name: raw_orders
        loaded_at_field: ordered_at::timestamp
        freshness: {warn_after: {count: 1, period: day}}
"""
MACRO = """\
{% macro forget(day) %}
    {% do run_query("delete from main.daily where day_at = '" ~ day ~ "'") %}
    {{ log("forgot " ~ day, info=true) }}
{% endmacro %}
"""


def add_macro(site: Site) -> None:
    (site.clone.folder / "dbt" / "macros").mkdir()
    site.clone.write("macros/forget.sql", MACRO)


def test_what_builds_is_a_run_that_is_recorded_on_the_assets(built: Site) -> None:
    built.load()
    built.query("delete from main.kept where order_id = 1")
    form = {"command": "run", "select": "+kept customers", "reason": "a correction"}
    built.launch("dbt", **form, full_refresh=True, dry_run=False)
    [request] = started(built)
    assert names(request) == ["customers", "kept", "stg_orders"]  # and not the seed
    assert "wants dbt run +kept customers: a correction" in request.tags["dbt/why"]
    result = built.run(request)
    assert materialized(result) == ["customers", "kept", "stg_orders"]
    folder = Path(built.instance.storage_directory()) / result.run_id / "dbt"
    results = json.loads((folder / "run_results.json").read_text())["results"]
    assert {each["unique_id"].split(".")[-1] for each in results} == {*materialized(result)}
    assert checks(result) == {}
    assert built.query("select count(*) from main.kept") == [(4,)]
    built.launch("dbt", command="test", select="customers", reason="to be sure")
    [request] = started(built)
    assert not request.asset_selection
    assert [c.passed for c in checks(built.run(request)).values()] == [True]
    said = failure(built.launch("dbt", command="seed", select="kept", reason="so"))
    assert "select: dbt seed builds seeds, and 'kept' has none." in said


def test_what_only_reads_is_shown_on_the_runs_page(built: Site) -> None:
    def result_of(**form: Any) -> str:
        return shown(built.launch("dbt", **form))["result"]

    unseen = built.clone.commit("never loaded")
    built.clone.write("models/sources.yml", SOURCE)
    built.clone.edit("models/models.yml", "columns", "config: {tags: [contains_pii]}\n    columns")
    built.clone.push("sources")
    built.says()
    kept = {"command": "show", "select": "kept", "arguments": ["--limit 2"]}
    assert "0 rows" in result_of(**kept)  # those that a run would add
    show = result_of(**kept, full_refresh=True)
    assert "2 rows" in show
    assert len(rows(show)) == 2
    query = "select max(amount) as most from {{ ref('daily') }}"
    assert rows(result_of(command="show", inline=query)) == [["350"]]
    assert 'from "warehouse"."main"."daily"' in result_of(command="compile", inline=query)
    listed = result_of(command="list", select="customers+", arguments=["--resource-type=model"])
    assert "shop.big_customers\nshop.customers\nshop.totals" in listed
    assert [row[:2] for row in rows(result_of(command="source freshness"))] == [
        ["raw\\.raw\\_orders", "warn"]
    ]
    page = shown(built.launch("dbt", command="docs generate", arguments=["--empty-catalog"]))
    assert (Path(page["artifacts"]) / "index.html").is_file()
    written = Path(shown(built.launch("docs"))["docs"])
    assert written.parent == built.settings.state_dir / "docs" / "prod"
    assert "big_customers" in written.read_text()
    served = {"folder": "memory://site/docs", "url": "https://docs.example.com/"}
    settings = built.settings
    built.settings = settings.model_copy(update={"docs": Docs(**served)})
    built.load()
    address = "https://docs.example.com/prod/index.html"
    assert shown(built.launch("docs"))["docs"] == address
    assert "big_customers" in UPath("memory://site/docs/prod/index.html").read_text()
    assets = built.loaded["prod"].resolve_asset_graph()
    metadata = assets.get(dg.AssetKey(["prod", "customers"])).metadata
    assert metadata["docs"] == dg.MetadataValue.url(f"{address}#!/model/model.shop.customers")
    built.settings = settings.model_copy(update={"docs": Docs(folder="gs://nobody/docs")})
    built.load()
    said = failure(built.launch("docs"))
    assert "docs.folder: gs://nobody/docs/prod/index.html cannot be written: " in said
    assert "\n" not in said
    built.settings = settings
    built.load()
    hidden = failure(built.launch("dbt", command="show", select="customers"))
    assert "customers has contains_pii, so none of its rows are shown" in hidden
    wrong = failure(built.launch("dbt", command="show", inline="select * from nowhere"))
    assert wrong.startswith("dbt show failed: ")
    assert started(built) == []
    before = result_of(command="list", commit=unseen[:10], arguments=["--resource-type source"])
    assert "0 found" in before


def test_what_shows_nothing_says_why(built: Site) -> None:
    built.load()
    unknown = "select * from {{ ref('custmers') }}"
    wrong = failure(built.launch("dbt", command="show", inline=unknown))
    assert "depends on a node named 'custmers' which was not found" in wrong
    wrong = failure(built.launch("dbt", command="show", select="tag:shoes"))
    assert wrong == "select: 'tag:shoes' matches nothing"
    wrong = failure(built.launch("dbt", command="compile", select="kept", exclude="kept"))
    assert wrong == "select: 'kept' without 'kept' matches nothing"


def test_a_macro_is_run_with_the_reason_on_record(built: Site) -> None:
    add_macro(built)
    built.clone.push("forget")
    built.says()
    form = {"command": "run-operation", "macro": "forget", "args": {"day": "2024-01-01"}}
    dry = shown(built.launch("dbt", **form, reason="x"))
    assert "Nothing was started" in dry["next"]
    assert built.query("select count(*) from main.daily") == [(3,)]
    asked = built.launch("dbt", **form, reason="a bad day", dry_run=False)
    assert "forgot 2024-01-01" in shown(asked)["result"]
    assert built.query("select count(*) from main.daily") == [(2,)]
    run = built.instance.get_run_by_id(asked.run_id)
    assert run is not None
    assert run.tags["dbt/why"] == "dbt run-operation forget: a bad day"
    wrong = built.launch("dbt", **{**form, "macro": "forgot"}, reason="x")
    assert "macro 'forgot': did you mean forget?" in failure(wrong)


WRONG: Sequence[tuple[Mapping[str, Any], str]] = [
    ({"command": "biuld"}, "command: 'biuld' does not run here: did you mean build?"),
    ({"command": "run", "select": "kept"}, "reason: say in a few words why"),
    (
        {"command": "run", "select": "kep", "reason": "x"},
        "select: there is no model 'kep': did you mean kept",
    ),
    ({"command": "show"}, "select: dbt show takes either select or inline"),
    ({"command": "list", "macro": "x"}, "macro: dbt list takes none: leave it empty"),
    ({"command": "run-operation", "macro": "drop_relation", "reason": "x"}, "macro: the proj"),
    (
        {"command": "build", "select": "kept", "commit": "abcdef0", "reason": "x"},
        "commit: none of the last 2 commits of",
    ),
    ({"command": "clone", "select": "kept", "commit": "abcdef0"}, "commit: dbt clone works with"),
    ({"command": "list", "commit": "abcdef0"}, "commit: none of the last 2 commits of"),
]


def test_what_is_wrong_is_refused_in_one_line(built: Site) -> None:
    built.load()
    for form, why in WRONG:
        said = failure(built.launch("dbt", **form))
        assert said.startswith(f"Nothing was started: {why}")
        assert "\n" not in said
    assert started(built) == []


LEAVES = {
    "--target dev": "an environment is one target of one profile",
    "-t=dev": "an environment is one target of one profile",
    "--profiles-dir /tmp": "an environment is one target of one profile",
    "--project-dir /tmp": "the project is that of the commit",
    "--target-path /tmp": "files are kept with the run",
    "--log-path /tmp": "files are kept with the run",
    "--state /tmp": "what an environment reads of another one",
    "--defer": "what an environment reads of another one",
    "--empty": "tables would hold other rows than the commit says",
    "--select x": "has a field of its own: fill in select",
    "--event-time-start 2024-01-01": "choose days in the form prod_rebuild",
    "--fail-fast": "is not on the list",
    "kept": "is not on the list",
}


@pytest.mark.parametrize("command", ["build", "show", "list", "run-operation"])
@pytest.mark.parametrize("argument", LEAVES)
def test_no_option_leaves_the_environment(command: str, argument: str) -> None:
    form = DbtForm(command=command, arguments=[argument])
    with pytest.raises(RefusedError, match=LEAVES[argument]):
        argv("prod", form)


@pytest.mark.parametrize(
    ("command", "argument", "why"),
    [
        ("show", "--limit -1", "--limit takes a number from 1 to 999, not '-1'"),
        ("show", "--limit", "--limit takes a number from 1 to 999, not ''"),
        ("list", "--output yaml", "--output takes json, name, path, selector, not 'yaml'"),
        ("list", "--output-keys --target", "--output-keys takes a word, not '--target'"),
    ],
)
def test_an_option_has_a_value_of_its_own(command: str, argument: str, why: str) -> None:
    with pytest.raises(RefusedError, match=why):
        argv("prod", DbtForm(command=command, arguments=[argument]))
