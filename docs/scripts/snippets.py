"""Are the shell blocks of the documents true? Checks each command of README.md, CONTRIBUTING.md and the book, and runs those of the worker.

    python3 docs/scripts/snippets.py target/debug/worker-orcd

Looked up in every block (```sh, ```bash, ```console):

- worker-orcd, within texts as well: the subcommand, every flag and whether it takes a value, from the subcommand's --help
- cargo xtask: the chore, from xtask's list
- curl: method and path, from the OpenAPI document of a server
- paths of this repository (docs/, deploy/, .ci/): whether they are there

Then each line with worker-orcd or curl runs in a folder with small files under the names that the documents use. A model is SmolLM2 of the
fixtures, so without fixtures nothing runs and a warning says so. The worker that a line calls is this script, which first makes the command
cheap: fewer tokens, one repetition, the CPU, another port (CHEAP). What needs a download is looked up and not run. A block whose info string
has the word `ignore` is left out. Ends with 1 if a line fails, and names it.
"""

import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FIXTURES = Path(os.environ.get("WORKER_ORCD_FIXTURES", ROOT / "fixtures"))
ADDRESS = "http://127.0.0.1:8080"
LIMIT = 60

# Values that flags get, by subcommand, in place of a line's own.
CHEAP = {
    "run": {"--device": "cpu", "--max-tokens": "3", "--ctx": "512"},
    "serve": {"--device": "cpu", "--port": "PORT", "--slots": "2", "--ctx": "1024", "--max-tokens-out": "4"},
    "verify": {"--device": "cpu"},
    "embed": {"--device": "cpu", "--ctx": "64"},
    "bench": {"--device": "cpu", "--prompt": "8", "--gen": "2", "--reps": "1", "--batch": "1", "--depth": "0", "--roofline": "10"},
    "bench serve": {"--clients": "1", "--requests": "2", "--tokens": "2", "--words": "4"},
    "eval perplexity": {"--device": "cpu", "--ctx": "16", "--chunks": "1"},
    "eval save": {"--device": "cpu", "--ctx": "16", "--chunks": "1"},
    "eval divergence": {"--device": "cpu", "--ctx": "16", "--chunks": "1"},
    "eval reproducibility": {"--device": "cpu", "--requests": "2", "--tokens": "2", "--prompts": "short.txt"},
    "eval all": {"--device": "cpu", "--ctx": "48", "--chunks": "1", "--requests": "2", "--tokens": "2", "--prompts": "short.txt"},
    "eval logits": {"--device": "cpu"},
}
# The same for flags that a line has.
IN_PLACE = {
    "inspect": {"--device": "cpu"},
    "bench": {"--shape": "smollm2-135m:q4_1"},
    "bench serve": {"--rate": "50", "--vs": ADDRESS},
}


# The name of a model on a hub: a reference, or a short name such as qwen3:0.6b.
ON_A_HUB = re.compile(r"\bhf:|\b[\w.-]+:[\d.]+[bm]\b")

# What the documents say.


def blocks(path):
    """(line number, commands) of each shell block: lines that end with a backslash are joined, comments dropped."""
    lines = iter(enumerate(path.read_text(encoding="utf-8").splitlines(), 1))
    for _, line in lines:
        if not (fence := re.match(r"\s*(```+)\s*(\S*)", line)):
            continue
        words = fence[2].split(",")
        inside = []
        for number, text in lines:
            if text.strip() == fence[1]:
                break
            inside.append((number, text))
        if words[0] in ("sh", "bash", "console") and "ignore" not in words:
            yield from joined(inside)


def joined(lines):
    """(line number, command) of lines that may go on."""
    start, command = None, ""
    for number, text in lines:
        start = start or number
        command += text.strip().removeprefix("$ ")
        if command.endswith("\\"):
            command = command[:-1] + " "
            continue
        if command and not command.startswith("#"):
            yield start, command
        start, command = None, ""


def mentions(path):
    """(line number, command) of each `worker-orcd ...` within a text; where the command is a placeholder there is nothing to look up."""
    fence = False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        fence ^= line.lstrip().startswith("```")
        if not fence:
            commands = re.findall(r"`(worker-orcd [^`]+)`", line)
            yield from ((number, command) for command in commands if " COMMAND" not in command)


