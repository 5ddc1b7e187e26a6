"""The table at the end of a run: what a person wants to know first, what went wrong below, where the rows are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Container, Iterable, Sequence
from itertools import groupby
from operator import attrgetter

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from perwatt.report.format import interval, number, plain, seconds
from perwatt.report.narrow import fitted, paragraphs
from perwatt.results.schema import FLAGS, Row, Status

STYLES = {Status.OK: "green", Status.UNSUPPORTED: "dim", Status.SKIPPED: "dim", Status.UNSTABLE: "yellow"}
FAILED = "bold red"  # every other status
COSTS = ("slow_index", "attention_unfused", "straggler")  # flags that say what a time was spent on, or lost to
Figures = tuple[tuple[str, Callable[[Row], float | None]], ...]
ENERGY: Figures = (
    ("energy J", attrgetter("energy_j")),
    ("TFLOP/J", attrgetter("tflops_per_w")),
    ("tokens/J", attrgetter("tokens_per_j")),
)  # of modeled ones each figure is marked: they must not look like measured ones
FIGURES: Figures = (
    ("TFLOP/s", attrgetter("tflops")),
    ("GB/s", lambda row: row.gbps if row.flops is None else None),
    ("tokens/s", attrgetter("tokens_per_s")),
    ("noise %", lambda row: None if row.noise_floor is None else 100 * row.noise_floor),
    *ENERGY,
    ("power %", attrgetter("power_util_avg_pct")),
    ("TFLOP/(%.s)", attrgetter("tflops_per_pct")),
)


def show(console: Console, rows: Sequence[Row], csv: str, best: Container[str | None] = ()) -> None:
    """Print the rows of a run.

    Args:
        console: where to.
        rows: in the order of the suite.
        csv: path of the results, as the user should read it.
        best: digests of the samples of rows that are the best of their cases.
    """
    for workload, group in groupby(rows, key=attrgetter("workload")):
        console.print(_table(console, workload, list(group), best))
    _failures(console, [row for row in rows if row.status != Status.OK])
    console.print(Text(f"{_counts(rows)}; results in {plain(csv)}", overflow="fold"))
    if any(row.samples_digest in best for row in rows):
        text = "* the best of its case, chosen on half of the blocks; --json has its time on the other half."
        console.print(Text(text, style="dim"))
    if any(_shared(row) for row in rows):
        console.print(Text("shared: other processes used the device too, so these times say little about the device."))
    _costs(console, rows)
    _energy(console, rows)


def _costs(console: Console, rows: Sequence[Row]) -> None:
    """What made rows slow, as far as a flag says it: each flag once, with the first row that has it."""
    for flag in COSTS:
        found = [row for row in rows if flag in _flags(row)]
        if found:
            more = f" and {_counted(len(found) - 1)} more" if len(found) > 1 else ""
            first = f"{plain(_named(found[0]))}, {plain(found[0].impl or '')}"
            console.print(Text(f"{flag}: {FLAGS[flag].replace('`', '')}: {first}{more}", overflow="fold"))


def _energy(console: Console, rows: Sequence[Row]) -> None:
    """Where energy comes from, and why it is missing: each reason once."""
    origins = Counter(_origin(row) for row in rows if row.energy_j is not None)
    for origin, count in origins.items():
        console.print(Text(f"energy of {_counted(count)}: {origin}", overflow="fold"))
    reasons = Counter(row.energy_note for row in rows if row.status == Status.OK and row.energy_j is None)
    for reason, count in reasons.items():
        if reason:
            console.print(Text(f"no energy of {_counted(count)}: {plain(reason)}", style="dim", overflow="fold"))


def _counted(count: int) -> str:
    """``1 row``, ``2 rows``."""
    return f"{count} row{'s' if count != 1 else ''}"


def _origin(row: Row) -> str:
    """``measured by rapl, a counter of the package``."""
    sensor = f" by {plain(row.power_sensor)}" if row.power_sensor else ""
    note = f"; {plain(row.energy_note)}" if row.energy_evidence == "modeled" and row.energy_note else ""
    evidence = "modeled (~)" if row.energy_evidence == "modeled" else row.energy_evidence
    watts = f" {number(row.power_w)} W" if row.power_source == "declared" and row.power_w is not None else ""
    return f"{evidence}{sensor}, {row.power_source}{watts} ({row.power_scope}){note}"


def _table(console: Console, workload: str, rows: list[Row], best: Container[str | None]) -> Table | Group:
    """One workload's rows, as paragraphs where the screen is too narrow. Columns that nobody fills are left out."""
    figures = [(head, of) for head, of in FIGURES if any(of(row) is not None for row in rows)]
    table = Table(box=SIMPLE_HEAD, title=Text(plain(workload), style="bold"), title_justify="left", pad_edge=False)
    table.add_column("case", overflow="fold", ratio=None)
    table.add_column("impl", overflow="fold")
    table.add_column("time", justify="right", no_wrap=True)
    table.add_column("95 %", justify="right", no_wrap=True)
    for head, _ in figures:
        table.add_column(head, justify="right", no_wrap=True)
    table.add_column("status", no_wrap=True)
    lines, shown = [], ""
    for row in rows:
        lines.append(_cells(row, figures, again=_label(row) == shown, best=row.samples_digest in best))
        table.add_row(*lines[-1])
        shown = _label(row)
    heads = [str(column.header) for column in table.columns]
    columns = [[name, *(line[at].plain for line in lines)] for at, name in enumerate(heads)]
    columns[2:] = [[cell.replace(" ", "_") for cell in column] for column in columns[2:]]  # these are never folded
    if any(row.energy_j is not None for row in rows) and fitted(columns, console.width, 3, names=False) is None:
        full = (_cells(row, figures, again=False, best=row.samples_digest in best) for row in rows)
        return paragraphs(plain(workload), heads, [[cell.plain for cell in cells] for cells in full])
    return table


