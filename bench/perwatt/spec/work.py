"""The canonical work of a case and the three keys made from it (docs/method.md, Work and its keys).

``match_key`` names the mathematics, ``task_key`` the mathematics without its precision policy, ``protocol_key``
what of the measurement has to agree on both sides of a ratio.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import rfc8785

KEY_DIGITS = 16
SCHEMA_MAJOR = 1  # major version of the row schema; a part of every protocol key


def canonical(value: Mapping[str, Any]) -> str:
    """RFC 8785 canonical JSON of a work object: sorted keys, ECMAScript numbers, no white space."""
    return rfc8785.dumps(dict(value)).decode("utf-8")


def key_of(text: str) -> str:
    """First 16 hex digits of the SHA-256 of a canonical text, so that anyone can recompute it from a CSV."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()[:KEY_DIGITS]


def match_key(work: Mapping[str, Any]) -> str:
    """Key of the work: everything that defines the mathematics, nothing about where or how it ran."""
    return key_of(canonical(work))


def task_key(work: Mapping[str, Any]) -> str:
    """Key of the work without its precision policy, for comparisons across formats."""
    return key_of(canonical({name: value for name, value in work.items() if name != "precision"}))


def protocol_key(*, cache: str, method: str) -> str:
    """Key of the measurement protocol.

    Args:
        cache: ``cold``, ``partial``, ``hot``, or empty for steps.
        method: ``direct`` or ``difference`` (how a backward pass alone was timed).
    """
    return key_of(canonical({"cache": cache, "method": method, "schema_major": SCHEMA_MAJOR}))