def simple(command):
    """The words of each simple command of a pipeline or list."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    words = []
    for word in lexer:
        if set(word) <= set("|&;()<>"):
            # What follows a redirection is taken for a command, which no rule here is about.
            yield words
            words = []
        else:
            words.append(word)
    yield words


# What the programs have.


class Worker:
    """What --help says of the binary's subcommands, each asked once."""

    def __init__(self, binary):
        self.binary, self.known = str(binary), {}

    def help(self, words):
        key = " ".join(words)
        if key not in self.known:
            out = subprocess.run([self.binary, *words, "--help"], capture_output=True, text=True, timeout=LIMIT, check=True).stdout
            flags = {}
            for short, long, value in re.findall(r"^ {2,6}(?:(-\w), |    )(--[\w-]+)(?:\.\.\.)?( <.*>)?$", out, re.M):
                flags[long] = flags[short] = (long, bool(value))
            commands = re.search(r"^Commands:\n((?: .*\n)+)", out, re.M)
            names = re.findall(r"^  ([\w-]+)", commands[1], re.M) if commands else []
            operands = re.search(r"^Usage: (.*)", out, re.M)[1]
            operands = re.sub(r"--?[\w-]+ <[^>]*>|\[OPTIONS\]|\[?<?COMMAND>?\]?", "", operands)
            self.known[key] = flags, names, "<" in operands or "[" in operands
        return self.known[key]

    def subcommand(self, words):
        """The subcommand that the words begin with, and the words after it; ValueError where there is none."""
        path = []
        while True:
            _, names, has_operands = self.help(path)
            rest = words[len(path):]
            if not names or not rest or (rest[0].startswith("-") and path):
                return path, rest
            if rest[0] not in names:
                if not path and rest[0].startswith("-"):
                    return (["serve"], rest) if "--model" in rest else (path, rest)
                if has_operands:
                    return path, rest
                raise ValueError(f"worker-orcd {' '.join(path)} has no subcommand {rest[0]}")
            path.append(rest[0])

    def parse(self, words):
        """The subcommand, and [flag as --long or None for an operand, value] of each argument; ValueError says what is wrong."""
        path, rest = self.subcommand(words)
        flags, _, operands = self.help(path)
        arguments, rest = [], list(rest)
        while rest:
            word = rest.pop(0)
            if not word.startswith("-") or word == "-":
                if not operands:
                    raise ValueError(f"worker-orcd {' '.join(path)} takes no operand, found {word}")
                arguments.append([None, word])
                continue
            name, equals, value = word.partition("=")
            if name not in flags:
                raise ValueError(f"worker-orcd {' '.join(path)} has no flag {name}")
            name, valued = flags[name]
            if not valued and equals:
                raise ValueError(f"{name} of worker-orcd {' '.join(path)} takes no value")
            if valued and not equals:
                if not rest:
                    raise ValueError(f"{name} of worker-orcd {' '.join(path)} lacks its value")
                value = rest.pop(0)
            arguments.append([name, value if valued else None])
        return path, arguments


def chores():
    """The names of xtask's list."""
    text = (ROOT / "xtask/src/main.rs").read_text(encoding="utf-8")
    return set(re.findall(r"^  ([a-z0-9-]+)(?: .*)?$", re.search(r'const USAGE.*?";', text, re.S)[0], re.M))


def route(words):
    """(method, path) of a curl command, or None if it goes elsewhere."""
    urls = [word for word in words if word.startswith(ADDRESS)]
    if not urls:
        return None
    given = [words[i + 1] for i, word in enumerate(words) if word in ("-X", "--request")]
    data = any(word in ("-d", "--data", "--json") or word.startswith("--data") for word in words)
    return (given[0] if given else "POST" if data else "GET").lower(), urls[0][len(ADDRESS):].split("?")[0] or "/"


def has_route(document, method, path):
    """Whether the OpenAPI document has it; a part in braces stands for any text."""
    for known, methods in document["paths"].items():
        pattern = re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(known))
        if re.fullmatch(pattern, path) and method in methods:
            return True
    return path in ("/", "/openapi.json") and method == "get"


