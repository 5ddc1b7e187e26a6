"""One implementation against others that took turns with it: ratios within a run, and how far each is from its floors.

Rows meet that are of one run, one placement, one match key and one protocol. The peer is the fastest of those named, or
of all others, so that of several equal ones it is the luckiest: a ratio is rather too low than too high. The interval
of a ratio has both rows' intervals in quadrature; what both share, a chip and a process among them, is in it twice.

The floors of a row are what its chip's sheet allows: operations at the peak of the row's format, compulsory bytes at
the bandwidth of memory. The larger one binds; the gap is the time over it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from statistics import fmean
from typing import Any

from perwatt.analysis import floors
from perwatt.errors import InputError, expected
from perwatt.hardware import chips
from perwatt.results.schema import Row, Status

Ends = tuple[float, float | None, float | None]
"""A figure with its interval; None where nothing tells."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Meeting:
    """One case in which the implementation met a peer.

    Attributes:
        case: name of the case.
        group: workload, pass and precision.
        peer: name of the fastest of the peers.
        time_s: of the implementation, and ``peer_s`` of the peer.
        ratio: time of the peer over that of the implementation, with its interval: above 1 that is faster.
        path: what the implementation really ran.
        tflops: that it reached.
        flops_s: floor by operations, and ``bytes_s`` by bytes; None where a sheet, a peak or a count is missing.
        gap: time over the larger floor; None where neither is known.
        mfu: model FLOPs utilization, and ``ceiling_fraction`` the share of the best product of the run in its format.
        power_w: mean power in the energy window, and ``power_limit_w`` the limit in force.
        sm_clock_mhz: median clock of the compute units.
        flags: of both rows.
    """

    case: str
    group: tuple[str, str, str]
    peer: str
    time_s: float
    peer_s: float
    ratio: Ends
    path: str
    tflops: float | None
    flops_s: float | None
    bytes_s: float | None
    gap: float | None
    mfu: float | None
    ceiling_fraction: float | None
    power_w: float | None
    power_limit_w: float | None
    sm_clock_mhz: float | None
    flags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """All meetings of one workload, pass and precision.

    Attributes:
        group: these three.
        cases: how many.
        mean: geometric mean of the ratios with its interval, those of the cases taken for independent.
        least: the smallest ratio, and ``where`` its case.
        above: share of the cases in which the implementation is faster, whatever the interval.
    """

    group: tuple[str, str, str]
    cases: int
    mean: Ends
    least: float
    where: str
    above: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Versus:
    """Everything.

    Attributes:
        impl: the implementation.
        peers: that it was to meet; empty for all others.
        meetings: in the order of the rows.
        summaries: in the order of their first cases.
        alone: cases in which there was nothing to meet, with the reason.
    """

    impl: str
    peers: tuple[str, ...]
    meetings: tuple[Meeting, ...]
    summaries: tuple[Summary, ...]
    alone: tuple[tuple[str, str], ...]

    def as_json(self) -> dict[str, Any]:
        """The same of plain values."""
        return asdict(self)


def versus(rows: Sequence[Row], impl: str, peers: Sequence[str] = (), only: Sequence[str] = ()) -> Versus:
    """An implementation against its peers.

    Args:
        rows: of one run or several.
        impl: name of the implementation.
        peers: names of others; all others of the same case where empty.
        only: patterns of names of cases, in which ``*`` stands for anything; all cases where empty.

    Raises:
        InputError: no row is of an implementation that is named, or of a case.
    """
    for pattern in only:
        if not any(fnmatchcase(row.case or "", pattern) for row in rows):
            raise InputError(expected(pattern, {row.case or "" for row in rows}, "a case"), field="--only")
    rows = [row for row in rows if not only or any(fnmatchcase(row.case or "", pattern) for pattern in only)]
    there = {row.impl for row in rows if row.impl}
    for field, name in (("--impl", impl), *(("--peer", peer) for peer in peers)):
        if name not in there:
            raise InputError(expected(name, there, "rows of an implementation"), field=field)
    meetings: list[Meeting] = []
    alone: list[tuple[str, str]] = []
    for own in (row for row in rows if row.impl == impl):
        if own.status != Status.OK:
            alone.append((own.case or "", f"{impl} is {own.status}: {own.error}"))
            continue
        met = [row for row in rows if _together(own, row) and (row.impl in peers if peers else row.impl != impl)]
        if not met:
            alone.append((own.case or "", f"no peer of {impl} has a row that is ok in its run"))
            continue
        meetings.append(_meeting(own, min(met, key=lambda row: row.time_s or math.inf)))
    return Versus(
        impl=impl, peers=tuple(peers), meetings=tuple(meetings), summaries=tuple(_summaries(meetings)),
        alone=tuple(alone),
    )  # fmt: skip


