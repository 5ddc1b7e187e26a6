"""Peaks that look like sparse ones, which vendors print at twice the dense ones and often in larger type."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from perwatt.hardware.sheet import Peak

SPARSE = 1.8  # times what is expected, from which on a peak looks like a sparse one
BITS = {"fp64": 64, "fp32": 32, "tf32": 32, "bf16": 16, "fp16": 16, "nvfp4": 4, "mxfp4": 4}  # all others: 8
NEVER_SPARSE = ("fp64", "fp32")


def bits(name: str) -> int:
    """Width of a format's elements."""
    return BITS.get(name, 8)


def warnings(peaks: Iterable[Peak], replaced: Iterable[Peak] = ()) -> Iterator[str]:
    """One line for each entry over 1.8 times the peak that it replaces, or what other formats lead to expect.

    Args:
        peaks: of one sheet.
        replaced: peaks of the sheet that it changes, which stand in for formats it does not have itself.
    """
    before, own = dict(_printed(replaced)), dict(_printed(peaks))
    for peak in dict.fromkeys(own.values()):
        names = [] if peak.dense else [name for name in peak.formats if own.get(name) is peak]
        doubts = {name: doubt for name in names if (doubt := _doubt(name, own, before))}
        if doubts:
            found = f"found {peak.tflops:g} TFLOP/s for {', '.join(doubts)} {next(iter(doubts.values()))}"
            yield f"{peak.file}:{peak.line}: peaks: {found}: is it a sparse peak?"


def _printed(peaks: Iterable[Peak]) -> Iterator[tuple[str, Peak]]:
    """What a vendor may have printed for sparse operands: peaks of whole chips, by format."""
    for peak in peaks:
        if (peak.per, peak.basis) == ("chip", "vendor"):
            yield from ((name, peak) for name in peak.formats if name not in NEVER_SPARSE)


def _doubt(name: str, own: Mapping[str, Peak], before: Mapping[str, Peak]) -> str | None:
    """What a format's peak is too high for; the peak that it replaces tells more than other formats do."""
    tflops = own[name].tflops
    if name in before and tflops > SPARSE * before[name].tflops:
        usual = before[name].tflops
        return f"in place of {usual:g}, expected about {usual:g}"
    around = {**before, **own}
    for other in _beside(name, around):
        usual = around[other].tflops * bits(other) / bits(name)
        if tflops > SPARSE * usual:
            whose = "" if other in own else " of the sheet it changes"
            return f"beside {around[other].tflops:g} for {other}{whose}, expected about {usual:g}"
    return None


def _beside(name: str, peaks: Mapping[str, Peak]) -> list[str]:
    """Floats whose peak leads to expect one of a format: the next wider ones, and for a float others of its width."""
    floats = [other for other in peaks if other != "int8" and peaks[other] is not peaks[name]]
    wider = [bits(other) for other in floats if bits(other) > bits(name)]
    widths = {min(wider, default=0)} | ({bits(name)} if name != "int8" else set())
    return [other for other in floats if bits(other) in widths]