def fault(words, worker, document):
    """What is wrong with a simple command, or None."""
    if not words:
        return None
    name = words[0].rsplit("/", 1)[-1]
    try:
        if name == "worker-orcd":
            worker.parse(words[1:])
    except ValueError as error:
        return str(error)
    if words[:2] == ["cargo", "xtask"] and (len(words) < 3 or words[2] not in chores()):
        return f"no such chore: {' '.join(words[2:3])}"
    if name == "curl" and document and (found := route(words)) and not has_route(document, *found):
        return f"the OpenAPI document has no {found[0].upper()} {found[1]}"
    for word in words:
        if re.match(r"(docs|deploy|benches|\.ci)/", word) and not (ROOT / word).exists():
            return f"no such file: {word}"
    return None


# Running.


def cheap(worker, words):
    """The words of a worker's command with the values of CHEAP and IN_PLACE."""
    path, arguments = worker.parse(words)
    name = " ".join(path)
    values = dict(CHEAP.get(name, {}))
    for argument in arguments:
        replaced = values.pop(argument[0], None) or IN_PLACE.get(name, {}).get(argument[0])
        if replaced is not None:
            argument[1] = replaced
        if argument[0] == "--gpu-device":
            argument[:] = ["--device", "cpu"]
            values.pop("--device", None)
        if argument[1] and argument[1].startswith(ADDRESS):
            argument[1] = argument[1].replace(ADDRESS, os.environ["SNIPPETS_URL"])
    given = [flag for flag, _ in arguments]
    if "--print-config" in given:
        values = {}
    if "--rate" in given:
        del values["--clients"]
    flags = [word for pair in [*arguments, *values.items()] for word in pair if word is not None]
    return [*path, *[os.environ.get("SNIPPETS_PORT", "0") if word == "PORT" else word for word in flags]]


def stand_in(name, words):
    """What runs in place of `worker-orcd` and `curl` of a snippet."""
    if name == "curl":
        words = [word.replace(ADDRESS, os.environ["SNIPPETS_URL"]) for word in words]
        os.execv(os.environ["SNIPPETS_CURL"], ["curl", "--fail-with-body", "--silent", "--show-error", *words])
    binary = os.environ["SNIPPETS_BINARY"]
    os.execv(binary, ["worker-orcd", "--quiet", *cheap(Worker(binary), words)])


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def served(command, port, **options):
    """A running server that accepts requests; RuntimeError if it ends before."""
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **options)
    for _ in range(LIMIT * 10):
        if process.poll() is not None:
            raise RuntimeError(process.stderr.read().strip())
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return process
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    process.kill()
    raise RuntimeError(f"not ready after {LIMIT} s")


def stop(process):
    """Ends a server as a supervisor does; RuntimeError unless it ends well."""
    process.send_signal(signal.SIGTERM)
    error = process.communicate(timeout=LIMIT)[1].strip()
    if process.returncode != 0:
        raise RuntimeError(f"ended with {process.returncode} after SIGTERM: {error}")


