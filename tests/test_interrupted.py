"""Ctrl-C is not lost, whatever Python does when it comes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import weakref

import pytest

from dbt_orchestration.local.dagster_process import interruptible, watch
from tests.e2e.running import free_port


class Anything:
    pass


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_in_a_finalizer_stops() -> None:
    """Python prints "Exception ignored in", and goes on."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as dagster:
        with interruptible(), pytest.raises(KeyboardInterrupt):  # noqa: PT012
            anything = Anything()
            weakref.finalize(anything, os.kill, os.getpid(), signal.SIGINT)
            del anything
            watch(dagster, free_port())
        dagster.kill()


def test_an_earlier_ctrl_c_is_none_of_the_next_time() -> None:
    with pytest.raises(KeyboardInterrupt), interruptible():
        os.kill(os.getpid(), signal.SIGINT)
    with (
        interruptible(),
        subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.PIPE) as dagster,
    ):
        watch(dagster, free_port())
