"""Node power from a Redfish service in a thread."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from fakes import redfish as fake
from fakes.hurried import Hurried, watched
from fakes.redfish import CHASSIS, ROOT, Service, control, environment, power, rack_server
from perwatt.power import bmc
from perwatt.power.base import Lost, Target
from perwatt.power.bmc import CA, PASSWORD, URL, USER
from perwatt.power.sensors import redfish

TARGET = Target(backend="cuda", chip="any")
Serve = Callable[..., Service]
METRICS, POWER = f"{CHASSIS}/1/EnvironmentMetrics", f"{CHASSIS}/1/Power"


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Starts a service, of which the environment tells."""
    for name in (URL, USER, PASSWORD, CA, redfish.CHASSIS):
        monkeypatch.delenv(name, raising=False)
    with ExitStack() as services:

        def start(service: Service, certificate: Path | None = None) -> Service:
            services.enter_context(fake.serving(service, certificate))
            monkeypatch.setenv(URL, service.url)
            monkeypatch.setenv(USER, fake.USER)
            monkeypatch.setenv(PASSWORD, fake.PASSWORD)
            return service

        yield start


def watts() -> float | None:
    reading = redfish.SENSOR.open(TARGET).read()
    return None if reading is None else reading.values[0]


def why() -> str:
    """Why there is no sensor: the same in detection and in opening, in one line, without the password."""
    found = redfish.SENSOR.detect(TARGET)
    assert found.state != "readable"
    with pytest.raises(Lost) as error:
        redfish.SENSOR.open(TARGET)
    assert str(error.value) == f"redfish: {found.detail}"
    assert "\n" not in found.detail
    assert fake.PASSWORD not in found.detail + found.remedy
    return found.detail


def test_it_is_read_where_it_is_asked_for(serve: Serve) -> None:
    serve(rack_server(environment("1", 374.5)))
    assert redfish.SENSOR.use(TARGET) == "asked"
    assert redfish.SENSOR.detect(TARGET).detail == f"power of chassis 1 in {METRICS}"
    facts = redfish.SENSOR.open(TARGET).facts
    assert (facts.source, facts.scope, facts.quantity, facts.kind) == ("sampled", "node", "W", "samples")
    assert facts.channels == ("1",)
    assert facts.note.endswith("sent without encryption")
    assert watts() == 374.5


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((environment("1", 374), power("1", control(400))), 374),
        ((environment("1", None), power("1", control(400))), 400),
        ((power("1", control(590)),), 590),
        ((power("1", control(590, context=None)),), 590),
        ((power("1", control(80, "CPU"), control(590, "Chassis", 1), control(60, "Memory", 2)),), 590),
        ((environment("1", 0),), 0),
    ],
)  # fmt: skip
def test_where_the_power_is(serve: Serve, parts: tuple[fake.Json, ...], expected: float) -> None:
    serve(rack_server(*parts))
    assert watts() == expected


def test_metrics_without_power_leave_the_older_resource(serve: Serve) -> None:
    without = environment("1", 374)
    del without["PowerWatts"]
    serve(rack_server(without, power("1", control(400))))
    assert watts() == 400


def test_a_link_to_nothing_leaves_the_older_resource(serve: Serve) -> None:
    service = serve(rack_server(environment("1", 374), power("1", control(400))))
    del service.resources[METRICS]
    assert watts() == 400


@pytest.mark.parametrize(
    "parts",
    [
        (), (environment("1", None),), (power("1", control(None)),), (power("1"),),
        (power("1", control(80, "CPU"), control(60, "Memory", 1)),),
        (power("1", control(80, None), control(60, None, 1)),),
    ],
)  # fmt: skip
def test_a_chassis_without_a_power_of_its_own(serve: Serve, parts: tuple[fake.Json, ...]) -> None:
    serve(rack_server(*parts))
    assert why().startswith("chassis 1 tells no power")


