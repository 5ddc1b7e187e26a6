"""One rank of a team: a process for one device, which does what all others do at the same time.

Started by the launcher as ``python -m perwatt.runner.rank ADDRESS LEADER_PID READ_FD WRITE_FD``. Rank 0 is the team's
voice: it opens the leader's two pipe ends, and speaks as a worker does.
"""

from __future__ import annotations

import faulthandler
import math
import os
import sys
import tempfile
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perwatt.runner.channel import Channel
from perwatt.runner.ranks import PATIENCE_S, Ranks
from perwatt.runner.trail import Trail
from perwatt.runner.worker import Link, die_with, environment, serve

if TYPE_CHECKING:
    from perwatt.backends.base import Backend

LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo"}  # one host needs no network, and no name that resolves
FOR_EVER = timedelta(days=365)  # a rank waits for what rank 0 is asked, which may be nothing for hours


class Silent(Link):
    """The link of every other rank: what it would say, rank 0 says."""

    def __init__(self) -> None:
        super().__init__(None)

    def heard(self) -> dict[str, Any] | None:
        """Nothing: it is told by rank 0."""
        return None

    def tell(self, message: Mapping[str, Any]) -> None:
        """Say nothing."""


def main() -> None:
    """Join the others, start the backend, then serve requests until the orchestrator hangs up."""
    address, leader, reader, writer = sys.argv[1:]
    die_with(int(leader))
    faulthandler.enable()
    rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    link = Link(_opened(int(leader), int(reader), int(writer))) if rank == 0 else Silent()
    backend, ranks = _joined(address, rank, world)
    try:
        link.tell({"event": "ready", "environment": environment(backend)})
        while (request := ranks.next(link.heard())) is not None:
            sharded = request["case"].get("mode") == "shard"
            ranks.patience_s = PATIENCE_S if sharded else math.inf  # copies wait for nobody, so each comes to a point
            ranks.left = serve(link, backend, request)
    except SystemExit as error:
        os._exit(error.code if isinstance(error.code, int) and error.code else 1)  # it was not asked to
    _leave()


def _opened(leader: int, reader: int, writer: int) -> Channel:
    """The leader's two pipe ends, which no other rank has."""
    modes = ((reader, os.O_RDONLY), (writer, os.O_WRONLY))
    own = [os.open(f"/proc/{leader}/fd/{number}", mode | os.O_CLOEXEC) for number, mode in modes]
    return Channel(*own)


def _joined(address: str, rank: int, world: int) -> tuple[Backend, Ranks]:
    """The started backend and what ranks agree by. A runtime may start only when collectives are there."""
    folder = Path(tempfile.gettempdir())
    trail = Trail(folder, rank)  # first of all, so that a rank which hangs before the ranks have met is told
    from perwatt import backends

    backend = backends.addressed(address)
    backend.join(rank, world)
    for name, value in LOOPBACK.items():
        os.environ.setdefault(name, value)
    import torch.distributed as dist

    dist.init_process_group(backend.collectives)
    group = dist.new_group(backend="gloo", timeout=FOR_EVER)
    ranks = Ranks(group, rank, world, folder, trail)
    backend.together = ranks
    backend.start()
    ranks.gather(None)
    return backend, ranks


def _leave() -> None:
    import torch.distributed as dist

    dist.destroy_process_group()


if __name__ == "__main__":
    main()
