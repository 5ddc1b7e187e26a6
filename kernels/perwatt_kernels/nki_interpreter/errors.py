"""What the stand-ins raise where the documentation says that hardware or compiler refuse."""

from __future__ import annotations


class Rejected(Exception):
    """An instruction, or a use of memory, that NeuronCores do not have, with the limit and the page that says so."""


class NotModelled(Rejected, AttributeError):
    """A name of NKI's that the stand-ins lack."""


def reject(where: str, found: object, expected: str, page: str) -> Rejected:
    """The error for something found where something else was expected.

    Args:
        where: instruction and operand.
        found: what the kernel asked for.
        expected: what there is.
        page: of the documentation, as ``hardware`` names pages.
    """
    return Rejected(f"{where}: found {found}, expected {expected} ({page})")
