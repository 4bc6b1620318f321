"""What is handed over to a run travels in tags that nobody sees, and not in its config."""

from __future__ import annotations

from dbt_orchestration.history.order import Order
from dbt_orchestration.history.request import is_ordinary
from tests.conftest import Warehouse


def test_a_launchpad_shows_what_a_person_sets(warehouse: Warehouse) -> None:
    job = warehouse.definitions.resolve_implicit_global_asset_job_def()
    [node] = [node for node in job.nodes_in_topological_order if node.name == "dbt_prod"]
    fields = node.definition.config_field.config_type.fields  # type: ignore[union-attr]
    assert set(fields) == {"full_refresh", "vars", "exclude_tests"}


def test_an_order_comes_back_from_its_tags_however_long_it_is() -> None:
    order = Order(
        rebuild=["model.a.b"],
        partitions={"model.a.c": ["2024-01-01..2024-02-01", "2024-03-01"]},
        reasons={f"model.a.주문_{n}": f"column_changed c{n * n}: ← SQL" for n in range(2_000)},
        left_alone=3,
        seconds_saved=1.5,
    )
    tags = order.as_tags()
    assert Order.of_tags({"dagster/sensor_name": "prod_push", **tags}) == order
    assert len(tags) > 1
    assert max(map(len, tags.values())) <= 1_000  # PostgreSQL has each in an index
    assert all(tag.startswith(".dagster/") for tag in tags)


def test_a_shorter_order_stands_over_a_longer_one() -> None:
    longer = Order(reasons={str(n): f"{n * n}" for n in range(2_000)})
    shorter = Order(reasons={str(n): f"{n * n}" for n in range(500)})
    tags = {**longer.as_tags(), **shorter.as_tags()}
    assert len(tags) > len(shorter.as_tags()) > 1
    assert Order.of_tags(tags).reasons == shorter.reasons


def test_a_run_that_a_person_starts_has_no_order() -> None:
    assert Order.of_tags({"user": "ann"}) == Order()
    assert Order().as_tags() == {}


def test_a_run_of_chosen_partitions_is_no_ordinary_one() -> None:
    assert is_ordinary({}, {"exclude_tests": True})
    assert is_ordinary(Order(reasons={"a": "new"}).as_tags(), {})
    assert not is_ordinary(Order(partitions={"a": ["2024-01-01"]}).as_tags(), {})
    assert not is_ordinary({}, {"partitions": {"a": ["2024-01-01"]}})  # before there were orders
