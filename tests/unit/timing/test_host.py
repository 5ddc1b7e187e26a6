"""Whose time it is: the host's or the device's."""

import pytest

from perwatt.timing import host


@pytest.mark.parametrize(
    ("enqueue_s", "busy_s", "found"),
    [
        (0.5, None, "device"),
        (0.95, None, "host"),
        (0.95, 0.4, "host"),  # the device waits for the host
        (0.95, 0.97, "device"),  # the host waits for room in the queue
        (0.95, 1.2, "device"),  # several streams at once
    ],
)
def test_who_is_waited_for(enqueue_s: float, busy_s: float | None, found: str) -> None:
    assert host.bound(1.0, enqueue_s, busy_s) == found