class Runs:
    """A folder with everything that a command needs."""

    def __init__(self, folder, binary):
        self.folder, self.binary = Path(folder), Path(binary).resolve()
        model = (FIXTURES / "smollm2.gguf").resolve()
        for name in ("m", "model", "q4", "f16", "m-q4_k_m", "m-f16", "smollm2"):
            (self.folder / f"{name}.gguf").symlink_to(model)
        vocabularies = (FIXTURES / "vocabs").resolve()
        for path in vocabularies.glob("ggml-vocab-*"):
            (self.folder / path.name).symlink_to(path)
        (self.folder / "llama3.gguf").symlink_to(vocabularies / "ggml-vocab-llama-bpe.gguf")
        text = (ROOT / "docs/src/introduction.md").read_text(encoding="utf-8")
        for name in ("text.txt", "wiki.test.raw"):
            (self.folder / name).write_text(text, encoding="utf-8")
        (self.folder / "short.txt").write_text(text[:60], encoding="utf-8")
        (self.folder / "ids.json").write_text("[504, 1234, 5]", encoding="utf-8")
        for words in (["init", "--quiet"], ["add", "ids.json"]):
            subprocess.run(["git", *words], cwd=self.folder, check=True)
        (self.folder / "ids.json").write_text("[504, 1234]", encoding="utf-8")
        programs = self.folder / "programs"
        for name in (programs / "worker-orcd", programs / "curl", self.folder / "target/release/worker-orcd"):
            name.parent.mkdir(parents=True, exist_ok=True)
            name.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {shlex.quote(__file__)} --in-place-of {name.name} "$@"\n')
            name.chmod(0o755)
        home = self.folder / "home"
        (home / ".local/share/bash-completion/completions").mkdir(parents=True)
        self.port = free_port()
        self.environment = os.environ | {
            "HOME": str(home),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
            "SNIPPETS_BINARY": str(self.binary),
            "SNIPPETS_CURL": shutil.which("curl") or "curl",
            "SNIPPETS_URL": f"http://127.0.0.1:{self.port}",
            "HF_HUB_OFFLINE": "1",
        }
        serve = [self.binary, "--quiet", "serve", "--model", model, "--device", "cpu", "--port", str(self.port)]
        self.server = served([*serve, "--ctx", "1024", "--slots", "2", "--max-tokens-out", "4"], self.port)
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/openapi.json", timeout=LIMIT) as answer:
            self.document = json.load(answer)
        self.run("worker-orcd run --model m.gguf --prompt Hello --receipt answer.json")

    def run(self, command):
        """What went wrong with a command, or None."""
        if re.search(r"worker-orcd(?: -\S+)* serve", command) and "--print-config" not in command:
            return self.serve(command)
        options = {"cwd": self.folder, "env": self.environment, "input": "Hello\n", "capture_output": True, "text": True}
        try:
            done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], timeout=LIMIT, **options)
        except subprocess.TimeoutExpired:
            return f"longer than {LIMIT} s"
        return f"ended with {done.returncode}: {(done.stderr or done.stdout).strip()}" if done.returncode else None

    def serve(self, command):
        port = free_port()
        try:
            environment = self.environment | {"SNIPPETS_PORT": str(port)}
            stop(served(["bash", "-c", f"exec {command}"], port, cwd=self.folder, env=environment))
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return str(error)
        return None


def runnable(command):
    """Whether a command is the worker's or curl's, needs no download, and only programs that are here."""
    programs = [words[0].rsplit("/", 1)[-1] for words in simple(command) if words]
    if not {"worker-orcd", "curl"} & set(programs[:-1] + programs[-1:]) or ON_A_HUB.search(command):
        return False
    return programs[0] not in ("cargo", "docker", "kubectl") and (" jq " not in command or shutil.which("jq"))


def documents():
    return [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs/src").rglob("*.md"))]


def check(worker, runs):
    """A line for each fault, all printed; commands with the same words run once."""
    faults, results = [], {}
    commands = [(path, *found, True) for path in documents() for found in blocks(path)]
    commands += [(path, *found, False) for path in documents() for found in mentions(path)]
    for path, number, command, is_run in commands:
        found = [wrong for words in simple(command) if (wrong := fault(words, worker, runs and runs.document))]
        if not found and is_run and runs and runnable(command):
            key = str([*simple(command)])
            if key not in results:
                results[key] = runs.run(command)
            found = [results[key]] if results[key] else []
        faults += [f"{path.relative_to(ROOT)}:{number}: {wrong}" for wrong in found]
    print("\n".join([*faults, f"{len(commands)} commands, {len(results)} different ones run, {len(faults)} faults"]))
    return faults


def main(binary):
    worker = Worker(binary)
    if not (FIXTURES / "smollm2.gguf").exists():
        print("warning: commands are looked up and not run: the fixtures are missing", file=sys.stderr)
        return check(worker, None)
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(folder, binary)
        try:
            return check(worker, runs)
        finally:
            stop(runs.server)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--in-place-of"]:
        stand_in(sys.argv[2], sys.argv[3:])
    sys.exit(1 if main(sys.argv[1]) else 0)
