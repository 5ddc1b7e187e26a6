from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from perwatt.runner.channel import Channel


@pytest.fixture
def pair():
    (a_in, b_out), (b_in, a_out) = os.pipe(), os.pipe()
    ends = Channel(a_in, a_out), Channel(b_in, b_out)
    yield ends
    for end in ends:
        end.close()


def test_messages_arrive_whole_and_in_order(pair):
    ours, theirs = pair
    ours.send({"n": 1})
    ours.send({"n": 2, "text": "Kernel ✓\n"})
    assert [theirs.receive(), theirs.receive()] == [{"n": 1}, {"n": 2, "text": "Kernel ✓\n"}]


def test_message_larger_than_a_pipe(pair):
    ours, theirs = pair
    samples = [float(i) for i in range(200_000)]
    sender = threading.Thread(target=ours.send, args=({"samples": samples},))
    sender.start()
    assert theirs.receive(time.monotonic() + 10) == {"samples": samples}
    sender.join()


def test_nan_is_refused_by_the_sender(pair):
    with pytest.raises(ValueError, match="JSON compliant"):
        pair[0].send({"x": float("nan")})


def test_deadline(pair):
    with pytest.raises(TimeoutError):
        pair[0].receive(time.monotonic() + 0.01)


def test_deadline_counts_even_while_messages_come(pair):
    pair[1].send({})
    with pytest.raises(TimeoutError):
        pair[0].receive(time.monotonic() - 1)


def test_end_of_the_other_side(pair):
    pair[1].close()
    with pytest.raises(EOFError):
        pair[0].receive()
    with pytest.raises(BrokenPipeError):
        pair[0].send({})


def test_a_grandchild_that_holds_the_pipe_does_not_hide_the_end():
    ours_in, theirs_out = os.pipe()
    theirs_in, ours_out = os.pipe()
    code = f"""import os, time; os.write({theirs_out}, b'{{"n":1}}\\n'); os.fork() or time.sleep(20)"""
    process = subprocess.Popen([sys.executable, "-c", code], pass_fds=(theirs_out,), start_new_session=True)
    os.close(theirs_out)
    channel = Channel(ours_in, ours_out, os.pidfd_open(process.pid))
    try:
        assert channel.receive(time.monotonic() + 10) == {"n": 1}
        with pytest.raises(EOFError):
            channel.receive(time.monotonic() + 10)
    finally:
        os.killpg(process.pid, 9)
        process.wait()
        channel.close()
        os.close(theirs_in)
