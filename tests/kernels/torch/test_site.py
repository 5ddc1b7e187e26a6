"""Where kernels can be launched: the chip's generation and LNC, and every reason why they cannot."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fakes.neuron_driver import TRN2, TRN3, Model, NeuronDriver
from perwatt.hardware import neuron_stack
from perwatt.hardware.neuron_software import Product, Software
from perwatt.hardware.neuron_stack import Stack
from perwatt_kernels.nki_torch import site

NATIVE = Software(
    product=Product.NATIVE, reason="", evidence="", torch="2.14.0", release="2.14.3.0.1", torch_xla=None,
    neuronx_cc="2.28.7631.0", nki="0.7.0",
)  # fmt: skip


def stack(root: Path, model: Model = TRN2, software: Software = NATIVE, **variables: str) -> Stack:
    NeuronDriver(root, lambda chip, die, when: 0.0, model=model, chips=1, version="2.31.7.0")
    return neuron_stack.look(variables, root, tool=lambda command: None, installed=lambda: software)


@pytest.mark.parametrize(("model", "target", "name"), [(TRN2, "trn2", "gen3"), (TRN3, "trn3", "gen4")])
def test_a_kernel_is_launched_on_all_cores_of_a_device(tmp_path: Path, model: Model, target: str, name: str) -> None:
    found = site.of(stack(tmp_path, model), {})
    assert (found.target, found.lnc, found.generation.name, found.simulated) == (target, 2, name, False)


def test_the_lnc_is_the_runtimes(tmp_path: Path) -> None:
    assert site.of(stack(tmp_path, NEURON_LOGICAL_NC_CONFIG="1"), {}).lnc == 1


@pytest.mark.parametrize(
    ("software", "words"),
    [
        (replace(NATIVE, nki=None), "nki is not installed: pip install nki --extra-index-url"),
        (replace(NATIVE, nki="placeholder"), "nki is an empty placeholder of the public index: pip uninstall nki"),
        (replace(NATIVE, nki="0.5.0"), "nki 0.5.0 is older than 0.6"),
        (replace(NATIVE, product=Product.XLA, reason="torch-neuronx 2.9 is the XLA product: install"), "is the XLA"),
    ],
)
def test_software_that_cannot_launch_is_told_with_the_remedy(tmp_path: Path, software: Software, words: str) -> None:
    with pytest.raises(NotImplementedError, match=words):
        site.of(stack(tmp_path, software=software), {})


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"NKI_SIMULATOR": "1"}, "NKI_SIMULATOR=1 has kernels simulated"),
        ({"NEURON_PLATFORM_TARGET_OVERRIDE": "trn3"}, "compiled for another chip than Trainium2: unset it"),
    ],
)
def test_settings_that_would_run_something_else(tmp_path: Path, variables: dict[str, str], words: str) -> None:
    assert site.of(stack(tmp_path), {"NEURON_PLATFORM_TARGET_OVERRIDE": "gen3"}).target == "trn2"
    with pytest.raises(NotImplementedError, match=words):
        site.of(stack(tmp_path / "again"), variables)


def test_the_cpu_has_kernels_within_a_simulation_only() -> None:
    assert "found cpu" in (site.missing("cpu") or "")
    with site.simulated("trn3", 1) as found:
        assert (site.site("cpu"), site.missing("cuda") is None) == (found, False)
        assert (found.generation.name, found.lnc, found.simulated) == ("gen4", 1, True)
    assert "found cpu" in (site.missing("cpu") or "")
