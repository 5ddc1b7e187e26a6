"""Python that the NKI compiler takes: what is refused, what is not, and that our kernels stay within it."""

from __future__ import annotations

from enum import Enum
from typing import Any

import pytest

from perwatt_kernels.nki_interpreter import api
from perwatt_kernels.nki_interpreter.api import nisa, nki, nl
from perwatt_kernels.nki_interpreter.costed import costed
from perwatt_kernels.nki_interpreter.hardware import V4
from perwatt_kernels.nki_interpreter.language_rules import doubts
from perwatt_kernels.nki_interpreter.launch import interpret
from support.nki import refuse, simulate, values

A = values(64, 40)
STATE = {"tile": 1}


class Plain:
    """No class of the language."""


class Sized(nl.NKIObject):  # type: ignore[misc]
    """One that is."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def doubled(self) -> int:
        """A method."""
        return 2 * self.rows


class Colour(Enum):
    """One that is, too."""

    red = 1


def copied(source: Any) -> Any:
    tile = nl.ndarray(source.shape, source.dtype)
    nisa.dma_copy(tile, source)
    out = nl.ndarray(source.shape, source.dtype, buffer=nl.shared_hbm)
    nisa.dma_copy(out, tile)
    return out


decorated = nki.jit(copied)


def all_that_is_there(source: Any, rows: Any = (32, 32), scale: Any = None) -> Any:
    """What the guide shows."""
    out = nl.ndarray(source.shape, source.dtype, buffer=nl.shared_hbm)
    assert source.shape[0] == 64, f"found {source.shape}"
    sizes, at = [], 0
    for row in rows:
        sizes.append(row)
    named = {"first": sizes[0]}
    while at < source.shape[0]:
        size = min(named["first"], Sized(64).doubled() - at)
        if scale != None and Colour.red != Colour.red:  # noqa: E711 - the compiler has no `is`
            break
        tile = nl.ndarray((size, source.shape[1]), source.dtype)
        nisa.dma_copy(tile, source[at : at + size])
        nisa.dma_copy(out[at : at + size], tile)
        at += size
    return out


def identity(source: Any) -> Any:
    if source is None:
        return None
    return copied(source)


def keyword_only(source: Any, *, flag: bool = True) -> Any:
    return copied(source)


def generator(source: Any) -> Any:
    for _ in (i for i in range(2)):
        out = copied(source)
    return out


def yields(source: Any) -> Any:
    yield copied(source)


def tries(source: Any) -> Any:
    try:
        return copied(source)
    finally:
        pass


def matches(source: Any) -> Any:
    match source.shape:
        case _:
            return copied(source)


def with_context(source: Any) -> Any:
    with open("file"):
        return copied(source)


def integer_keys(source: Any) -> Any:
    return {0: copied(source)}[0]


def tuple_keys(source: Any) -> Any:
    return {(0, 0): copied(source)}[0, 0]


def a_set(source: Any) -> Any:
    return copied(source) if source.shape[0] in {64} else None


def a_complex_number(source: Any) -> Any:
    return copied(source) if 1j else None


def a_long_integer(source: Any) -> Any:
    return copied(source) if source.shape[0] < 2**1 + 99999999999 else None


def named_memory(source: Any) -> Any:
    nl.ndarray((64, 40), source.dtype, buffer="sbuf")
    return copied(source)


def other_class(source: Any) -> Any:
    Plain()
    return copied(source)


def class_within(source: Any) -> Any:
    class Within:
        pass

    return copied(source)


def state_outside(source: Any) -> Any:
    return copied(source) if STATE["tile"] else None


def changes_state(source: Any) -> Any:
    global STATE
    STATE = {}
    return copied(source)


def calls_a_decorated_one(source: Any) -> Any:
    return decorated(source)


def calls_one_that_is_refused(source: Any) -> Any:
    return identity(source)


def calls_a_method(source: Any) -> Any:
    return copied(source) if Refused(1).method() else None


class Refused(nl.NKIObject):  # type: ignore[misc]
    """A class with a method that the compiler refuses."""

    def __init__(self, rows: int) -> None:
        self.rows = rows

    def method(self) -> bool:
        """Asks for identity."""
        return self.rows is not None


def test_what_the_guide_shows_is_taken():
    assert (simulate(all_that_is_there, A) == A).all()


@pytest.mark.parametrize(
    ("kernel", "found", "page"),
    [
        (identity, "is or is not, expected == or !=", "migration, 0.2 to 0.3"),
        (keyword_only, "\\* in a signature", "migration, 0.2 to 0.3"),
        (generator, "a generator, expected a list", "NKI values"),
        (yields, "a generator, expected a list", "NKI values"),
        (tries, "try, expected if, for and while", "control flow"),
        (matches, "match, expected if, for and while", "control flow"),
        (with_context, "with, expected with nl.no_reorder", "release notes"),
        (integer_keys, "a dict with keys that are not strings", "NKI values"),
        (tuple_keys, "a dict with keys that are not strings", "NKI values"),
        (a_set, "a set, expected None, booleans", "NKI values"),
        (a_complex_number, "complex 1j", "NKI values"),
        (a_long_integer, "99999999999, expected an integer of 32 bits", "NKI values"),
        (named_memory, "buffer='sbuf', expected nl.sbuf", "migration, 0.2 to 0.3"),
        (other_class, "class Plain, expected a class of NKIObject", "class support"),
        (class_within, "class Within, expected a class of NKIObject", "class support"),
        (state_outside, "STATE, a dict outside of the kernel", "caching"),
        (changes_state, "global STATE, expected arguments", "caching"),
        (calls_a_decorated_one, "decorated, decorated with nki.jit", "migration, 0.1 to 0.2"),
        (calls_one_that_is_refused, "is or is not, expected == or !=", "migration, 0.2 to 0.3"),
        (calls_a_method, "is or is not, expected == or !=", "migration, 0.2 to 0.3"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
@pytest.mark.skipif(api.real(), reason="the simulator of the SDK runs any Python")
def test_what_the_compiler_refuses(kernel: Any, found: str, page: str):
    """With file and line, before anything runs."""
    refuse(kernel, f"test_language.py:[0-9]+: found {found}.*{page}", A)


@pytest.mark.skipif(api.real(), reason="about the stand-ins")
def test_what_was_refused_once_is_refused_again():
    for _ in range(2):
        refuse(calls_one_that_is_refused, "found is or is not", A)


@pytest.mark.skipif(api.real(), reason="about the stand-ins")
def test_the_line_is_that_of_the_construct():
    with open(__file__) as file:
        line = next(at for at, text in enumerate(file, 1) if "if source is None" in text)
    refuse(identity, f"test_language.py:{line}: found is", A)


@pytest.mark.skipif(api.real(), reason="about the stand-ins")
def test_a_list_is_no_argument_of_a_kernel():
    with pytest.raises(Exception, match="argument 1: found a list, expected a tuple"):
        nki.simulate(nki.jit(all_that_is_there))(A, [32, 32])


@pytest.mark.parametrize("name", list(costed()))
@pytest.mark.skipif(api.real(), reason="about the stand-ins")
def test_no_kernel_of_ours_needs_what_no_page_shows(name: str):
    kernel = costed()[name]
    launched, _ = kernel.build(dict.fromkeys(kernel.extents, 128), next(iter(kernel.formats.values())), 1)
    assert [str(one) for one in doubts(launched.function)] == []


@pytest.mark.parametrize("name", list(costed()))
@pytest.mark.skipif(api.real(), reason="about the stand-ins")
def test_tiles_that_dma_transposes_have_four_axes(monkeypatch: pytest.MonkeyPatch, name: str):
    """Two are documented, and a compiler has refused them."""
    kernel, plain, found = costed()[name], nisa.dma_transpose, []

    def recorded(dst: Any, src: Any) -> Any:
        found.append((dst.ndim, src.ndim))
        return plain(dst, src)

    monkeypatch.setattr(nisa, "dma_transpose", recorded)
    sizes = {extent: 1 if extent in ("batch", "heads", "kv_heads") else 128 for extent in kernel.extents}
    for dtype in kernel.formats.values():
        launched, args = kernel.build(sizes, dtype, 1)
        interpret(launched, args, {}, V4)
    assert set(found) == (set() if kernel.operation == "matmul_wgrad" else {(4, 4)})  # which has its depth first


def test_what_no_page_shows_is_told():
    def kernel(source: Any) -> Any:
        (out,) = [copied(one) for one in (source,)]
        return out if any((source.shape,)) else None

    found = [one.found for one in doubts(kernel)]
    assert sorted(found) == ["a comprehension", "any()"]
