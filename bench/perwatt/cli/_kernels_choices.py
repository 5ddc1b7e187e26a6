"""``perwatt kernels choices``: what was chosen by measurement on this machine, and what is shipped."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from perwatt.cli._app import debug_option
from perwatt.cli._output import json_option, print_json, print_table

if TYPE_CHECKING:
    from perwatt_kernels.choices.answer import Answer
    from perwatt_kernels.choices.question import Question

PLACES = re.compile(r"(?<![\w.])(/[\w.+@-]+){2,}")  # absolute paths
HEAD = ("about", "device", "shape", "chosen", "seconds", "next", "measured", "from")


@click.command("choices")
@click.option("--about", metavar="NAME", help="Only those of one operation or kernel, such as matmul or matmul/triton.")
@click.option("--ship", metavar="FILE", help="Write those kept on this machine into FILE, as the package ships them.")
@click.option("--forget", is_flag=True, help="Delete those kept on this machine, so that they are measured anew.")
@json_option
def choices(about: str | None, ship: str | None, forget: bool, as_json: bool) -> None:
    """Show which implementation or tile was chosen for which shape, and by how much.

    A choice is measured once for each shape, device and set of library versions, when `auto` or a kernel first needs
    it. It is kept in $PERWATT_CACHE, else in perwatt's folder of the user's cache.
    """
    from perwatt.errors import InputError, expected
    from perwatt_kernels.choices import store

    found = list(store.entries())
    if about is not None:
        known = {question.about for question, _ in found}
        if about not in known:
            what = expected(about, known) if known else f"found {about!r}, but no choices are kept here"
            raise InputError(what, field="--about")
        found = [entry for entry in found if entry[0].about == about]
    if ship is not None:
        _ship(found, Path(ship))
    if forget:
        for question, answer in found:
            if answer.origin == "kept":
                store.drop(question)
        store.pardon(about)
    if as_json:
        print_json([{"question": q.message(), "answer": a.message(), "origin": a.origin} for q, a in found])
        return
    print_table(f"choices ({len(found)})", HEAD, [_row(question, answer) for question, answer in found])
    if forget:
        click.echo("Those kept on this machine are forgotten.")


def _anywhere(answer: Answer) -> Answer:
    """An answer without the paths of the machine on which candidates failed."""
    return replace(answer, failed={name: PLACES.sub("...", why) for name, why in answer.failed.items()})


def _ship(found: list[tuple[Question, Answer]], path: Path) -> None:
    kept = [{"question": q.message(), "answer": _anywhere(a).message()} for q, a in found if a.origin == "kept"]
    path.write_text("".join(("[\n", ",\n".join(json.dumps(one, sort_keys=True) for one in kept), "\n]\n")), "utf-8")
    click.echo(f"{len(kept)} choices written to {path}", err=True)


def _row(question: Question, answer: Answer) -> tuple[Any, ...]:
    own = answer.seconds[answer.chosen]
    others = sorted((seconds, name) for name, seconds in answer.seconds.items() if name != answer.chosen)
    after = f"{others[0][1]} x {others[0][0] / own:.2f}" if others else ""
    shape = " ".join(f"{name}={value}" for name, value in question.shape.items() if value not in (None, "", False))
    return (
        question.about, question.device, shape, answer.chosen, f"{own:.3g}", after, answer.when, answer.origin,
    )  # fmt: skip


choices.params.append(debug_option())
