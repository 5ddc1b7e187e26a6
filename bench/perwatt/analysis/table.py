"""Rows of many CSVs as columns: what a comparison of a million rows can hold and search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from perwatt.results.schema import columns

Floats: TypeAlias = NDArray[np.float64]
Codes: TypeAlias = NDArray[np.int64]

FILE, LINE = "file index", "line"  # columns of a table beside those of the schema: where a row stands
UNUSED = frozenset(  # not needed once the keys were recomputed, and most of the bytes
    {
        "schema_version", "started_at", "work", "input_digest", "seed", "printed", "suite",
        "time_s_p10", "time_s_p90", "warmup_s", "stop_reason", "sm_clock_mhz", "sm_clock_mhz_min", "mem_clock_mhz",
        "temp_c", "ecc", "compilations", "graph_breaks", "cpu_fallbacks", "env_id", "torch", "driver", "runtime",
        "compiler", "git_sha", "skew_s", "idle_w", "power_w", "host_energy_j", "iters_per_sample", "timing_method",
        "rel_err_bound",
        "roofline_fraction", "hfu", "tokens_per_kwh", "flops_convention", "region",
    }
)  # fmt: skip


def arrow_type(name: str) -> Any:
    """The type in which a column of the schema is held; text as codes into its different values."""
    kind = columns()[name].type
    return pa.dictionary(pa.int32(), pa.string()) if kind is str else pa.int64() if kind is int else pa.float64()


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as columns.

    Attributes:
        table: an Arrow table with the columns of the schema that somebody filled, and :data:`FILE` and :data:`LINE`.
        files: paths, by the numbers in column :data:`FILE`.
    """

    table: Any
    files: tuple[str, ...]
    _columns: dict[str, Any] = field(default_factory=dict, repr=False, compare=False)  # those that somebody filled
    _floats: dict[str, Floats] = field(default_factory=dict, repr=False, compare=False)
    _codes: dict[str, tuple[Codes, list[str]]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name, column in zip(self.table.column_names, self.table.columns, strict=True):
            if column.null_count < len(column):
                self._columns[name] = column

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def has(self, name: str) -> bool:
        """Whether some row fills that column."""
        return name in self._columns

    def empty(self, name: str) -> int:
        """How many rows leave it empty."""
        return int(self._columns[name].null_count) if name in self._columns else len(self)

    def filled(self, name: str) -> NDArray[np.bool_]:
        """Rows that fill it."""
        if name not in self._columns:
            return np.zeros(len(self), dtype=bool)
        return np.asarray(self._columns[name].is_valid().to_numpy())

    def numbers(self, name: str) -> Floats:
        """A column of numbers; NaN where a cell is empty."""
        if name not in self._floats:
            self._floats[name] = self._numbers(name)
        return self._floats[name]

    def _numbers(self, name: str) -> Floats:
        if not self.has(name):
            return np.full(len(self), np.nan)
        column = self._columns[name].cast(pa.float64(), safe=False)
        return np.asarray(column.to_numpy(), dtype=np.float64)

    def codes(self, name: str) -> tuple[Codes, list[str]]:
        """A column of text as numbers of its different values; -1 where a cell is empty. No value is there twice."""
        if name not in self._codes:
            self._codes[name] = self._coded(name)
        return self._codes[name]

    def _coded(self, name: str) -> tuple[Codes, list[str]]:
        if not self.has(name):
            return np.full(len(self), -1, dtype=np.int64), []
        column = self._columns[name].unify_dictionaries().combine_chunks()
        column = column.chunk(0) if isinstance(column, pa.ChunkedArray) else column
        indices = column.indices.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        return indices, column.dictionary.to_pylist()

    def is_text(self, name: str, *values: str) -> NDArray[np.bool_]:
        """Rows whose cell is one of these."""
        codes, known = self.codes(name)
        return np.isin(codes, [number for number, value in enumerate(known) if value in values])

    def text(self, name: str, row: int) -> str | None:
        """One cell of a column of text."""
        codes, known = self.codes(name)
        return known[codes[row]] if codes[row] >= 0 else None

    def number(self, name: str, row: int) -> float | None:
        """One cell of a column of numbers."""
        value = float(self.numbers(name)[row])
        return None if np.isnan(value) else value

    def place(self, row: int) -> tuple[str, int]:
        """File and line of a row."""
        return self.files[int(self.numbers(FILE)[row])], int(self.numbers(LINE)[row])

    def where(self, chosen: NDArray[np.bool_] | Codes) -> Rows:
        """These rows alone, by mask or by numbers."""
        if chosen.dtype == bool and chosen.all():
            return self
        kept = self.table.filter(pa.array(chosen)) if chosen.dtype == bool else self.table.take(pa.array(chosen))
        return Rows(kept, self.files)

    def combined(self, names: Sequence[str]) -> Codes:
        """A number for each different combination of these columns."""
        return combine([self._any_codes(name) for name in names], len(self))

    def _any_codes(self, name: str) -> Codes:
        if name in columns() and columns()[name].type is str:
            return self.codes(name)[0]
        return np.unique(self.numbers(name), return_inverse=True, equal_nan=True)[1].astype(np.int64)


def combine(parts: Sequence[Codes], size: int) -> Codes:
    """A number from 0 on for each different combination of numbers in the same places."""
    found = np.zeros(size, dtype=np.int64)
    for codes in parts:
        shifted = codes - codes.min(initial=0)
        if shifted.max(initial=0) == 0:
            continue
        wide = found * (shifted.max(initial=0) + 1) + shifted
        found = np.unique(wide, return_inverse=True)[1].astype(np.int64)
    return found


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows of several tables, one below the other."""
    files: list[str] = []
    tables = []
    for part in parts:
        index = pa.compute.add(part.table.column(FILE), pa.scalar(len(files), pa.int32())).cast(pa.int32())
        tables.append(part.table.set_column(part.table.column_names.index(FILE), FILE, index))
        files += part.files
    return Rows(pa.concat_tables(tables, promote_options="default"), tuple(files))
