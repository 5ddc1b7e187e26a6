"""Files that a suite names: where they are looked for, and how a run keeps them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from perwatt.errors import InputError
from perwatt.spec import suite

CONFIG: dict[str, Any] = {
    "model_type": "llama", "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 100, "max_position_embeddings": 256,
}  # fmt: skip
TWO = """\
suite: two
cases:
  - workload: optimizer_step  # a comment that stays
    params: {model: small/config.json, optimizer: sgd}
  - workload: optimizer_step
    sweep:
      model: ["other.json", llama-tiny, 'small/config.json']
"""


def config(path: Path, **changes: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(CONFIG | changes))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config(tmp_path / "suites" / "small" / "config.json")
    config(tmp_path / "suites" / "other.json", num_hidden_layers=3)
    (tmp_path / "suites" / "two.yaml").write_text(TWO)
    return tmp_path / "suites"


def test_paths_are_relative_to_the_suite(folder: Path) -> None:
    loaded = suite.load(str(folder / "two.yaml"))
    assert [case.params.shape.layers for case in loaded.cases] == [2, 3, 4, 2]  # type: ignore[attr-defined]


def test_then_to_the_folder_that_the_program_runs_in(folder: Path) -> None:
    (folder / "small" / "config.json").unlink()
    config(Path("small/config.json"), num_hidden_layers=5)
    assert suite.load(str(folder / "two.yaml")).cases[0].params.shape.layers == 5  # type: ignore[attr-defined]
    config(folder / "small" / "config.json", num_hidden_layers=6)
    assert suite.load(str(folder / "two.yaml")).cases[0].params.shape.layers == 6  # type: ignore[attr-defined]


def test_what_is_nowhere_is_named_beside_the_suite(folder: Path) -> None:
    (folder / "other.json").unlink()
    with pytest.raises(InputError) as caught:
        suite.load(str(folder / "two.yaml"))
    message = f"{folder / 'other.json'}: cannot read the model's config: No such file or directory"
    assert str(caught.value) == f"{folder / 'two.yaml'}:7: cases[1].sweep.model[0]: {message}"


def test_what_a_run_keeps_stands_alone(folder: Path, tmp_path: Path) -> None:
    loaded = suite.load(str(folder / "two.yaml"))
    kept = tmp_path / "kept"
    for name, text in {"suite.yaml": loaded.text, **loaded.attached}.items():
        (kept / name).parent.mkdir(parents=True, exist_ok=True)
        (kept / name).write_text(text)
    assert set(loaded.attached) == {"models/small.json", "models/other.json"}
    for path in (folder / "small" / "config.json", folder / "other.json", folder / "two.yaml"):
        path.unlink()
    again = suite.load(str(kept / "suite.yaml"))
    assert [case.match_key for case in again.cases] == [case.match_key for case in loaded.cases]
    assert [case.message() for case in again.cases] == [case.message() for case in loaded.cases]
    assert again.text == loaded.text
    assert "# a comment that stays" in again.text


def test_models_of_one_name_are_told_apart(folder: Path) -> None:
    config(folder / "a" / "m.json")
    config(folder / "b" / "m.json", num_hidden_layers=7)
    text = TWO.replace("small/config.json", "a/m.json").replace("other.json", "b/m.json")
    (folder / "two.yaml").write_text(text)
    loaded = suite.load(str(folder / "two.yaml"))
    assert set(loaded.attached) == {"models/m.json", "models/2/m.json"}
    assert yaml.safe_load(loaded.text)["cases"][0]["params"]["model"] == "models/m.json"


def test_a_suite_without_files_is_kept_as_it_is(folder: Path) -> None:
    text = TWO.replace("small/config.json", "llama-tiny").replace('"other.json", llama-tiny, ', "")
    (folder / "two.yaml").write_text(text.replace("optimizer: sgd", "optimizer: muon"))
    loaded = suite.load(str(folder / "two.yaml"))
    assert (loaded.text, loaded.attached) == (text.replace("optimizer: sgd", "optimizer: muon"), {})


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("hello {", "config.json:1: not JSON: Expecting value"),
        ("", "config.json:1: not JSON: Expecting value"),
        ("[" * 100_000, "config.json: not JSON: nested too deep"),
        ("[1]", "config.json: found [1], expected an object"),
        ("{}", "config.json: model_type: missing key 'model_type'"),
        ('{"model_type": ["llama"]}', "config.json: model_type: found ['llama'], expected one of"),
        (json.dumps(CONFIG | {"max_position_embeddings": "x"}), "max_position_embeddings: found 'x', expected a whole"),
        (json.dumps(CONFIG | {"tie_word_embeddings": "no"}), "tie_word_embeddings: found 'no', expected true or false"),
        (json.dumps(CONFIG | {"num_hidden_layers": 0}), "model.layers: found 0, expected at least 1"),
        (json.dumps(CONFIG | {"hidden_size": None}), "model.hidden: found nothing, expected a whole number"),
        (json.dumps(CONFIG | {"hidden_size": 10**30}), "expected at most 2147483648"),
    ],
)
def test_configs_that_cannot_be_read_so(folder: Path, written: str, message: str) -> None:
    (folder / "small" / "config.json").write_text(written)
    with pytest.raises(InputError) as caught:
        suite.load(str(folder / "two.yaml"))
    shown = str(caught.value)
    assert shown.startswith(f"{folder / 'two.yaml'}:4: cases[0].params.model: {folder / 'small'}/config.json"), shown
    assert message in shown
    assert "\n" not in shown


@pytest.mark.parametrize("model", ["5", "[llama-tiny]", "true", "~"])
def test_models_of_another_kind(folder: Path, model: str) -> None:
    (folder / "two.yaml").write_text(TWO.replace("small/config.json,", f"{model},"))
    with pytest.raises(InputError, match=r"two\.yaml:4: cases\[0\]\.params\.model: found .*, expected a name .* path"):
        suite.load(str(folder / "two.yaml"))


def test_an_unknown_name_says_what_else_there_is(folder: Path) -> None:
    (folder / "two.yaml").write_text(TWO.replace("small/config.json,", "llama-tinny,"))
    with pytest.raises(InputError, match=r"did you mean 'llama-tiny'\?\); or a shape .*, or a path"):
        suite.load(str(folder / "two.yaml"))
