"""A node's controller (BMC) behind Redfish: JSON resources by HTTP, as in DMTF's DSP0266.

Certificates are verified. Redirects are not followed and proxies not used, so that the password goes to nobody else.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import urllib.error
import urllib.request
from collections.abc import Mapping
from typing import Any, NoReturn
from urllib.parse import urlsplit

from perwatt.errors import shorten
from perwatt.power.base import Lost

URL, USER, PASSWORD = "PERWATT_REDFISH_URL", "PERWATT_REDFISH_USER", "PERWATT_REDFISH_PASSWORD"
CA = "PERWATT_REDFISH_CA"
TIMEOUT_S = 5.0
MOST_BYTES = 2**20  # of a body; resources have kilobytes

Resource = Mapping[str, Any]


class Denied(Lost):
    """This user may not read it."""


class Missing(Lost):
    """There is no such resource."""


class Busy(Lost):
    """The service says that it cannot answer for now."""


class Bmc:
    """A Redfish service.

    Args:
        environment: with ``PERWATT_REDFISH_URL`` (``https://host``), ``..._USER``, ``..._PASSWORD`` and ``..._CA``, a
            file of certificates to trust.

    Raises:
        Lost: these make no address of a service. The password is in no message.
    """

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._base = _address(environment.get(URL, ""))
        self.encrypted = self._base.startswith("https:")
        self._headers = {"Accept": "application/json", "OData-Version": "4.0", **_authorization(environment)}
        self._opener = urllib.request.OpenerDirector()  # not build_opener, which adds redirects, proxies and file:
        for handler in (
            urllib.request.HTTPHandler(), urllib.request.HTTPSHandler(context=_trust(environment.get(CA, ""))),
            urllib.request.HTTPDefaultErrorHandler(), urllib.request.HTTPErrorProcessor(),
        ):  # fmt: skip
            self._opener.add_handler(handler)

    def get(self, path: str) -> Resource:
        """A resource.

        Raises:
            Lost: it is not to be had, or is not JSON.
        """
        request = urllib.request.Request(self._base + path, headers=self._headers)
        try:
            with self._opener.open(request, timeout=TIMEOUT_S) as response:
                body = response.read(MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            error.close()
            _refuse(path, error.code)
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise Lost(_why(error)) from None
        return _parsed(path, body)


def _address(url: str) -> str:
    if "@" in url:  # and so perhaps a password, which is not repeated
        raise Lost(f"{URL} holds '@': give user and password by {USER} and {PASSWORD}")
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and (parts.port or 1) and parts.path in ("", "/")
    except ValueError:
        good = False
    if not good or parts.query or parts.fragment:
        raise Lost(f"{URL}: found {shorten(url)}, expected https://host or https://host:port")
    return f"{parts.scheme}://{parts.netloc}"


def _authorization(environment: Mapping[str, str]) -> dict[str, str]:
    user, password = environment.get(USER, ""), environment.get(PASSWORD, "")
    if bool(user) != bool(password) or ":" in user:
        raise Lost(f"{USER} and {PASSWORD} belong together, and a user's name has no colon")
    token = base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return {"Authorization": f"Basic {token}"} if user else {}


def _trust(file: str) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=file or None)
    except (OSError, ValueError) as error:
        raise Lost(f"{CA}: {shorten(file)} has no certificates: {error}") from None


def _refuse(path: str, code: int) -> NoReturn:
    match code:
        case 401 | 403:
            raise Denied(f"the BMC refuses this user (HTTP {code} for {path}): look at {USER} and {PASSWORD}")
        case 404:
            raise Missing(f"the BMC has no {path}")
        case 503:
            raise Busy(f"the BMC is busy (HTTP 503 for {path})")
        case _ if 300 <= code < 400:
            raise Lost(f"the BMC sends elsewhere (HTTP {code} for {path}), which is not followed: look at {URL}")
    raise Lost(f"the BMC answers HTTP {code} for {path}")


def _why(error: Exception) -> str:
    """The cause within an error of urllib."""
    cause = getattr(error, "reason", error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"the BMC's certificate is not trusted ({cause.verify_message}): name the file of its CA by {CA}"
    if isinstance(cause, TimeoutError):
        return f"the BMC did not answer for {TIMEOUT_S:g} s"
    return f"the BMC cannot be reached: {cause or type(error).__name__}"


def _parsed(path: str, body: bytes) -> Resource:
    if len(body) > MOST_BYTES:
        raise Lost(f"the BMC's {path} is larger than {MOST_BYTES} bytes")
    try:
        resource = json.loads(body)
    except (ValueError, RecursionError):
        resource = None
    if not isinstance(resource, dict):
        raise Lost(f"the BMC's {path} is {shorten(body.decode('utf-8', 'replace'))}, expected a JSON object")
    return resource
