"""A Redfish service in a thread: a rack server by DMTF's schemas (DSP0268), with faults.

Resources have what their schemas require (``@odata.id``, ``@odata.type``, ``Id``, ``Name``) and what power needs. As in
DSP0266: the service root is for everybody, all else for a user with Basic authentication; errors have a body of JSON.
"""

from __future__ import annotations

import base64
import json
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

USER, PASSWORD = "reader", "correct horse:battery"
ROOT, CHASSIS = "/redfish/v1/", "/redfish/v1/Chassis"
Json = dict[str, Any]


def resource(path: str, kind: str, **members: Any) -> Json:
    """A resource with what every schema requires."""
    name = path.rstrip("/").rpartition("/")[2]
    return {"@odata.id": path, "@odata.type": f"#{kind}", "Id": name, "Name": name, **members}


def link(path: str) -> Json:
    """A reference (DSP0266, link properties)."""
    return {"@odata.id": path}


def environment(chassis: str, reading: Any) -> Json:
    """EnvironmentMetrics: ``PowerWatts`` is an excerpt of a sensor; ``Reading`` is a number or null."""
    excerpt = {"DataSourceUri": f"{CHASSIS}/{chassis}/Sensors/TotalPower", "Reading": reading}
    path = f"{CHASSIS}/{chassis}/EnvironmentMetrics"
    return resource(path, "EnvironmentMetrics.v1_3_1.EnvironmentMetrics", PowerWatts=excerpt)


def control(watts: Any, context: str | None = "Chassis", number: int = 0) -> Json:
    """A member of ``PowerControl`` (Power): ``PowerConsumedWatts`` is a number or null."""
    one = {"MemberId": str(number), "Name": "Power Control", "PowerConsumedWatts": watts}
    return one if context is None else {**one, "PhysicalContext": context}


def power(chassis: str, *controls: Json) -> Json:
    """Power, deprecated since 2020 and still the most common."""
    return resource(f"{CHASSIS}/{chassis}/Power", "Power.v1_7_1.Power", PowerControl=list(controls))


@dataclass
class Service:
    """What the service has.

    Attributes:
        resources: bodies by path.
        faults: status codes, raw bodies, or seconds of silence, by path.
        asked: paths of requests that were answered, in order.
        page: members of a collection in one answer.
    """

    resources: dict[str, Json] = field(default_factory=dict)
    faults: dict[str, int | bytes | float] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    page: int = 1000
    url: str = ""

    def __post_init__(self) -> None:
        self.resources[ROOT] = resource(ROOT, "ServiceRoot.v1_15_0.ServiceRoot", Chassis=link(CHASSIS))
        self.collect()

    def add(self, name: str, *parts: Json, systems: int = 0, within: str = "") -> None:
        """A chassis, with its metrics."""
        links: Json = {"ComputerSystems": [link(f"/redfish/v1/Systems/{name}-{n}") for n in range(systems)]}
        if within:
            links["ContainedBy"] = link(f"{CHASSIS}/{within}")
        path = f"{CHASSIS}/{name}"
        members = {part["@odata.id"].rpartition("/")[2]: link(part["@odata.id"]) for part in parts}
        self.resources[path] = resource(
            path, "Chassis.v1_21_0.Chassis", ChassisType="RackMount", Links=links, **members
        )
        self.resources.update({part["@odata.id"]: part for part in parts})
        self.collect()

    def collect(self) -> None:
        """The collection of chassis, in pages (DSP0266, ``@odata.nextLink``)."""
        members = [link(path) for path in self.resources if path.startswith(CHASSIS + "/") and path.count("/") == 4]
        for at in range(0, max(1, len(members)), self.page):
            path = CHASSIS if at == 0 else f"{CHASSIS}?$skip={at}"
            body = {"@odata.id": CHASSIS, "@odata.type": "#ChassisCollection.ChassisCollection", "Name": "Chassis"}
            body["Members"], body["Members@odata.count"] = members[at : at + self.page], len(members)
            if at + self.page < len(members):
                body["Members@odata.nextLink"] = f"{CHASSIS}?$skip={at + self.page}"
            self.resources[path] = body

    def answer(self, path: str, authorization: str | None) -> tuple[int, bytes]:
        """Status and body."""
        fault = self.faults.get(path)
        if isinstance(fault, float):
            time.sleep(fault)
        good = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if path != ROOT and authorization != good:
            return 401, self.error("NoValidSession")
        if isinstance(fault, bytes):
            return 200, fault
        if isinstance(fault, int):
            return fault, self.error("GeneralError")
        self.asked.append(path)
        found = self.resources.get(path)
        return (404, self.error("ResourceMissingAtURI")) if found is None else (200, json.dumps(found).encode())

    @staticmethod
    def error(name: str) -> bytes:
        """Error response (DSP0266)."""
        return json.dumps({"error": {"code": f"Base.1.16.{name}", "message": "See ExtendedInfo."}}).encode()


def rack_server(*parts: Json) -> Service:
    """A server of one chassis, with these metrics."""
    service = Service()
    service.add("1", *parts, systems=1)
    return service


@contextmanager
def serving(service: Service, certificate: Path | None = None) -> Iterator[Service]:
    """The service at an address of this machine; encrypted with a certificate and its key in one file."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            status, body = service.answer(self.path, self.headers.get("Authorization"))
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", service.url + "/elsewhere")
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: Any) -> None:
            """A client that hangs up, or that does not trust us, is no error of ours."""

    server = Server(("127.0.0.1", 0), Handler)
    if certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    service.url = f"http{'s' if certificate else ''}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certify(folder: Path) -> Path:
    """A file with a new key and its own certificate for 127.0.0.1, as a BMC comes with."""
    key, certificate, both = folder / "key.pem", folder / "certificate.pem", folder / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=bmc",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    both.write_text(key.read_text() + certificate.read_text())
    return both