def _together(own: Row, other: Row) -> bool:
    """Whether two rows are of the same work, measured by turns."""
    names = ("run_id", "match_key", "protocol_key", "placement", "mode", "world_size", "micro_batch", "recompute")
    return other.status == Status.OK and all(getattr(own, name) == getattr(other, name) for name in names)


def _meeting(own: Row, peer: Row) -> Meeting:
    sheet = chips.known(own.chip or "") if own.chips else None  # a part of a chip has no bandwidth of its own
    flops_s, bytes_s = floors.times(own.flops, own.bytes, own.peak_tflops, sheet, own.chips or 1.0)
    floor = floors.largest(flops_s, bytes_s)
    time_s, peer_s = float(own.time_s or math.nan), float(peer.time_s or math.nan)
    flags = dict.fromkeys(" ".join(filter(None, (own.flags, peer.flags))).split())
    return Meeting(
        case=own.case or "", group=(own.workload or "", own.pass_ or "", own.precision or ""), peer=peer.impl or "",
        time_s=time_s, peer_s=peer_s, ratio=_ratio(own, peer), path=own.path or "", tflops=own.tflops, flops_s=flops_s,
        bytes_s=bytes_s, gap=time_s / floor if floor else None, mfu=own.mfu, ceiling_fraction=own.ceiling_fraction,
        power_w=own.power_w, power_limit_w=own.power_limit_w, sm_clock_mhz=own.sm_clock_mhz, flags=tuple(flags),
    )  # fmt: skip


def _ratio(own: Row, peer: Row) -> Ends:
    log = math.log(peer.time_s / own.time_s)  # type: ignore[operator]  # of rows that are ok
    ends = (own.time_s_lo, own.time_s_hi, peer.time_s_lo, peer.time_s_hi)
    if any(end is None or end <= 0.0 for end in ends):
        return math.exp(log), None, None
    below = math.hypot(math.log(own.time_s_hi / own.time_s), math.log(peer.time_s / peer.time_s_lo))  # type: ignore[operator]
    above = math.hypot(math.log(own.time_s / own.time_s_lo), math.log(peer.time_s_hi / peer.time_s))  # type: ignore[operator]
    return math.exp(log), math.exp(log - below), math.exp(log + above)


def _summaries(meetings: Iterable[Meeting]) -> Iterable[Summary]:
    groups: dict[tuple[str, str, str], list[Meeting]] = {}
    for one in meetings:
        groups.setdefault(one.group, []).append(one)
    for group, members in groups.items():
        least = min(members, key=lambda one: one.ratio[0])
        yield Summary(
            group=group, cases=len(members), mean=_mean([one.ratio for one in members]), least=least.ratio[0],
            where=least.case, above=fmean(one.ratio[0] > 1.0 for one in members),
        )  # fmt: skip


def _mean(ratios: Sequence[Ends]) -> Ends:
    """Geometric mean, and its interval where every ratio has one."""
    log = fmean(math.log(ratio) for ratio, _, _ in ratios)
    down = [math.log(ratio / lo) for ratio, lo, _ in ratios if lo]
    up = [math.log(hi / ratio) for ratio, _, hi in ratios if hi]
    if len(down) < len(ratios) or len(up) < len(ratios):
        return math.exp(log), None, None
    return math.exp(log), math.exp(log - math.hypot(*down) / len(down)), math.exp(log + math.hypot(*up) / len(up))
