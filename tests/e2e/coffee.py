"""A stranger's dbt project in git, served by ``up``."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from tests.automation.site import git
from tests.e2e.running import PATIENCE, free_port, until
from tests.test_found import commit_all, make_project


@dataclass
class Coffee:
    """The project of a coffee shop, whose warehouse is a file beside it.

    Attributes:
        command: `dbt-orchestration`, as it is called.
        folder: of the project and of what `up` says.
        variables: of `up`, besides those of this process.
    """

    command: Sequence[str]
    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        make_project(self.project)
        (self.project / ".gitignore").write_text("*.duckdb*\n")
        git(self.project, "init", "--quiet", "--initial-branch=trunk")
        commit_all(self.project)

    @property
    def project(self) -> Path:
        return self.folder / "coffee"

    @property
    def said(self) -> str:
        """All that `up` said, each time."""
        return (self.folder / "up.log").read_text()

    @property
    def environment(self) -> Mapping[str, str]:
        """That of a process which finds nothing of this one's packages."""
        ours = ("PYTHONPATH", "VIRTUAL_ENV")
        return {**{k: v for k, v in os.environ.items() if k not in ours}, **self.variables}

    @contextmanager
    def up(self) -> Iterator[subprocess.Popen[bytes]]:
        """`up`, and Ctrl-C at the end."""
        with (self.folder / "up.log").open("a") as output:
            process = subprocess.Popen(
                [*self.command, "up", "--port", str(free_port())],
                cwd=self.project,
                env=self.environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=PATIENCE)

    def commit(self, old: str, new: str) -> None:
        """Change the model, in a new commit."""
        model = self.project / "models" / "sales.sql"
        model.write_text(model.read_text().replace(old, new))
        commit_all(self.project, f"{old} is {new}")

    def sales(self) -> list[float] | None:
        """What the model has; None if nobody can look now."""
        file = self.project / "coffee.duckdb"
        # While a run writes the file, nobody else can read it.
        if file.is_file():
            with suppress(duckdb.Error), duckdb.connect(str(file)) as connection:
                rows = connection.execute("select euros from shop.sales order by 1").fetchall()
                return [euros for (euros,) in rows]
        return None

    def until_sales(self, process: subprocess.Popen[bytes], *expected: float) -> None:
        """Wait until the model has these values."""

        def look() -> bool | None:
            assert process.poll() is None, self.said
            return True if self.sales() == [*expected] else None

        until(look)
