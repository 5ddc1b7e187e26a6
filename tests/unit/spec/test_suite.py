"""Suites: what is read, and every way to get one wrong."""

from __future__ import annotations

import itertools
import time
from pathlib import Path

import pytest

from perwatt import configs, workloads
from perwatt.errors import InputError
from perwatt.spec import suite
from perwatt.spec.suite import Energy, Suite

GOOD = """\
suite: good
description: two kinds of work
defaults: {precision: bf16, pass: fwd, impl: [torch, sdpa]}
measure: {cache: hot, max_time_s: 1e0}
energy: off
cases:
  - workload: gemm
    params: {n: 64, k: 1e2}
    sweep:
      m: [8, 16]
      product: [fwd, dgrad, wgrad]
  - workload: attention
    name: mine
    params: {heads: 4, seq: 16, head_dim: 8}
    sweep: {precision: [fp32, bf16]}
    measure: {cache: cold}
"""
CASE = "  - {workload: gemm, params: {m: 1, n: 1, k: 1}}\n"


def load(folder: Path, text: str, **options: bool) -> Suite:
    path = folder / "suite.yaml"
    path.write_text(text)
    return suite.load(str(path), **options)


def test_a_good_suite(tmp_path: Path):
    read = load(tmp_path, GOOD)
    assert (read.name, read.description, read.text) == ("good", "two kinds of work", GOOD)
    assert read.energy == Energy(mode="off")
    gemms, attentions = read.cases[:6], read.cases[6:]
    shapes = [(case.params.m, case.params.product) for case in gemms]
    assert shapes == list(itertools.product([8, 16], ["fwd", "dgrad", "wgrad"]))
    assert {case.params.k for case in gemms} == {100}
    assert {(case.precision.name, case.impls, case.cache) for case in gemms} == {("bf16", ("torch",), "hot")}
    assert [(case.precision.name, case.impls, case.cache) for case in attentions] == [
        ("fp32", ("torch", "sdpa"), "cold"), ("bf16", ("torch", "sdpa"), "cold"),
    ]  # fmt: skip
    assert [case.name for case in attentions] == ["mine precision=fp32", "mine precision=bf16"]
    assert all(case.measure.max_time_s == 1.0 for case in read.cases)


def test_a_default_that_a_workload_has_not_is_passed_over(tmp_path: Path):
    text = f"suite: a\ndefaults: {{pass: step, impl: [sdpa]}}\ncases:\n{CASE}"
    (case,) = load(tmp_path, text).cases
    assert (case.pass_, case.impls) == ("fwd", ("torch",))


def test_the_same_in_the_case_is_refused(tmp_path: Path):
    with pytest.raises(InputError, match=r":3: cases\[0\].pass: found 'step', expected one of"):
        load(tmp_path, "suite: a\ncases:\n  - {workload: gemm, params: {m: 1, n: 1, k: 1}, pass: step}\n")


def test_text_is_taken_for_a_list_of_one_impl(tmp_path: Path):
    (case,) = load(tmp_path, f"suite: a\ndefaults: {{impl: torch.compile}}\ncases:\n{CASE}").cases
    assert case.impls == ("torch.compile",)


def test_the_same_work_by_another_impl_is_no_duplicate(tmp_path: Path):
    twice = "".join(
        f"  - {{workload: gemm, params: {{m: 1, n: 1, k: 1}}, impl: {i}}}\n" for i in ("torch", "torch.compile")
    )
    assert len(load(tmp_path, f"suite: a\ncases:\n{twice}").cases) == 2


@pytest.mark.parametrize(
    ("text", "energy"),
    [
        ("off", Energy(mode="off")), ("false", Energy(mode="off")), ("headline", Energy(mode="headline")),
        ("{window_s: 60}", Energy(window_s=60.0)), ("{window_s: 1e2}", Energy(window_s=100.0)),
    ],
)  # fmt: skip
def test_energy(tmp_path: Path, text: str, energy: Energy):
    assert load(tmp_path, f"suite: a\nenergy: {text}\ncases:\n{CASE}").energy == energy


