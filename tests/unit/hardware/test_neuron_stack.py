"""The Neuron stack of a machine: what is found, and every way in which it cannot be measured on, each with a remedy."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from fakes.neuron_driver import TRN1, TRN2, TRN3, Model, NeuronDriver
from perwatt.backends.neuron import Neuron
from perwatt.hardware import neuron_stack, neuron_tools
from perwatt.hardware.neuron_software import Product, Software
from perwatt.hardware.neuron_stack import Stack

NATIVE = Software(
    product=Product.NATIVE, reason="", evidence="", torch="2.14.0", release="2.14.3.0.1", torch_xla=None,
    neuronx_cc="2.28.7631.0", nki="0.7.0",
)  # fmt: skip


class Tools:
    """The command-line tools of a machine with chips at LNC 2, in the words of their guides; ``None`` is no tool."""

    def __init__(self, model: Model = TRN2, chips: int = 1, lnc: int = 2, **said: Any) -> None:
        self.asked: list[str] = []
        self.listed: list[dict[str, Any]] | None = [
            {
                "neuron_device": number, "bdf": f"00:{number:02x}.0", "cpu_affinity": "0-5", "numa_node": "0",
                "connected_to": None, "nc_count": model.cores // lnc, "logical_neuroncore_config": lnc,
                "memory_size": 103079215104, "neuron_processes": [],
                "neuroncore_ids": list(range(number * model.cores // lnc, (number + 1) * model.cores // lnc)),
            }
            for number in range(chips)
        ]  # fmt: skip
        self.modinfo: str | None = "2.31.7.0"
        self.dpkg: str | None = "2.35.30.0-7a9c8c1f2"
        vars(self).update(said)

    def __call__(self, command: Sequence[str]) -> str | None:
        self.asked.append(command[0])
        answers = {
            "neuron-ls": None if self.listed is None else json.dumps(self.listed),
            "modinfo": self.modinfo,
            "dpkg-query": self.dpkg,
            "rpm": None,
        }
        return answers[command[0]]


def stack(
    root: Path, tools: Tools | None = None, software: Software = NATIVE, model: Model = TRN2, chips: int = 1,
    version: str = "2.31.7.0", **variables: str,
) -> Stack:  # fmt: skip
    NeuronDriver(root, lambda chip, die, now: 0.0, model=model, chips=chips, version=version)
    return neuron_stack.look(variables, root, tools or Tools(model, chips), lambda: software)


def test_a_machine_without_the_driver_says_so_and_no_tool_is_asked(tmp_path: Path):
    tools = Tools()
    found = neuron_stack.look({}, tmp_path, tools, lambda: NATIVE)
    assert found.missing() == "no Neuron driver: on a Trn2 or Trn3 instance, sudo apt-get install aws-neuronx-dkms"
    assert tools.asked == []


def test_a_driver_without_a_chip_is_told_from_none(tmp_path: Path):
    (tmp_path / "sys/module/neuron").mkdir(parents=True)
    (tmp_path / "sys/module/neuron/version").write_text("2.31.7.0\n")
    found = neuron_stack.look({}, tmp_path, Tools(), lambda: NATIVE)
    assert (found.missing() or "").startswith("the Neuron driver 2.31.7.0 is loaded and shows no chip")


@pytest.mark.parametrize("version", ["2.24.7.0", "2.30.2.0", "2.31.7.0"])
@pytest.mark.parametrize(("model", "name"), [(TRN2, "trainium2"), (TRN3, "trainium3")])
def test_a_whole_machine(tmp_path: Path, model: Model, name: str, version: str):
    found = stack(tmp_path, Tools(model, 2, modinfo=version), model=model, chips=2, version=version)
    assert found.missing() is None
    assert found.mistake() is None
    assert found.sheet is not None
    assert found.sheet.name == name
    assert (found.lnc, found.devices_per_chip, len(found.devices)) == (2, 4, 8)
    assert (found.driver, found.driver_file, found.runtime) == (version, version, "2.35.30.0")
    assert found.memory_bytes == 103079215104 / 4
    assert found.instance_type == model.instance


def test_the_name_of_the_instance_comes_from_newer_tools(tmp_path: Path):
    tools = Tools()
    assert tools.listed is not None
    tools.listed[0]["instance_type"] = "trn2.3xlarge"
    assert stack(tmp_path, tools).instance_type == "trn2.3xlarge"


@pytest.mark.parametrize("listed", [None, "words", [{"neuron_device": 0}], [{"neuron_device": "x", "nc_count": 4}]])
def test_without_neuron_ls_the_chips_default_counts(tmp_path: Path, listed: Any):
    found = stack(tmp_path, Tools(listed=listed))
    assert (found.listed, found.lnc, found.devices_per_chip) == (None, 2, 4)
    assert found.memory_bytes == 96 * 2**30 / 4
    assert found.missing() is None
    assert found.owners([0]) is None


def test_a_driver_that_calls_its_chips_nothing_is_known_by_the_instance(tmp_path: Path):
    stack(tmp_path)
    for path in tmp_path.rglob("device_name"):
        path.unlink()
    found = neuron_stack.look({}, tmp_path, Tools(), lambda: NATIVE)
    assert (found.device_name, found.missing()) == ("Trainium2", None)
    for path in tmp_path.rglob("instance_type"):
        path.unlink()
    found = neuron_stack.look({}, tmp_path, Tools(), lambda: NATIVE)
    assert found.device_name is None
    assert "do not tell one device_name" in (found.missing() or "")


def test_an_older_neuron_ls_counts_physical_cores_and_does_not_say_so(tmp_path: Path):
    tools = Tools(lnc=1, chips=2)
    assert tools.listed is not None
    for chip in tools.listed:
        del chip["logical_neuroncore_config"]
    found = stack(tmp_path, tools, chips=2)
    assert (found.mistake(), found.lnc, found.devices_per_chip) == (None, 2, 4)
    assert [found.chip_of(core) for core in (3, 4)] == list(found.chips)


def test_lnc_1_makes_eight_devices_of_a_chip(tmp_path: Path):
    found = stack(tmp_path, Tools(lnc=1), NEURON_LOGICAL_NC_CONFIG="1")
    assert (found.lnc, found.devices_per_chip, found.physical(3)) == (1, 8, (3,))


def test_a_logical_core_is_found_on_its_chip(tmp_path: Path):
    found = stack(tmp_path, chips=2)
    chip = found.chip_of(6)
    assert chip is not None
    assert (chip.number, found.physical(6)) == (1, (4, 5))
    assert found.chip_of(99) is None


MISSING = {
    "trainium1": ({"model": TRN1}, "Trainium1 runs the XLA product", "use a Trn2 or Trn3 instance"),
    "inferentia": (
        {"model": Model(device_name="Inferentia2", arch="NDv3", core_arch="NCv2", instance="Inf2", cores=2, dies=1)},
        "Inferentia2 is no chip", "use a Trn2",
    ),
    "unheard of": (
        {"model": Model(device_name="Trainium9", arch="NDv9", core_arch="NCv9", instance="Trn9", cores=8, dies=2)},
        "Trainium9 is no chip", "use a Trn2",
    ),
    "driver not loaded anew": (
        {"tools": Tools(modinfo="2.31.7.0"), "version": "2.30.2.0"},
        "driver 2.31.7.0 is on the disk and 2.30.2.0 is loaded", "modprobe",
    ),
    "runtime too old": (
        {"tools": Tools(dpkg="2.31.24.0-abc")},
        "driver 2.31.7.0 needs a runtime of 2.33 or later, found 2.31.24.0", "apt-get",
    ),
    "software": (
        {"software": Software(product=Product.XLA, reason="it is the XLA product: install", evidence="", torch=None,
                              release=None, torch_xla=None, neuronx_cc=None, nki=None)},
        "it is the XLA product", "install",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
def test_what_cannot_be_measured_on_is_refused_with_a_remedy(tmp_path: Path, name: str):
    options, reason, remedy = MISSING[name]
    said = stack(tmp_path, **options).missing() or ""  # type: ignore[arg-type]
    assert said.startswith(reason)
    assert remedy in said
    assert "\n" not in said


@pytest.mark.parametrize(("driver", "runtime"), [("2.28.0.0", "2.31.24.0"), ("2.29.1.0", "2.33.2.0")])
def test_a_driver_and_a_runtime_that_fit(tmp_path: Path, driver: str, runtime: str):
    assert stack(tmp_path, Tools(modinfo=driver, dpkg=runtime), version=driver).missing() is None


def test_versions_that_nobody_tells_are_no_reason(tmp_path: Path):
    found = stack(tmp_path, Tools(modinfo=None, dpkg=None))
    assert (found.driver_file, found.runtime, found.missing()) == (None, None, None)


def test_the_runtime_is_also_known_by_a_process_on_it(tmp_path: Path):
    tools = Tools(dpkg=None)
    assert tools.listed is not None
    tools.listed[0]["neuron_processes"] = [{"pid": 7, "command": "secret", "neuron_runtime_version": "2.34.10"}]
    assert stack(tmp_path, tools).runtime == "2.34.10"


MISTAKES = {
    "two settings": ({"NEURON_LOGICAL_NC_CONFIG": "1", "NEURON_RT_VIRTUAL_CORE_SIZE": "2"}, "one value"),
    "compiler": ({"NEURON_LOGICAL_NC_CONFIG": "2", "NEURON_CC_FLAGS": "--lnc=1 -O1"}, "one value"),
    "compiler's short flag": ({"NEURON_LOGICAL_NC_CONFIG": "2", "NEURON_CC_FLAGS": "-lnc 1"}, "one value"),
    "no LNC": ({"NEURON_LOGICAL_NC_CONFIG": "4"}, "expected 1 or 2"),
    "other than the machine": ({"NEURON_LOGICAL_NC_CONFIG": "1"}, "expected 2 as neuron-ls says"),
    "core beyond": ({"NEURON_RT_VISIBLE_CORES": "2-4"}, "found core 4, expected 0 to 3"),
    "no core": ({"NEURON_RT_VISIBLE_CORES": "first"}, "expected cores such as 0, 0-3"),
    "core twice": ({"NEURON_RT_VISIBLE_CORES": "0-1,1"}, "each core once"),
    "stubs": ({"NEURON_EXTRACT_GRAPHS_ONLY": "1"}, "stubs that give zeros"),
    "profile": ({"NEURON_RT_INSPECT_ENABLE": "1"}, "profile"),
    "blocking": ({"NEURON_LAUNCH_BLOCKING": "1"}, "waits"),
    "rounding": ({"NEURON_RT_STOCHASTIC_ROUNDING_EN": "yes"}, "expected 0 or 1"),
    "quote": ({"NEURON_CC_FLAGS": "--auto-cast='none"}, "flags of neuronx-cc"),
    "count": ({"NEURON_RT_NUM_CORES": "many"}, "a number of cores"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_settings_that_cannot_hold_are_the_users_mistake(tmp_path: Path, name: str):
    variables, reason = MISTAKES[name]
    found = stack(tmp_path, **variables)
    mistake = found.mistake()
    assert mistake is not None
    assert reason in str(mistake)
    assert str(mistake).startswith("NEURON_")
    assert found.missing() is None


def test_settings_that_hold(tmp_path: Path):
    found = stack(
        tmp_path, NEURON_LOGICAL_NC_CONFIG="2", NEURON_RT_VIRTUAL_CORE_SIZE="2", NEURON_CC_FLAGS="--lnc 2 -O1",
        NEURON_RT_VISIBLE_CORES="3,0-1", NEURON_RT_INSPECT_ENABLE="0", NEURON_EXTRACT_GRAPHS_ONLY="",
    )  # fmt: skip
    assert found.mistake() is None
    assert found.devices == (3, 0, 1)


def test_a_number_of_cores_takes_the_first(tmp_path: Path):
    assert stack(tmp_path, NEURON_RT_NUM_CORES="2").devices == (0, 1)


def test_cores_of_another_process_are_refused_on_its_chip_alone(tmp_path: Path):
    tools = Tools(chips=2)
    assert tools.listed is not None
    tools.listed[1]["neuron_processes"] = [
        {"pid": 4242, "command": "python secret.py", "neuron_runtime_version": "2.35"}
    ]
    found = stack(tmp_path, tools, chips=2)
    said = found.owners([4]) or ""
    assert "pid 4242 on neuron1" in said
    assert "--shared" in said
    assert "secret" not in said
    assert found.owners([0, 3]) is None


def test_a_tool_that_hangs_or_fails_says_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(neuron_tools, "LIMIT_S", 0.2)
    assert neuron_tools.run(("sleep", "5")) is None
    assert neuron_tools.run(("false",)) is None
    assert neuron_tools.run(("no-such-tool-anywhere",)) is None
    assert neuron_tools.run(("printf", "2.31.7.0\n")) == "2.31.7.0"


@pytest.mark.parametrize(("version", "late"), [("2.30.1.0", True), ("2.30.2.0", False)])
def test_old_drivers_are_looked_at_once_more_when_the_process_has_ended(tmp_path: Path, version: str, late: bool):
    driver = NeuronDriver(tmp_path, lambda chip, die, now: 0.0, version=version)
    there = neuron_stack.look({}, tmp_path, Tools(), lambda: NATIVE)
    driver.count(0, 2, "timeout", 4)
    came = Neuron(1, there).reckoning()
    assert (came is not None) is late
    driver.count(0, 2, "timeout", 1)
    driver.count(0, 3, "hw_error", 2)
    driver.count(0, 4, "hw_error", 9)
    if came is not None:
        assert came() == 3
