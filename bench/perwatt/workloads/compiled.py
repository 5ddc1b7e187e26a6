"""Compiling what a session runs."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from perwatt.backends.base import Backend


def compiled(function: Callable[..., Any], backend: Backend, **options: bool) -> Callable[..., Any]:
    """A function or method compiled with a code object of its own, with the options of the backend's ``compile``.

    Dynamo counts recompilations by code object and gives up after eight.
    """
    inner = function.__func__ if isinstance(function, MethodType) else function
    if not isinstance(inner, FunctionType):  # one of the framework's own, whose code Dynamo does not look into
        return backend.compile(function, **options)
    code, name = inner.__code__.replace(), inner.__name__
    own = FunctionType(code, inner.__globals__, name, inner.__defaults__, inner.__closure__)
    own.__kwdefaults__ = inner.__kwdefaults__
    bound = MethodType(own, function.__self__) if isinstance(function, MethodType) else own
    return backend.compile(bound, **options)
