"""What happens when the process is told to end, or is killed, while it answers? Servers of their own; jobs over POST /execute."""

import json
import signal
import socket
import threading
import time
from urllib.parse import urlsplit

from checks import check, run
from server import Server, call


class Stream(threading.Thread):
    """A job read to its end in the background, as raw bytes."""

    def __init__(self, server, name, max_tokens):
        super().__init__(daemon=True)
        address = urlsplit(server.url)
        self.socket = socket.create_connection((address.hostname, address.port), timeout=120)
        body = json.dumps({"job_id": name, "prompt": "Once upon a time", "max_tokens": max_tokens, "temperature": 0.0, "seed": 7})
        self.socket.sendall(
            f"POST /execute HTTP/1.1\r\nHost: {address.netloc}\r\nConnection: close\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
        self.bytes, self.first = b"", threading.Event()
        self.start()

    def run(self):
        try:
            while piece := self.socket.recv(65536):
                self.bytes += piece
                if b"event: token" in self.bytes:
                    self.first.set()
        except OSError:
            pass  # A killed server resets the connection.
        self.first.set()

    def count(self, event):
        return self.bytes.count(f"event: {event}\n".encode())


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)


@check
def sigterm_lets_twenty_streams_finish_and_refuses_new_ones():
    with Server("--slots", "20", "--drain-timeout-sec", "120") as server:
        streams = [Stream(server, f"job {i}", 60) for i in range(20)]
        for stream in streams:
            assert stream.first.wait(60)
        assert server.health()[1]["n_running"] == 20
        server.terminate()
        wait_for(lambda: server.health()[0] == 503)
        status, error = call("POST", server.url + "/execute", {"job_id": "late", "prompt": "x"})
        assert status == 503 and error["retriable"] is True, (status, error)
        for stream in streams:
            stream.join(120)
            assert (stream.count("end"), stream.count("error")) == (1, 0), stream.bytes[-300:]
        assert server.wait() == 0, server.process.returncode
        texts = {b"".join(line for line in s.bytes.split(b"\n") if line.startswith(b'data: {"t"') or b'"t":' in line) for s in streams}
        assert len(texts) == 1, "the same request gave several answers"


@check
def shutdown_over_http_ends_with_zero():
    with Server("--allow-shutdown") as server:
        stream = Stream(server, "job", 30)
        assert stream.first.wait(60)
        assert call("POST", server.url + "/shutdown")[0] == 202
        stream.join(60)
        assert stream.count("end") == 1 and server.wait() == 0


@check
def a_drain_that_takes_too_long_cuts_streams_off_with_an_error_and_ends():
    with Server("--drain-timeout-sec", "1") as server:
        stream = Stream(server, "job", 2000)
        assert stream.first.wait(60)
        server.terminate()
        stream.join(60)
        # The answer may have ended by itself in that second.
        assert stream.count("end") + stream.count("error") == 1, stream.bytes[-300:]
        assert server.wait() == 0


@check
def a_killed_server_leaves_no_half_event_and_starts_again_on_its_port():
    with Server() as server:
        stream = Stream(server, "job", 500)
        assert stream.first.wait(60)
        server.kill()
        stream.join(60)
        assert not stream.is_alive() and stream.count("end") == 0
        assert server.process.returncode == -signal.SIGKILL
        port = urlsplit(server.url).port
    with Server(port=port) as server:
        assert urlsplit(server.url).port == port
        stream = Stream(server, "job", 8)
        stream.join(60)
        assert stream.count("end") == 1, stream.bytes


@check
def an_interrupt_lets_streams_finish_too():
    with Server() as server:
        stream = Stream(server, "job", 30)
        assert stream.first.wait(60)
        server.process.send_signal(signal.SIGINT)
        stream.join(60)
        assert stream.count("end") == 1
        # Ended by a signal from the keyboard: zero, or the shell's 130.
        assert server.wait() in (0, 130), server.process.returncode


if __name__ == "__main__":
    run()
