"""Compiling what a session runs."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perwatt.backends.base import Backend


def compiled(function: Callable[..., Any], backend: Backend) -> Callable[..., Any]:
    """A function or method compiled with a code object of its own.

    Dynamo counts recompilations by code object and gives up after eight.
    """
    inner = function.__func__ if isinstance(function, MethodType) else function
    assert isinstance(inner, FunctionType)
    code, name = inner.__code__.replace(), inner.__name__
    own = FunctionType(code, inner.__globals__, name, inner.__defaults__, inner.__closure__)
    return backend.compile(MethodType(own, function.__self__) if isinstance(function, MethodType) else own)
