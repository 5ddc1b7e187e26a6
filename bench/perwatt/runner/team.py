"""The leader of a team: starts one rank for each device through torch's elastic launcher, and tells which one failed.

Started as ``python -m perwatt.runner.team ADDRESS PARENT_PID READ_FD WRITE_FD WORLD``. Ranks are commands of their own,
as under ``torchrun``: each has its place in its environment before it imports torch, which a device's runtime may read
on import. The leader itself uses no device. Rank 0 talks to the orchestrator by this process's two pipe ends.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
import tempfile
from pathlib import Path
from typing import Any

from perwatt.runner.worker import die_with

FAILED = "failed.json"
MONITOR_S = 0.2  # between two looks at the ranks
HOST = "127.0.0.1"  # a number: ranks hand it to the device's runtime, which need not resolve names
AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"  # whether `import torch` loads the device's package


def main() -> None:
    """Start the ranks and wait for them. Ends with code 1, and a file that says why, when one of them fails."""
    address, parent, reader, writer, world = sys.argv[1:]
    die_with(int(parent))
    logging.disable(logging.ERROR)  # what the launcher says of a failed rank, the file says; the log is the ranks' own
    _launch(int(world), ["-u", "-P", "-m", "perwatt.runner.rank", address, str(os.getpid()), reader, writer])


def _launch(world: int, words: list[str]) -> None:
    before = os.environ.get(AUTOLOAD)
    os.environ[AUTOLOAD] = "0"
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.pop(AUTOLOAD)
    os.environ |= {} if before is None else {AUTOLOAD: before}
    config = LaunchConfig(
        min_nodes=1, max_nodes=1, nproc_per_node=world, run_id=f"perwatt-{os.getpid()}", role="rank", max_restarts=0,
        monitor_interval=MONITOR_S, rdzv_backend="c10d", rdzv_endpoint=f"{HOST}:0", local_addr=HOST,
    )  # fmt: skip
    try:
        elastic_launch(config, sys.executable)(*words)
    except ChildFailedError as error:
        failure = _first(list(error.failures.values()))
        told = {"rank": failure.local_rank, "exitcode": failure.exitcode}
        Path(tempfile.gettempdir(), FAILED).write_text(json.dumps(told))
        sys.exit(1)


def _first(failures: list[Any]) -> Any:
    """The rank that failed by itself: the others were ended for it, or gave up because they lost it."""
    own = [one for one in failures if one.exitcode != -signal.SIGTERM]
    return (own or failures)[0]


if __name__ == "__main__":
    main()