def at(text: str, line: int, message: str) -> object:
    """A suite's text, the line its mistake is in, and what has to be said after it."""
    return pytest.param(text, line, message, id=message[:40])


HEAD = "suite: a\ncases:\n"
GEMM = "  - workload: gemm\n    params:\n      m: 1\n      n: 1\n"
BAD = [
    at("[1]\n", 1, "found [1], expected a mapping"),
    at("- suite\n", 1, "found ['suite'], expected a mapping"),
    at(f"# no name\ncases:\n{CASE}", 2, "found no 'suite', expected one"),
    at("suite: a\n", 1, "found no 'cases', expected one"),
    at("suite: a\ncases: []\n", 2, "cases: found no case, expected at least one"),
    at("suite: a\ncases:\n", 2, "cases: found nothing, expected a list"),
    at(f"suite: 3\ncases:\n{CASE}", 1, "suite: found 3, expected text"),
    at(f'suite: "a\\nb"\ncases:\n{CASE}', 1, r"suite: found 'a\nb', expected one line of text"),
    at(
        f"suite: a\ncase:\n{CASE}",
        2,
        "case: found 'case', expected one of cases, defaults, description, energy, measure, "
        "suite (did you mean 'cases'?)",
    ),
    at(
        f"suite: a\ndefaults: {{precison: fp32}}\ncases:\n{CASE}",
        2,
        "defaults.precison: found 'precison', expected one of "
        "data, grad, impl, mode, parallel, pass, placement, precision (did you mean 'precision'?)",
    ),
    at(f"suite: a\ndefaults:\n  grad: 1\ncases:\n{CASE}", 3, "defaults.grad: found 1, expected true or false"),
    at(
        f"suite: a\ndefaults:\n  pass: fdw\ncases:\n{CASE}",
        3,
        "defaults.pass: found 'fdw', expected one of bwd, fwd, fwd+bwd, step (did you mean 'fwd'?)",
    ),
    at(
        f"suite: a\ndefaults:\n  precision: bf61\ncases:\n{CASE}",
        3,
        "defaults.precision: found 'bf61', expected one of "
        "bf16, bf16_autocast, bf16_master, bf16_sr, fp16, fp32, fp8_row, fp8_row_ieee, fp8_tensor, "
        "fp8_tensor_ieee, mxfp8, tf32 (did you mean 'bf16'?)",
    ),
    at(
        f"suite: a\nmeasure:\n  cache: hot\n  target_c: 1\ncases:\n{CASE}",
        4,
        "measure.target_c: found 'target_c', expected one of ",
    ),
    at(
        f"suite: a\nmeasure:\n  cache: luke\ncases:\n{CASE}",
        3,
        "measure.cache: found 'luke', expected one of cold, hot, partial",
    ),
    at(
        f"suite: a\nmeasure:\n  max_time_s: -1\ncases:\n{CASE}",
        3,
        "measure.max_time_s: found -1, expected more than 0",
    ),
    at(
        f"suite: a\nenergy: of\ncases:\n{CASE}",
        2,
        "energy: found 'of', expected one of all, auto, headline, off, {window_s: N} (did you mean 'off'?)",
    ),
    at(f"suite: a\nenergy: true\ncases:\n{CASE}", 2, "energy: found True, expected one of all, auto"),
    at(
        f"suite: a\nenergy:\n  window_s: 0\ncases:\n{CASE}",
        3,
        "energy.window_s: found 0, expected seconds above 0, at most",
    ),
    at(
        f"suite: a\nenergy:\n  window: 5\ncases:\n{CASE}",
        3,
        "energy.window: found 'window', expected window_s (did",
    ),
    at(HEAD + "  - 5\n", 3, "cases[0]: found 5, expected a mapping"),
    at(HEAD + "  - params: {m: 1}\n", 3, "cases[0]: found no 'workload', expected one"),
    at(HEAD + CASE + "  - workload: gem\n", 4, "cases[1].workload: found 'gem', expected one of "),
    at(
        HEAD + GEMM + "      kk: 1\n",
        7,
        "cases[0].params.kk: found 'kk', expected one of a_layout, b_layout, batch, "
        "epilogue, k, m, n, output, product (did you mean 'k'?)",
    ),
    at(HEAD + GEMM, 4, "cases[0].params.k: found nothing, expected a value"),
    at(HEAD + GEMM + "      k: -5\n", 7, "cases[0].params.k: found -5, expected at least 1"),
    at(
        HEAD + GEMM + "      k: 1e30\n",
        7,
        "cases[0].params.k: found 1000000000000000019884624838656, expected at most",
    ),
    at(HEAD + GEMM + "      k: 1.5\n", 7, "cases[0].params.k: found 1.5, expected a whole number"),
    at(HEAD + GEMM + "      k: true\n", 7, "cases[0].params.k: found True, expected a number"),
    at(HEAD + GEMM + "      k:\n", 7, "cases[0].params.k: found nothing, expected a whole number"),
    at(
        HEAD + GEMM + "      k: 1\n      product: dgrd\n",
        8,
        "cases[0].params.product: found 'dgrd', expected one of dgrad, fwd, wgrad (did you mean 'dgrad'?)",
    ),
    at(
        HEAD + GEMM + "      k: 1\n    impl:\n      - torch\n      - torhc.compile\n",
        10,
        "cases[0].impl[1]: found 'torhc.compile', expected one of ",
    ),
    at(HEAD + GEMM + "      k: 1\n    impl: trch\n", 8, "cases[0].impl: found 'trch', expected one of "),
    at(HEAD + GEMM + "      k: 1\n    impl: []\n", 8, "cases[0].impl: found no impl, expected at least one"),
    at(HEAD + GEMM + "      k: 1\n    impl: [torch, 3]\n", 8, "cases[0].impl[1]: found 3, expected text"),
    at(
        HEAD + GEMM + "      k: 1\n    impl: [torch, torch]\n",
        8,
        "cases[0].impl: found ['torch', 'torch'], expected each",
    ),
    at(HEAD + GEMM + "      k: 1\n    precision: fp31\n", 8, "cases[0].precision: found 'fp31', expected one of "),
    at(
        HEAD + GEMM + "      k: 1\n    data: zero\n",
        8,
        "cases[0].data: found 'zero', expected one of normal, uniform, zeros (did you mean 'zeros'?)",
    ),
    at(
        HEAD + GEMM + "      k: 1\n    placement: chips\n",
        8,
        "cases[0].placement: found 'chips', expected one of chip, cluster, device, node (did you mean 'chip'?)",
    ),
    at(HEAD + GEMM + "      k: 1\n    grad: yes\n", 8, "cases[0].grad: found 'yes', expected true or false"),
    at(
        HEAD + GEMM + "      k: 1\n    grade: A\n",
        8,
        "cases[0].grade: found 'grade', expected one of data, grad, impl, measure, mode, name, parallel, params, "
        "pass, placement, precision, sweep, ... (13 in all) (did you mean 'grad'?)",
    ),
    at(
        HEAD + GEMM + "      k: 1\n    measure:\n      min_sample: 3\n",
        9,
        "cases[0].measure.min_sample: found 'min_sample', expected one of ",
    ),
    at(HEAD + GEMM + "    sweep:\n      kk: [1]\n", 8, "cases[0].sweep.kk: found 'kk', expected one of "),
    at(HEAD + GEMM + "    sweep:\n      k: 4\n", 8, "cases[0].sweep.k: found 4, expected a list"),
    at(HEAD + GEMM + "    sweep:\n      k: []\n", 8, "cases[0].sweep.k: found no value, expected at least one"),
    at(HEAD + GEMM + "    sweep:\n      m: [1]\n", 8, "cases[0].sweep.m: 'm' is both given and swept"),
    at(
        HEAD + GEMM + "    sweep:\n      k:\n        - 1\n        - -4\n",
        10,
        "cases[0].sweep.k[1]: found -4, expected at least 1",
    ),
    at(
        HEAD + GEMM + "    sweep: {k: [1]}\n    precision: fp32\n    pass: bwd\n    name: x\n  - workload: gemm\n"
        "    params: {m: 2, n: 2, k: 2}\n    sweep:\n      pass: [fwd, bwd]\n      product: [fwd, dgrad]\n",
        15,
        "cases[1].sweep.product[1]: found 'dgrad', expected 'fwd' with pass bwd",
    ),
    at(
        HEAD
        + "  - workload: attention\n    params: {seq: 8, head_dim: 8, heads: 4}\n    sweep:\n      kv_heads: [2, 3]\n",
        5,
        "cases[0].sweep: kv_heads 3 does not divide heads 4 (at kv_heads=3)",
    ),
    at(HEAD + CASE + CASE, 4, "cases[1]: duplicate case: gemm 1x1x1 fwd fp32 by torch is in line 3 already"),
    at(
        HEAD + GEMM + "    sweep:\n      k: [1, 2, 1]\n",
        7,
        "cases[0].sweep: duplicate case: gemm 1x1x1 fwd fp32 by torch is in line 7 already",
    ),
    at(HEAD + CASE + CASE.replace("}}", "}, impl: [torch.compile, torch]}"), 4, "cases[1]: duplicate case: "),
    at(HEAD + CASE + CASE.replace("k: 1", "k: 1, batch: 1"), 4, "cases[1]: duplicate case: "),
    at(HEAD + "  - &x {workload: gemm}\n", 3, "found anchor &x, expected plain values"),
    at(HEAD + "  - !!map {workload: gemm}\n", 3, "found tag tag:yaml.org,2002:map, expected plain values"),
    at(HEAD + CASE + "suite: b\n", 4, "suite: duplicate key 'suite', first in line 1"),
]


