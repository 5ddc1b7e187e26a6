"""Claim files: the user's own, and every mistake in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from perwatt.analysis.claims import library
from perwatt.analysis.claims.datasheet import datasheet
from perwatt.errors import InputError
from support.claimed import TEXT


def write(folder: Path, text: str = TEXT, name: str = "mine") -> Path:
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def test_a_claim_of_ones_own(tmp_path: Path):
    found = library.load(write(tmp_path))
    (own,) = [one for one in found if one.claim == "mine"]
    assert found[-1] is own, "it has no row, so it comes last"
    assert (own.said, own.workload) == ("at least 2 x", "unspecified")
    assert datasheet(own).verdict == "not_decided"
    assert len(found) == 1 + len(library.load())


def test_a_claim_of_a_shipped_name_replaces_that(tmp_path: Path):
    name = "trn3-chip-compute"
    write(tmp_path, TEXT.replace("claim: mine", f"claim: {name}"), name)
    found = library.load(tmp_path)
    assert [one.statement for one in found if one.claim == name] == ["twice as fast"]
    assert len(found) == len(library.load())


def test_the_folder_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write(tmp_path)
    monkeypatch.setenv("PERWATT_CLAIMS", str(tmp_path))
    assert "mine" in {one.claim for one in library.load()}
    monkeypatch.setenv("PERWATT_CLAIMS", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match=r"PERWATT_CLAIMS: found .*nowhere.*, expected a folder with claims"):
        library.load()


@pytest.mark.parametrize(
    ("old", "new", "line", "message"),
    [
        ("metric: tokens_per_s_per_chip", "metric: tokens_per_chip", 8, "metric: found 'tokens_per_chip', expected"),
        ("metric: tokens_per_s_per_chip", "metric: bandwith", 8, "(did you mean 'bandwidth'?)"),
        ("of: trainium3", "of: trainium5", 9, "numerator.of: found 'trainium5', expected one of"),
        ("format: bf16}\nden", "format: bf61}\nden", 9, "numerator.format: found 'bf61', expected one of"),
        ("{of: trainium3, ", "{of: trainium3, called: it, ", 9, "expected exactly one of: of, value, called"),
        ("value: 2", "value: 0", 11, "value: found 0, expected more than 0"),
        ("value: 2", "value: two", 11, "value: found 'two', expected a number"),
        ("value: 2", "value: 2\nform: saving", 11, "value: found 2, expected a share below 1"),
        ("value: 2", "value: 2\nto: 1", 12, "to: found 1, expected more than the value"),
        ("at_least", "atleast", 13, "quantifier: found 'atleast', expected one of about, at_least, up_to"),
        ("scope: chip", "scope: chop", 14, "(did you mean 'chip'?)"),
        ("source: aws-trn3", "source: aws-trn33", 6, "source: found 'aws-trn33', expected one of"),
        ("when: 2026-01", "when: yesterday", 5, "when: found 'yesterday', expected YYYY-MM"),
        (
            "{of: trainium3, ",
            "{of: trainium3, printed: true, ",
            9,
            "numerator.printed: found true, expected",
        ),
        ("who: nobody", "whom: nobody", 4, "(did you mean 'who'?)"),
        ("grade: C\n", "", 2, "grade: found nothing, expected a value"),
        ("claim: mine", "claim: yours", 2, "claim: found 'yours', expected 'mine' as the file is called"),
        ("denominator: {of: trainium2, format: bf16}\n", "", 2, "found no denominator and no unit"),
        ("scope: chip", "scope: chip\nunit: PFLOP/s", 15, "unit: found 'PFLOP/s', expected"),
        (
            "scope: chip",
            "scope: chip\ntested_by: {suite: headlin, only: [x]}",
            15,
            "tested_by: found 'headlin', expected one of",
        ),
        (
            "scope: chip",
            "scope: chip\ntested_by: {suite: headline, only: [x]}",
            15,
            "tested_by: found 'x', expected one of",
        ),
        (
            "scope: chip",
            "scope: chip\nbesides: [{metric: peak, value: 1, quantifier: about, unit: PFLOP/s}]",
            15,
            "besides[0].unit: found 'PFLOP/s', expected a unit where the claim has one, and only there",
        ),
        ("scope: chip", "scope: chip\nshown: [{what: it, metric: pek}]", 15, "shown[0].metric: found 'pek', expected"),
        ("scope: chip", "scope: chip\nshown: [{what: it, unit: W}]", 15, "shown[0].unit: found 'W', expected"),
        ("who: nobody", "who: *nobody", 4, "found alias *nobody, expected plain values"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(tmp_path: Path, old: str, new: str, line: int, message: str):
    assert old in TEXT
    path = write(tmp_path, TEXT.replace(old, new))
    with pytest.raises(InputError) as found:
        library.read(path)
    text = str(found.value)
    assert text.startswith(f"{path}:{line}: ")
    assert message in text
    assert "\n" not in text


def test_a_year_alone_is_as_good_a_date(tmp_path: Path):
    text = TEXT.replace("when: 2026-01", 'when: "2026"').replace("source: aws-trn3", "source: talk")
    text += "sources:\n  talk: {title: A talk, location: somewhere, date: undated}\n"
    found = library.read(write(tmp_path, text))
    assert (found.when, found.sources["talk"].date) == ("2026", "undated")


def test_a_file_of_another_kind_is_named(tmp_path: Path):
    path = write(tmp_path, "suite: s\ncases: []\n")
    with pytest.raises(InputError, match=r"looks like a suite, expected a claim: perwatt validate"):
        library.read(path)


def test_one_bad_file_does_not_keep_the_others_out(tmp_path: Path):
    write(tmp_path)
    write(tmp_path, TEXT.replace("metric: tokens_per_s_per_chip", "metric: speed"), "bad")
    told: list[InputError] = []
    found = library.load(tmp_path, tell=told.append)
    assert "mine" in {one.claim for one in found}
    assert [error.field for error in told] == ["metric"]


def test_nothing_where_claims_should_be(tmp_path: Path):
    with pytest.raises(InputError, match=r"--claims: found no \*\.yaml in it, expected claims"):
        library.load(tmp_path)
    with pytest.raises(InputError, match=r"--claims: no such file or folder"):
        library.load(tmp_path / "nowhere.yaml")
