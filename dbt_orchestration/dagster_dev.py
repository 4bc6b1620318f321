"""``dagster dev``, with the webserver of ``dbt_orchestration.webserver``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dagster._cli import dev

_open = vars(dev)["open_ipc_subprocess"]


def _opened(command: Sequence[str], **options: Any) -> Any:
    ours = {"dagster_webserver": "dbt_orchestration.webserver"}
    return _open([ours.get(part, part) for part in command], **options)


if __name__ == "__main__":
    vars(dev).update(open_ipc_subprocess=_opened)
    dev.dev_command(prog_name="dagster dev")