def test_measure_of_the_suite_is_checked_even_if_no_case_uses_it(tmp_path: Path):
    own = CASE.replace("}}", "}, measure: {cache: hot}}")
    with pytest.raises(InputError, match=r":2: measure.cache: found 'luke'"):
        load(tmp_path, f"suite: a\nmeasure: {{cache: luke}}\ncases:\n{own}")


@pytest.mark.parametrize("impl", ["trch", "[torch, trch]"])
def test_a_default_impl_that_no_workload_has_is_refused(tmp_path: Path, impl: str):
    with pytest.raises(InputError, match=r":2: defaults.impl(\[1\])?: found 'trch', expected one of .*mean 'torch'"):
        load(tmp_path, f"suite: a\ndefaults: {{impl: {impl}}}\ncases:\n{CASE}")


STEP = "  - workload: train_step\n    params:\n      batch: 1\n      seq: 8\n"
SHAPE = "      model:\n        hidden: 8\n        intermediate: 8\n        layers: 1\n        vocab: 8\n"
BAD_MODELS = [
    at(
        STEP + "      model: lama-tiny\n",
        7,
        "cases[0].params.model: found 'lama-tiny', expected one of ",
    ),
    at(STEP + SHAPE + "        haeds: 2\n", 12, "cases[0].params.model.haeds: found 'haeds', expected one of "),
    at(STEP + SHAPE, 7, "cases[0].params.model.heads: found nothing, expected a value"),
    at(
        STEP + SHAPE + "        heads: -2\n",
        12,
        "cases[0].params.model.heads: found -2, expected at least 1",
    ),
    at(
        STEP + SHAPE + "        heads: 3\n", 7, "cases[0].params.model: heads 3 does not divide hidden 8; give head_dim"
    ),
    at(
        STEP + "      model: llama-tiny\n      layers: 9\n",
        8,
        "cases[0].params.layers: found 9, expected at most the model's 4",
    ),
    at(
        STEP + "      model: llama-tiny\n    sweep:\n      layers: [1, 9]\n",
        9,
        "cases[0].sweep.layers[1]: found 9, expected at most the model's 4",
    ),
    at(
        STEP + "    sweep:\n      model:\n        - llama-tiny\n        - llama-tny\n",
        10,
        "cases[0].sweep.model[1]: found 'llama-tny', expected one of ",
    ),
    at(STEP + "      model: /nowhere/none.json\n", 7, "cases[0].params.model: /nowhere/none.json: cannot read"),
    at(
        STEP + "      model: llama-tiny\n      betas:\n        - 0.9\n        - 1.5\n",
        10,
        "cases[0].params.betas[1]: found 1.5, expected less than 1",
    ),
]