def _cells(
    row: Row, figures: Iterable[tuple[str, Callable[[Row], float | None]]], *, again: bool, best: bool
) -> list[Text]:
    label = "" if again else plain(_label(row))
    time = (seconds(row.time_s), interval(row.time_s, row.time_s_lo, row.time_s_hi))
    impl = plain(row.impl or "") + (" *" if best else "")
    cells = [label, impl, *time, *(_figure(row, head, of(row)) for head, of in figures)]
    status = Text(row.status, style=_style(row.status))
    return [*map(Text, cells), status.append(", shared", style="yellow") if _shared(row) else status]


def _label(row: Row) -> str:
    """The case without its workload, and what several devices did: ``chip: fsdp over 4``, ``node: 8 copies``."""
    return _named(row).removeprefix(f"{row.workload} ")


def _named(row: Row) -> str:
    """The case with its workload, and what several devices did."""
    if (row.world_size or 1) == 1:
        return row.case
    done = f"{row.parallel or 'one job'} over {row.world_size}" if row.mode == "shard" else f"{row.replicas} copies"
    return f"{row.case}, {row.placement}: {done}"


def _figure(row: Row, head: str, value: float | None) -> str:
    text = number(value)
    modeled = row.energy_evidence == "modeled" and head in dict(ENERGY)
    return f"~{text}" if text and modeled else text


def _shared(row: Row) -> bool:
    return "shared" in _flags(row)


def _flags(row: Row) -> list[str]:
    return (row.flags or "").split()


def _failures(console: Console, rows: list[Row]) -> None:
    for row in rows:
        head = Text.assemble((row.status, _style(row.status)), f"  {plain(_named(row))}, {plain(row.impl or '')}")
        console.print(head)
        console.print(Padding(Text(plain(row.error or "no reason given")), (0, 0, 0, 4), expand=False))
    if rows:
        console.print()


def _counts(rows: Sequence[Row]) -> str:
    """``7 of 9 rows ok, 1 inaccurate, 1 unsupported``."""
    counts = Counter(row.status for row in rows)
    others = [f"{counts[status]} {status}" for status in Status if status != Status.OK and counts[status]]
    return ", ".join([f"{counts[Status.OK]} of {len(rows)} rows ok", *others])


def _style(status: str) -> str:
    return STYLES.get(Status(status), FAILED)
