"""What is kept of a run of the clients, so that others can repeat it: what ran on what, every check's outcome and time, and the receipt of one answer.

    metadata.json      program and model with their SHA-256, system, versions of Python and Node.js, command line, SHA-256 of the lists of packages
    transcript.ndjson  a line a check: client, outcome, its words, seconds since the start
    timings.json       seconds of each client and of all
    receipt.json       everything that decided an answer that the server gave; `worker-orcd verify FOLDER` computes it again
    README.md          how to repeat it
"""

import hashlib
import json
import platform
import subprocess
import sys
import time
from pathlib import Path

from server import call

HERE = Path(__file__).resolve().parent
SEED = 7
README = """# A run of worker-orcd's clients

`metadata.json` says what ran on what, `transcript.ndjson` what each check gave and when, `timings.json` how long each client took.

In a checkout of the commit that `metadata.json` names, this runs the same clients again:

```sh
cargo xtask clients{names}
```

`receipt.json` is the receipt of an answer that the server gave to a request with the seed {seed}. With the model's file, whose SHA-256 is in
`metadata.json`, it can be computed again and compared token by token:

```sh
worker-orcd verify FOLDER --model FILE
```
"""


def sha256(path):
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            hasher.update(part)
    return hasher.hexdigest()


def said(*command):
    """The first line that a program prints, or why there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=60).stdout.strip().partition("\n")[0]
    except OSError as error:
        return str(error)


class Proof:
    """The folder, being filled; it must be new or empty."""

    def __init__(self, folder, options, names):
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        if any(self.folder.iterdir()):
            sys.exit(f"{folder}: expected a new or an empty folder, found files in it")
        self.transcript = open(self.folder / "transcript.ndjson", "w")
        self.began = time.monotonic()
        self.timings = {}
        self.names = names
        lists = sorted([*HERE.glob("requirements*.txt"), HERE / "package-lock.json"])
        self.write("metadata.json", {
            "program": said(options.worker, "--version"), "program_sha256": sha256(options.worker),
            "model": {"file": Path(options.model).name, "sha256": sha256(options.model)},
            "system": platform.platform(), "processor": platform.machine(), "python": platform.python_version(), "node": said("node", "--version"),
            "packages": {path.name: sha256(path) for path in lists},
            "command": sys.argv, "started": int(time.time()), "clients": names, "soak_seconds": options.soak_seconds,
        })

    def write(self, name, value):
        (self.folder / name).write_text(json.dumps(value, indent=2) + "\n")

    def check(self, client, line):
        """A client printed the outcome of a check."""
        outcome, _, words = line.strip().partition(" ")
        at = round(time.monotonic() - self.began, 3)
        self.transcript.write(json.dumps({"seconds": at, "client": client, "ok": outcome == "ok", "check": words}) + "\n")
        self.transcript.flush()

    def receipt(self, url):
        """Asks the server for an answer and keeps its receipt."""
        body = {"model": "smollm2", "messages": [{"role": "user", "content": "Why is the sky blue?"}], "max_tokens": 32, "seed": SEED, "receipt": True}
        status, answer = call("POST", url + "/v1/chat/completions", body)
        if status != 200:
            raise RuntimeError(f"no answer for a receipt: {status} {answer}")
        self.write("receipt.json", answer["choices"][0]["receipt"])

    def end(self):
        self.transcript.close()
        self.write("timings.json", {"clients": self.timings, "all": round(time.monotonic() - self.began, 1)})
        names = "".join(f" {name}" for name in self.names)
        (self.folder / "README.md").write_text(README.format(names=names, seed=SEED))