@pytest.mark.parametrize(("text", "line", "message"), BAD_MODELS)
def test_bad_models_are_one_line_with_their_place(tmp_path: Path, text: str, line: int, message: str):
    with pytest.raises(InputError) as raised:
        load(tmp_path, HEAD + text)
    assert str(raised.value).startswith(f"{tmp_path / 'suite.yaml'}:{line}: {message}"), str(raised.value)


@pytest.mark.parametrize(("text", "line", "message"), BAD)
def test_bad_input_is_one_line_with_its_place(tmp_path: Path, text: str, line: int, message: str):
    with pytest.raises(InputError) as raised:
        load(tmp_path, text)
    shown = str(raised.value)
    assert shown.startswith(f"{tmp_path / 'suite.yaml'}:{line}: {message}"), shown
    assert "\n" not in shown


def test_bad_input_is_bad_for_one_reason_only(tmp_path: Path):
    """The parts that the bad suites are made of are good."""
    assert len(load(tmp_path, HEAD + CASE).cases) == 1
    assert len(load(tmp_path, HEAD + GEMM + "      k: 1\n").cases) == 1


def swept(count: int) -> str:
    return HEAD + f"  - workload: gemm\n    params: {{n: 1, k: 1}}\n    sweep: {{m: {list(range(1, count + 1))}}}\n"


