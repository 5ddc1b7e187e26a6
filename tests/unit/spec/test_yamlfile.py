"""YAML as plain values with lines."""

from pathlib import Path

import pytest

from perwatt.errors import InputError
from perwatt.spec import yamlfile

TEXT = """\
# a comment

suite: t
numbers: [1, 1e6, 1.5e3, -2, .5, 010, "1e6", 1_000, 12:30]
words: [off, yes, no, on, ~, null, true, False, 2024-01-01]
cases:
  - workload: gemm
    params:
      m: 1
  -
    workload: attention
"""


@pytest.fixture
def document(tmp_path: Path) -> yamlfile.Document:
    path = tmp_path / "a.yaml"
    path.write_text(TEXT)
    return yamlfile.load(path)


def test_numbers_are_read_by_the_rules_of_yaml_1_2(document: yamlfile.Document):
    numbers = document.value["numbers"]
    assert numbers == [1, 1_000_000, 1500, -2, 0.5, 10, "1e6", "1_000", "12:30"]
    assert [type(n) for n in numbers[:6]] == [int, int, int, int, float, int]


def test_words_stay_words(document: yamlfile.Document):
    assert document.value["words"] == ["off", "yes", "no", "on", None, None, True, False, "2024-01-01"]


def test_every_field_has_its_line(document: yamlfile.Document):
    assert document.lines == {
        "": 3, "suite": 3, "numbers": 4, "words": 5, "cases": 6,
        **{f"numbers[{i}]": 4 for i in range(9)}, **{f"words[{i}]": 5 for i in range(9)},
        "cases[0]": 7, "cases[0].workload": 7, "cases[0].params": 8, "cases[0].params.m": 9,
        "cases[1]": 11, "cases[1].workload": 11,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("field", "line"),
    [("cases[0].params.k", 8), ("cases[0].params.m.deep[3].er", 9), ("cases[7]", 6), ("nowhere", 3), ("", 3)],
)
def test_a_field_that_is_not_there_has_the_line_around_it(document: yamlfile.Document, field: str, line: int):
    assert document.line(field) == line


def test_mistakes_raised_inside_are_placed(document: yamlfile.Document):
    with pytest.raises(InputError) as raised, document.placed():
        raise InputError("no", field="cases[0].params.k")
    assert (raised.value.file, raised.value.line) == (document.file, 8)


def test_a_mistake_in_another_file_keeps_its_place(document: yamlfile.Document):
    with pytest.raises(InputError) as raised, document.placed():
        raise InputError("no", file="config.json", field="cases[0]")
    assert (raised.value.file, raised.value.line) == ("config.json", None)


def test_byte_order_mark_and_other_line_ends(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb:\r\n  c: 2\r\n")
    document = yamlfile.load(path)
    assert document.value == {"a": 1, "b": {"c": 2}}
    assert document.lines["b.c"] == 3


@pytest.mark.parametrize(
    ("content", "line", "message"),
    [
        (b"", 1, "empty file, expected a mapping"),
        (b"# nothing\n\n", 1, "empty file, expected a mapping"),
        (b"a: 1\nb: \xff\n", 2, "found byte 0xff, expected UTF-8"),
        ("a: ä\n".encode("utf-16"), 1, "found byte 0xff, expected UTF-8"),
        (b"a: 1\nb: \x07\n", 2, r"found character '\x07', expected text"),
        (b'a: 1\nb: "\\UFFFFFFFF"\n', 2, "found an escape that is no character, expected text"),
        (b'a: 1\nb: "\\ud800"\n', 2, r"found '\ud800', expected characters"),
        (b"a: 1\nb: 1e999\n", 2, "found '1e999', expected a number below 1.8e308"),
        (b"a: 1\nb: &x {c: 1}\n", 2, "found anchor &x, expected plain values"),
        (b"a: 1\nb: *x\n", 2, "found alias *x, expected plain values"),
        (b"a: 1\nb: !!str 1\n", 2, "found tag tag:yaml.org,2002:str, expected plain values"),
        (b"a: 1\nb: !python 1\n", 2, "found tag !python, expected plain values"),
        (b"a: 1\nb:\n  <<: {c: 1}\n", 3, "found a merge key <<, expected plain keys"),
        (b"a: 1\nb: 2\na: 3\n", 3, "duplicate key 'a', first in line 1"),
        (b"a:\n  b: 1\n  c: 1\n  b: 2\n", 4, "duplicate key 'b', first in line 2"),
        (b"a: 1\n2: b\n", 2, "found 2 as a key, expected text"),
        (b"a: 1\n[b]: b\n", 2, "found a list or mapping as a key, expected text"),
        (b"a: 1\n---\nb: 2\n", 2, "expected a single document in the stream, but found another document"),
        (b"a: 1\n\tb: 2\n", 2, r"while scanning for the next token, found character '\t' that cannot start any token"),
        (b"a: 1\nb: [1, 2\n", 3, "while parsing a flow sequence, expected ',' or ']', but got '<stream end>'"),
        (b"a: 1\nb: " + b"[" * 3000, 2, "found more than 40 levels, expected plain values"),
    ],
)
def test_what_is_refused_and_where(tmp_path: Path, content: bytes, line: int, message: str):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError) as raised:
        yamlfile.load(path)
    assert (raised.value.file, raised.value.line, raised.value.message) == (str(path), line, message)


def test_many_fields_are_not_deep(tmp_path: Path):
    path = tmp_path / "a.yaml"
    path.write_text("a: [[1], [2]]\n" + "".join(f"b{i}: {{c: {i}}}\n" for i in range(100)))
    assert len(yamlfile.load(path).value) == 101


def test_unreadable_files(tmp_path: Path):
    for path in (tmp_path, tmp_path / "none.yaml"):
        with pytest.raises(InputError, match="cannot be read"):
            yamlfile.load(path)


@pytest.mark.parametrize(
    ("value", "kinds"), [(True, int), (1, bool), (1.5, int), ("1", float), (None, dict), ([], str)]
)
def test_kinds_are_strict(value: object, kinds: type):
    with pytest.raises(InputError, match="expected"):
        yamlfile.of_kind("a", value, kinds)


def test_a_whole_number_is_a_number():
    assert yamlfile.of_kind("a", 1, float) == 1


def test_libyaml_and_the_parser_in_python_agree(tmp_path, monkeypatch):
    path = tmp_path / "both.yaml"
    path.write_text("a: ['1', 1, \"\", ~, off]\nb:\n  - {c: 1e6, '<<': x}\n  - |\n    12\n  - >-\n    13\nd: 1.5 # e\n")
    fast = yamlfile.load(path)
    monkeypatch.setattr(yamlfile, "_composed_fast", lambda text: None)
    assert yamlfile.load(path) == fast
    assert fast.value == {"a": ["1", 1, "", None, "off"], "b": [{"c": 10**6, "<<": "x"}, "12\n", "13"], "d": 1.5}
