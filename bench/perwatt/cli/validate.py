"""``perwatt validate``: whether suites, result CSVs and run folders are right."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import click

from perwatt.cli._output import json_option, print_json
from perwatt.report.format import plain

WRONG_INPUT = 2
SHOWN = 50  # problems printed for one file; --json has them all


@click.command("validate")
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--yes", is_flag=True, help="Allow suites of more than 10,000 cases.")
@json_option
def command(files: tuple[str, ...], yes: bool, as_json: bool) -> int:
    """Check suites, result CSVs and runs.

    FILE is a suite (.yaml, or a shipped name), a results CSV, the folder of a run, or a folder of any of these. Exits
    with 2 if one is wrong.
    """
    reports = [report for name in files for report in _reports(name, yes)]
    if as_json:
        print_json(reports)
    else:
        for report in reports:
            _show(report)
    return WRONG_INPUT if any(report["problems"] for report in reports) else 0


def _reports(name: str, yes: bool) -> list[dict[str, Any]]:
    path = Path(name)
    if path.is_dir():
        return _folder(path, yes)
    return [_results(name) if path.suffix == ".csv" else _suite(name, yes)]


def _folder(path: Path, yes: bool) -> list[dict[str, Any]]:
    """A run's folder, or all suites, CSVs and folders of runs in another."""
    if _is_run(path):
        return _run(path, yes)
    reports = [_results(str(table)) for table in sorted(path.glob("*.csv")) if table.is_file()]
    reports += [_suite(str(suite), yes) for suite in sorted(path.glob("*.yaml")) if suite.is_file()]
    reports += [report for run in sorted(path.iterdir()) if _is_run(run) for report in _run(run, yes)]
    nothing = "found nothing to check, expected suites (.yaml), CSVs or the folders of runs"
    return reports or [_report(str(path), "folder", {}, [_problem(str(path), None, None, None, nothing)])]


def _is_run(path: Path) -> bool:
    return any((path / name).is_file() for name in ("results.csv", "journal.jsonl"))


def _run(path: Path, yes: bool) -> list[dict[str, Any]]:
    """A run's results, which may be unfinished, and the suite it kept."""
    reports = [_unfinished(path, _results(str(path / "results.csv")))]
    if (path / "suite.yaml").exists():
        reports.append(_suite(str(path / "suite.yaml"), yes))
    return reports


def _unfinished(path: Path, report: dict[str, Any]) -> dict[str, Any]:
    """The report on results, with how many cases the run began if it has not ended; it may then have no row yet."""
    from perwatt.results.validate import NO_ROW
    from perwatt.runner import journal
    from perwatt.runner.ledger import Ledger

    if not (path / "journal.jsonl").exists():
        return report
    ledger = Ledger.of(journal.read(path / "journal.jsonl")[0])
    if ledger.ended:
        return report
    problems = [problem for problem in report["problems"] if problem["what"] != NO_ROW]
    checked = {"rows": 0, "statuses": {}, **report["checked"], "unfinished": True}
    return _report(report["file"], report["kind"], {} if problems else checked, problems)


def _suite(name: str, yes: bool) -> dict[str, Any]:
    from perwatt.errors import InputError
    from perwatt.spec import suite

    try:
        cases = suite.load(name, yes=yes).cases
    except InputError as error:
        return _report(name, "suite", {}, [_problem(name, error.file, error.line, error.field, error.message)])
    return _report(name, "suite", {"cases": len(cases), "rows": sum(len(case.impls) for case in cases)}, [])


def _results(name: str) -> dict[str, Any]:
    from perwatt.results import csvfile, validate

    problems = validate.check(name)
    if problems:
        return _report(name, "results", {}, [_problem(name, p.file, p.line, p.column, p.what) for p in problems])
    statuses = Counter(row.status for row in csvfile.read(name))
    return _report(name, "results", {"rows": statuses.total(), "statuses": dict(statuses)}, [])


def _report(name: str, kind: str, checked: dict[str, Any], problems: list[dict[str, Any]]) -> dict[str, Any]:
    return {"file": name, "kind": kind, "ok": not problems, "checked": checked, "problems": problems}


def _problem(name: str, file: str | None, line: int | None, field: str | None, what: str) -> dict[str, Any]:
    return {"file": file or name, "line": line, "field": field, "what": what}


def _show(report: dict[str, Any]) -> None:
    from perwatt.errors import InputError

    for problem in report["problems"][:SHOWN]:
        where = {name: problem[name] for name in ("file", "line", "field")}
        click.echo(plain(str(InputError(problem["what"], **where))))
    if (more := len(report["problems"]) - SHOWN) > 0:
        click.echo(f"{plain(report['file'])}: {more} more problems; --json shows all")
    if report["ok"]:
        click.echo(f"{plain(report['file'])}: ok, {_summary(report)}")


def _summary(report: dict[str, Any]) -> str:
    checked = report["checked"]
    if report["kind"] == "suite":
        return f"{checked['cases']} cases, {checked['rows']} rows"
    statuses = ", ".join(f"{count} {status}" for status, count in sorted(checked["statuses"].items()))
    unfinished = "unfinished run, " if checked.get("unfinished") else ""
    return f"{unfinished}{checked['rows']} rows" + (f": {statuses}" if statuses else "")