def test_ten_thousand_cases_are_the_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(suite, "MAX_CASES", 10)
    assert len(load(tmp_path, swept(10)).cases) == 10
    with pytest.raises(
        InputError, match=r":5: cases\[0\].sweep: found 11 cases, expected at most 10 \(--yes allows more\)"
    ):
        load(tmp_path, swept(11))
    assert len(load(tmp_path, swept(11), yes=True).cases) == 11


def test_too_many_cases_are_counted_over_the_whole_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(suite, "MAX_CASES", 10)
    text = swept(6) + swept(6).removeprefix(HEAD).replace("n: 1", "n: 2")
    with pytest.raises(InputError, match=r":8: cases\[1\].sweep: found 12 cases"):
        load(tmp_path, text)


def test_a_huge_sweep_is_refused_before_it_is_expanded(tmp_path: Path):
    values = list(range(1, 1001))
    text = HEAD + f"  - workload: gemm\n    sweep: {{m: {values}, n: {values}, k: {values}, batch: {values}}}\n"
    started = time.perf_counter()
    with pytest.raises(InputError, match=r"found 1,000,000,000,000 cases, expected at most 10,000"):
        load(tmp_path, text)
    assert time.perf_counter() - started < 30


def test_an_unknown_suite_has_the_nearest_name():
    assert "smoke" in configs.names("suites")
    with pytest.raises(InputError, match=r"suite: found 'smok', expected one of .*\(did you mean 'smoke'\?\)"):
        suite.load("smok")


@pytest.mark.parametrize("name", ["none.yaml", "folder/none", "none.yml"])
def test_what_looks_like_a_path_is_one(name: str):
    with pytest.raises(InputError, match=rf"^{name}: cannot be read: No such file"):
        suite.load(name)


def test_a_file_without_suffix_is_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "smoke").write_text(HEAD + CASE)
    monkeypatch.chdir(tmp_path)
    assert suite.load("smoke").name == "a"


def test_a_folder_does_not_hide_a_shipped_suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "smoke").mkdir()
    monkeypatch.chdir(tmp_path)
    assert suite.load("smoke").file == str(configs.find("suites", "smoke"))


@pytest.mark.parametrize("name", configs.names("suites"))
def test_shipped_suites_are_good(name: str):
    read = suite.load(name)
    assert read.name == name
    assert read.description
    assert read.cases


def test_issue_names_the_shipped_suites():
    assert {"smoke", "gemm", "attention", "train"} <= set(configs.names("suites"))


def test_smoke_has_every_workload() -> None:
    built_in = {n for n, w in workloads.available().items() if type(w).__module__.startswith("perwatt.workloads.")}
    assert {case.workload.name for case in suite.load("smoke").cases} == built_in