def test_the_chassis_that_holds_the_system_is_the_node(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(page=2)
    for gpu in range(4):
        service.add(f"GPU_{gpu}", environment(f"GPU_{gpu}", 300), within="Server")
    service.add("Server", environment("Server", 2400), systems=1, within="Rack")
    service.add("Board", environment("Board", 1300), systems=1, within="Server")
    service.add("Rack", environment("Rack", 9000))
    serve(service)
    assert watts() == 2400
    monkeypatch.setenv(redfish.CHASSIS, "Board")
    assert watts() == 1300
    monkeypatch.setenv(redfish.CHASSIS, "Bord")
    assert why().startswith("PERWATT_REDFISH_CHASSIS: found 'Bord', expected one of GPU_0, ")


def test_which_chassis_is_the_node_is_not_guessed(serve: Serve) -> None:
    service = serve(rack_server(environment("1", 374)))
    service.add("2", environment("2", 300), systems=1)
    assert why() == "which chassis is the node is not clear: name one of 1, 2 by PERWATT_REDFISH_CHASSIS"


def test_an_enclosure_of_nodes_is_no_node(serve: Serve) -> None:
    service = Service()
    service.add("Enclosure", environment("Enclosure", 5000), systems=4)
    service.add("Blade", environment("Blade", 1200), systems=1, within="Enclosure")
    serve(service)
    assert why() == "chassis Enclosure holds 4 systems: name one by PERWATT_REDFISH_CHASSIS"


def test_pages_that_lead_back_end(serve: Serve) -> None:
    service = serve(rack_server(environment("1", 374)))
    service.resources[CHASSIS]["Members@odata.nextLink"] = CHASSIS
    assert "more than 200 chassis" in why()


@pytest.mark.parametrize("path", ["//127.0.0.2/steal", "http://127.0.0.2/steal", "/a b", "/a\r\nHost: b", 7, None])
def test_links_to_other_hosts_are_none(serve: Serve, path: object) -> None:
    service = serve(rack_server(environment("1", 374)))
    service.resources[f"{CHASSIS}/1"]["EnvironmentMetrics"] = {"@odata.id": path}
    assert why() == "chassis 1 tells no power"


BODIES = [b"", b"not JSON", b"[]", b"null", b"<html>" * 100, b"[" * 100_000, b'{"a": "' + b"a" * 2**20 + b'"}']


@pytest.mark.parametrize("body", BODIES, ids=range(len(BODIES)))
def test_bodies_that_are_no_resources(serve: Serve, body: bytes) -> None:
    service = serve(rack_server(environment("1", 374)))
    probe = redfish.SENSOR.open(TARGET)
    service.faults[METRICS] = body
    with pytest.raises(Lost, match="redfish: the BMC's /redfish/v1/Chassis/1/EnvironmentMetrics is ") as error:
        probe.read()
    assert len(str(error.value)) < 200
    assert why()


def test_a_body_without_end_is_cut_off(serve: Serve) -> None:
    service = serve(rack_server(environment("1", 374)))
    service.faults[METRICS] = b" " * 2**21 + b"{}"
    assert why() == f"the BMC's {METRICS} is larger than 1048576 bytes"


@pytest.mark.parametrize("value", ["374", True, -5, -0.1, 10**400, {}, [], float("nan"), float("inf")])
def test_values_that_are_no_watts(serve: Serve, value: object) -> None:
    service = serve(rack_server(environment("1", 374)))
    probe = redfish.SENSOR.open(TARGET)
    service.resources[METRICS]["PowerWatts"]["Reading"] = value
    trace = watched(probe, Hurried(end=5.0))
    assert trace.readings == []
    assert trace.lost.startswith("redfish: PowerWatts.Reading: found ")
    assert "expected watts" in why()


@pytest.mark.parametrize("member", ["PowerWatts", "Reading"])
def test_a_member_that_goes_midway_ends_the_trace(serve: Serve, member: str) -> None:
    service = serve(rack_server(environment("1", 374)))
    probe = redfish.SENSOR.open(TARGET)
    holder = service.resources[METRICS]
    del (holder if member == "PowerWatts" else holder["PowerWatts"])[member]
    with pytest.raises(Lost, match=r"redfish: PowerWatts\.Reading is missing"):
        probe.read()


def test_null_and_a_busy_service_are_gaps(serve: Serve) -> None:
    service = serve(rack_server(environment("1", 374)))
    probe = redfish.SENSOR.open(TARGET)
    service.resources[METRICS]["PowerWatts"]["Reading"] = None
    assert probe.read() is None
    service.resources[METRICS]["PowerWatts"]["Reading"] = 380
    service.faults[METRICS] = 503
    assert probe.read() is None
    del service.faults[METRICS]
    reading = probe.read()
    assert reading is not None
    assert reading.values == (380.0,)


def test_a_user_who_may_not(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    service = serve(rack_server(environment("1", 374)))
    probe = redfish.SENSOR.open(TARGET)
    service.faults[METRICS] = 403
    with pytest.raises(Lost, match=r"refuses this user \(HTTP 403"):
        probe.read()
    service.faults.clear()
    monkeypatch.setenv(PASSWORD, "guess")
    assert "HTTP 401" in why()
    assert redfish.SENSOR.detect(TARGET).state == "denied"


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_redirects_are_not_followed(serve: Serve, status: int) -> None:
    service = serve(rack_server(environment("1", 374)))
    service.faults[CHASSIS] = status
    assert f"sends elsewhere (HTTP {status}" in why()
    assert "/elsewhere" not in service.asked


def test_a_proxy_gets_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    serve(rack_server(environment("1", 374)))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert watts() == 374


def test_a_service_that_fails(serve: Serve) -> None:
    service = serve(rack_server(environment("1", 374)))
    service.faults[ROOT] = 500
    assert why() == "the BMC answers HTTP 500 for /redfish/v1/"


def test_a_service_that_is_silent(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bmc, "TIMEOUT_S", 0.2)
    service = serve(rack_server(environment("1", 374)))
    probe = redfish.SENSOR.open(TARGET)
    service.faults[METRICS] = 1.0
    trace = watched(probe, Hurried(end=5.0))
    assert trace.lost == "redfish: the BMC did not answer for 0.2 s"


def test_a_service_that_is_gone(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    service = rack_server(environment("1", 374))
    with fake.serving(service):
        pass
    serve(rack_server())
    monkeypatch.setenv(URL, service.url)
    assert "cannot be reached" in why()


def test_a_trace(serve: Serve) -> None:
    serve(rack_server(environment("1", 374)))
    trace = watched(redfish.SENSOR.open(TARGET), Hurried(end=20.0))
    assert trace.lost == ""
    assert len(trace.times) >= 20
    assert {reading.values for reading in trace.readings} == {(374.0,)}


@pytest.mark.parametrize(
    "url",
    [
        "ftp://bmc", "file:///etc/passwd", "bmc", "https://", "https://bmc/redfish/v1", "https://bmc?a=b",
        "https://bmc:99999", "//bmc", "https://[::1",
    ],
)  # fmt: skip
def test_addresses_that_are_none(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(URL, url)
    assert why().endswith("expected https://host or https://host:port")


@pytest.mark.parametrize("url", ["https://root:correct horse:battery@bmc", "root:correct horse:battery@bmc"])
def test_a_password_in_the_address_is_not_repeated(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv(URL, url)
    assert "give user and password by PERWATT_REDFISH_USER" in why()


@pytest.mark.parametrize(("user", "password"), [("a", ""), ("", "a"), ("a:b", "c")])
def test_half_a_login(serve: Serve, monkeypatch: pytest.MonkeyPatch, user: str, password: str) -> None:
    serve(rack_server(environment("1", 374)))
    monkeypatch.setenv(USER, user)
    monkeypatch.setenv(PASSWORD, password)
    assert "belong together" in why()


def test_without_an_address_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(URL, raising=False)
    found = redfish.SENSOR.detect(TARGET)
    assert (found.state, found.detail) == ("absent", "no BMC is named")
    assert URL in found.remedy


@pytest.mark.skipif(shutil.which("openssl") is None, reason="no openssl to make a certificate with")
def test_certificates_are_verified(serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    serve(rack_server(environment("1", 374)), fake.certify(tmp_path))
    assert "certificate is not trusted (self-signed" in why().replace("self signed", "self-signed")
    monkeypatch.setenv(CA, str(tmp_path / "certificate.pem"))
    assert watts() == 374
    assert "encryption" not in redfish.SENSOR.open(TARGET).facts.note
    monkeypatch.setenv(CA, str(tmp_path / "key.pem"))
    assert "has no certificates" in why()
    monkeypatch.setenv(CA, str(tmp_path / "nowhere.pem"))
    assert "has no certificates" in why()
