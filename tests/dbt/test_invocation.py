"""One command of dbt's, run in this process."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import pytest
from dbt.cli.main import dbtRunner
from dbt.events.types import LogModelResult
from dbt_common.events.base_types import msg_from_base_event

from dbt_orchestration.dbt.invocation import DbtInvocation, DbtTarget


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_what_dbt_has_said_is_handed_over_even_if_dbt_breaks(tmp_path: Path) -> None:
    def breaks(self: dbtRunner, _: list[str]) -> None:
        said = LogModelResult(description="orders", status="OK", node_info={"unique_id": "orders"})
        for callback in self.callbacks:
            callback(msg_from_base_event(said))
        raise MemoryError

    invocation = DbtInvocation(DbtTarget(tmp_path, tmp_path, tmp_path), ["run"])
    with patch.object(dbtRunner, "invoke", breaks):
        [event] = invocation.events()
    assert event["data"]["node_info"]["unique_id"] == "orders"
