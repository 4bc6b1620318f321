from __future__ import annotations

import pytest

from dbt_orchestration.runs.snowsight import query_url

PAGE = "https://app.snowflake.com/acme/data-eu/#/compute/history/queries/01b7-00/detail"


@pytest.mark.parametrize(
    ("account", "page"),
    [
        ("ACME-data-eu", PAGE),
        ("acme-data-eu.privatelink", ""),
        ("xy12345.eu-central-1", ""),
        ("xy12345", ""),
        ("", ""),
    ],
)
def test_the_page_of_a_query_follows_from_the_account(account: str, page: str) -> None:
    assert query_url(account, "01b7-00") == page
