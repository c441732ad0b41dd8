"""A `worker-orcd serve` of one's own: started on a free port, asked for its health, ended.

The program and the model are named by CLIENTS_WORKER and CLIENTS_MODEL, the device by CLIENTS_DEVICE (`cpu` without it).
"""

import json
import os
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request


class Server:
    """A server that is ready when the constructor returns, and is gone after `with`."""

    def __init__(self, *options, port=0, model=None):
        device = os.environ.get("CLIENTS_DEVICE", "cpu")
        command = [os.environ["CLIENTS_WORKER"], "serve", "--device", device, "--port", str(port), "--served-model-name", "smollm2"]
        command += ["--model", model or os.environ["CLIENTS_MODEL"], *options]
        # Settings of whoever runs this must not become the server's.
        env = {name: value for name, value in os.environ.items() if not name.startswith("WORKER_ORCD")}
        self.process = subprocess.Popen(
            command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
        )
        self.log = []
        # Cleared, nobody reads the log any more.
        self.is_read = True
        self.url = None
        listening = threading.Event()
        threading.Thread(target=self._read_log, args=(listening,), daemon=True).start()
        try:
            if not listening.wait(60) or self.url is None:
                raise RuntimeError("the server does not listen:\n" + "".join(self.log))
            self._await_ready()
        except BaseException:
            self.kill()
            raise

    def _read_log(self, listening):
        for line in self.process.stderr:
            self.log.append(line)
            while not self.is_read and self.process.poll() is None:
                time.sleep(0.1)
            _, found, address = line.partition("listening on http://")
            if found:
                self.url = "http://" + address.split()[0]
                listening.set()
        listening.set()

    def _await_ready(self):
        for _ in range(1200):
            if self.process.poll() is not None:
                raise RuntimeError("the server ended:\n" + "".join(self.log))
            if self.health()[0] == 200:
                return
            time.sleep(0.05)
        raise RuntimeError("the server is not ready after a minute:\n" + "".join(self.log))

    def health(self):
        """Status and body of GET /health; status 0 where nobody answers."""
        return call("GET", self.url + "/health")

    def rss(self):
        """Resident MiB of the process."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

    def terminate(self):
        self.process.send_signal(signal.SIGTERM)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def wait(self, seconds=60):
        """The exit code."""
        return self.process.wait(seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.kill()


def call(method, url, body=None, headers=None):
    """Status and parsed body of one request."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **(headers or {})}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=120) as response:
            status, text = response.status, response.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    except OSError:
        return 0, None
    try:
        return status, json.loads(text)
    except ValueError:
        return status, text.decode()
