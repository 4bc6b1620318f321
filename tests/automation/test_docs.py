"""dbt docs of each commit, without a person: when they are written, and when not."""

from __future__ import annotations

from collections.abc import Sequence

import dagster as dg
from upath import UPath

from dbt_orchestration.dbt.internals import adapters
from dbt_orchestration.operations.docs_form import docs_folder
from dbt_orchestration.settings.docs import Docs
from tests.automation.site import Site
from tests.automation.telling.office import keep_cursor
from tests.automation.test_held import first, order
from tests.automation.test_history import shown
from tests.conftest import failure


def begin(site: Site) -> None:
    site.build_all()


def follow(site: Site, folder: str = "") -> None:
    docs = Docs(after_push=True, folder=folder or None)
    site.settings = site.settings.model_copy(update={"docs": docs})
    site.load()


def look(site: Site) -> tuple[Sequence[dg.RunRequest], str]:
    """One evaluation of the sensor, after what the push sensor has left."""
    keep_cursor(site.instance, "prod_push", site.cursors["prod"] or "")
    loaded = site.loaded["prod"]
    with dg.build_sensor_context(site.instance, definitions=loaded) as context:
        data = loaded.resolve_sensor_def("prod_docs").evaluate_tick(context)
    return data.run_requests or (), data.skip_message or ""


def write(site: Site) -> dg.ExecuteInProcessResult:
    """The run that the sensor asks for; afterwards it asks for no other one."""
    [request], _ = look(site)
    assert request.tags["dagster/priority"] == "0"
    adapters.close_duckdb()
    job = site.loaded["prod"].resolve_job_def("prod_docs")
    result = job.execute_in_process(
        instance=site.instance, tags=dict(request.tags), raise_on_error=False
    )
    assert not look(site)[0]
    return result


def page(site: Site) -> str:
    folder: UPath = docs_folder(site.settings, "prod")
    return (folder / "index.html").read_text()


def test_they_are_written_once_of_each_commit_when_it_is_built(built: Site) -> None:
    assert "prod_docs" not in {sensor.name for sensor in built.load().sensors or ()}
    follow(built)
    built.says()
    of_first = write(built)
    head = built.clone.head()[:10]
    assert shown(of_first)["commit"] == f"{head} first"
    run = built.instance.get_run_by_id(of_first.run_id)
    assert run
    assert run.tags["dbt/commit"] == f"{head} first"
    assert f">prod at {head} first</div></body>" in page(built)
    assert look(built)[1] == f"main at {head} “first”: its dbt docs are written."

    built.clone.edit("models/totals.sql", "sum(orders)", "sum(orders) * 2")
    newest = built.clone.push("<b>twofold</b>\n\nfor DATA-5")[:10]
    request = built.request()
    assert look(built) == ((), f"main at {newest} “<b>twofold</b>”: waiting for its build.")
    assert built.run(request).success
    assert not look(built)[0]
    built.says()
    assert write(built).success
    assert f">prod at {newest} &lt;b&gt;twofold&lt;/b&gt; (DATA-5)</div></body>" in page(built)

    built.clone.write("models/totals.yml", "models: [{name: totals, description: All orders}]")
    newest = built.clone.push("a description")[:10]
    assert "nothing is due" in built.says()
    assert write(built).success
    assert newest in page(built)
    assert "All orders" in page(built)


def test_whoever_launches_the_job_himself_leaves_nothing_to_do(built: Site) -> None:
    follow(built)
    built.says()
    assert built.launch("docs").success
    assert look(built)[1].endswith("its dbt docs are written.")


def test_they_are_tried_once_for_a_commit(built: Site) -> None:
    follow(built, "gs://nobody/docs")
    built.says()
    run = write(built)
    assert "docs.folder: gs://nobody/docs/prod/index.html cannot be written" in failure(run)
    said = look(built)[1]
    assert f": run {run.run_id[:8]} did not write its dbt docs. Launch prod_docs" in said
    built.clone.edit("models/customers.sql", "sum(amount)", "error('no')")
    newest = built.clone.push("broken at run time")
    assert not built.build().success
    assert "tried already" in built.says()
    [request], _ = look(built)
    assert request.tags["dbt/commit"] == f"{newest[:10]} broken at run time"


def test_none_are_written_while_it_is_paused_or_about_to_be_held(built: Site) -> None:
    follow(built)
    built.clone.write("models/fresh.sql", "select 1 as one")
    built.clone.push("fresh")
    built.build_all()
    order(built, "pause", reason="the warehouse is moved")
    assert look(built)[1].startswith("Paused by somebody since ")
    order(built, "resume")
    assert write(built).success
    order(built, "roll_back", commit=first(built), reason="no", dry_run=False)
    assert look(built)[1].startswith(f"Held at {first(built)[:10]} by somebody since ")
    built.build_all()
    assert write(built).success
    assert f"{first(built)[:10]} first<" in page(built)
    order(built, "roll_forward")
    built.build_all()
    assert write(built).success
    assert f"{built.clone.head()[:10]} fresh<" in page(built)
