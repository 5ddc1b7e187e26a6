"""Compiling a method of a session."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perwatt.backends.base import Backend


def compiled(method: Any, backend: Backend) -> Callable[..., Any]:
    """The method compiled with a code object of its own.

    Dynamo counts recompilations by code object and gives up after eight.
    """
    inner = method.__func__
    code, name = inner.__code__.replace(), inner.__name__
    own = FunctionType(code, inner.__globals__, name, inner.__defaults__, inner.__closure__)
    return backend.compile(MethodType(own, method.__self__))
