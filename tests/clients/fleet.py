"""Several workers and a gateway before them, as processes of one's own."""

import json
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

from server import call

DEPLOY = Path(__file__).resolve().parents[2] / "deploy" / "gateway"
# Little memory for each of several workers on one machine.
FLAGS = ["--device", "cpu", "--served-model-name", "smollm2", "--ctx", "1024"]
SLOTS = ["--slots", "4"]
MODEL = "smollm2"


def environment(**more):
    """Settings of whoever runs this must not become the workers'."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("WORKER_ORCD")}, **more}


def free_ports(n):
    """The first of n ports in a row that nobody listens on."""
    while True:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            first = probe.getsockname()[1]
        try:
            for port in range(first, first + n):
                with socket.socket() as other:
                    other.bind(("127.0.0.1", port))
            return first
        except OSError:
            continue


def wait_for(what, seconds, condition):
    """Waits until the condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, f"expected within {seconds} s: {what}"
        time.sleep(0.1)


class Process:
    """A process whose output is kept, and which is gone after `with`."""

    def __init__(self, command, env=None):
        self.log = []
        self.process = subprocess.Popen(
            command, env=env or environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
        threading.Thread(target=lambda: self.log.extend(self.process.stdout), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(40)
            except subprocess.TimeoutExpired:
                self.process.kill()


class Workers(Process):
    """Workers that deploy/gateway/workers.sh has started, all ready."""

    def __init__(self, n, flags=SLOTS):
        self.n, self.first_port = n, free_ports(n)
        env = environment(N_WORKER=str(n), FIRST_PORT=str(self.first_port), WORKER_ORCD=os.environ["CLIENTS_WORKER"])
        super().__init__([str(DEPLOY / "workers.sh"), os.environ["CLIENTS_MODEL"], *FLAGS, *flags], env)
        self.urls = [f"http://127.0.0.1:{self.first_port + i}" for i in range(n)]
        for url in self.urls:
            wait_for(f"{url} is ready", 60, lambda url=url: self.alive() and call("GET", url + "/health")[0] == 200)

    def alive(self):
        assert self.process.poll() is None, "".join(self.log[-20:])
        return True

    def pid(self, i):
        return next(int(line.split()[3].rstrip(",")) for line in self.log if line.startswith(f"worker {i}: process "))

    def count(self, name):
        """Of each worker, the sum of a metric."""
        def of(url):
            _, text = call("GET", url + "/metrics")
            return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name))

        return [of(url) for url in self.urls]


class Answer:
    """Status, headers and text of one request; status 0 where the connection broke."""

    def __init__(self, url, body, headers=None):
        request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})
        self.text = ""
        try:
            with urllib.request.urlopen(request, timeout=120) as response:
                self.status, self.headers = response.status, response.headers
                for line in response:
                    self.text += line.decode()
        except urllib.error.HTTPError as error:
            self.status, self.headers, self.text = error.code, error.headers, error.read().decode()
        except Exception as error:
            self.status, self.headers = 0, {}
            self.text += f"\n{error!r}"

    def json(self):
        return json.loads(self.text)

    def events(self):
        """The data of a stream's events."""
        return [line.removeprefix("data: ") for line in self.text.splitlines() if line.startswith("data: ")]


class Later(threading.Thread):
    """A request that is under way."""

    def __init__(self, url, body):
        super().__init__(daemon=True)
        self.url, self.body, self.answer = url, body, None
        self.start()

    def run(self):
        self.answer = Answer(self.url, self.body)

    def get(self):
        self.join(150)
        assert self.answer is not None, "the request is still under way"
        return self.answer


def chat(text, **more):
    return {"model": MODEL, "messages": [{"role": "user", "content": text}], "max_tokens": 4, "seed": 7, **more}
