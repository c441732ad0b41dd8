"""Do clients that mean harm leave a stream, a probe and the memory alone?

A server of its own with two keys and a port for probes, whose log nobody reads, and whose chat template can be made to work for long. One key and whoever has
none attack from one address, all at once (attacks.py), for --seconds (20); --attacks chooses among the kinds. The other key's streams, from another address, and the
probes are measured alone, meanwhile, and alone again. A table says what was found; beside it stands what programs other than the server and this one used of the
machine, since that comes on top.

Memory that a server has planned becomes resident when it is first used. So that this does not count as growth, the KV cache is filled and a grammar compiled before
the memory is measured; the context is short, so that this takes seconds.
"""

import argparse
import multiprocessing
import os
import shutil
import socket
import statistics
import struct
import tempfile
import threading
import time
from urllib.parse import urlsplit

import attacks
from checks import check, run
from server import Server, call

# Whose address is another than the attackers'.
OTHER = ("127.0.0.2", 0)
DEFAULT = ["idle", "heads", "unfinished", "bodies", "templates", "automata", "masks"]


def stream(address, n_token):
    """Seconds between the tokens of an answer, and until the first."""
    body = b'{"prompt":"Once upon a time","max_tokens":%d,"stream":true,"ignore_eos":true,"temperature":0}' % n_token
    began, last, gaps, first = time.monotonic(), None, [], None
    with socket.create_connection(address, timeout=120, source_address=OTHER) as s:
        s.sendall(attacks.request("/v1/completions", body, "other"))
        answer = b""
        while data := s.recv(65536):
            answer += data
            now = time.monotonic()
            for _ in range(data.count(b'"text":"')):
                if last is None:
                    first = now - began
                else:
                    gaps.append(now - last)
                last = now
    assert answer.startswith(b"HTTP/1.1 200 ") and b"[DONE]" in answer, answer[:20] + answer[-400:]
    return first, gaps


def probe(address):
    began = time.monotonic()
    with socket.create_connection(address, timeout=60, source_address=OTHER) as s:
        s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert s.recv(100).startswith(b"HTTP/1.1 200 ")
    return time.monotonic() - began


def percentile(values, share):
    """In milliseconds."""
    values = sorted(values)
    return 1000 * values[min(len(values) - 1, int(len(values) * share))]


def busy():
    """Seconds in which cores were busy since the machine started."""
    with open("/proc/stat") as stat:
        fields = [int(field) for field in stat.readline().split()[1:]]
    return (sum(fields[:3]) + sum(fields[5:7])) / os.sysconf("SC_CLK_TCK")


def used(pid):
    """Seconds of a process and its children that have ended."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


class Watch(threading.Thread):
    """Asks for the health, on both ports, and for the memory."""

    def __init__(self, server, addresses):
        super().__init__(daemon=True)
        self.server, self.addresses, self.is_over = server, addresses, False
        self.times, self.rss = [[] for _ in addresses], []

    def run(self):
        while not self.is_over:
            for address, times in zip(self.addresses, self.times):
                try:
                    times.append(probe(address))
                except OSError:
                    times.append(60.0)
            self.rss.append(self.server.rss())
            time.sleep(0.05)


class Phase:
    """What was measured for a while."""

    def __init__(self, name, server, addresses, seconds, attackers=None):
        pids = [pid for pid in (server.process.pid, os.getpid(), attackers and attackers.pid) if pid]
        watch = Watch(server, addresses)
        watch.start()
        began, (all_before, ours_before) = time.monotonic(), (busy(), sum(map(used, pids)))
        self.name, self.firsts, self.gaps = name, [], []
        while time.monotonic() < began + seconds:
            first, gaps = stream(addresses[0], ARGS.tokens)
            self.firsts.append(first)
            self.gaps += gaps
        others = busy() - all_before - (sum(map(used, pids)) - ours_before)
        self.others = max(0.0, others) / (time.monotonic() - began)
        watch.is_over = True
        watch.join()
        self.times, self.peak = watch.times, max(watch.rss)

    def row(self):
        gaps = [f"{percentile(self.gaps, share):.1f}" for share in (0.5, 0.95, 0.99, 1)]
        probes = [f"{percentile(times, 0.99):.1f}" for times in self.times]
        return [self.name, len(self.gaps), *gaps, f"{max(self.firsts):.2f}", *probes, f"{self.peak:.0f}", f"{self.others:.2f}"]


HEAD = ["phase", "tokens", "p50 ms", "p95", "p99", "max", "first s", "/health p99", "its port p99", "MiB", "others' cores"]


def table(rows):
    rows = [HEAD, *rows]
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(HEAD))]
    for row in rows:
        print("  ".join(str(cell).rjust(width) for cell, width in zip(row, widths)), flush=True)


def with_template(model, template, path):
    """A copy of a model whose chat template is another, of the same length."""
    shutil.copyfile(model, path)
    key = b"tokenizer.chat_template" + struct.pack("<I", 8)
    with open(path, "r+b") as file:
        head = file.read(16 << 20)
        at = head.index(key) + len(key)
        (n,) = struct.unpack_from("<Q", head, at)
        assert len(template) <= n, f"a template of at most {n} bytes"
        file.seek(at + 8)
        file.write(template.encode().ljust(n))


@check
def attackers_leave_a_stream_a_probe_and_the_memory_alone():
    with tempfile.TemporaryDirectory() as folder:
        model, keys = f"{folder}/model.gguf", f"{folder}/api-keys"
        with_template(os.environ["CLIENTS_MODEL"], attacks.TEMPLATE, model)
        with open(keys, "w") as file:
            file.write("".join(f"{name}:{key}\n" for name, key in attacks.KEYS.items()))
        options = ["--api-key-file", keys, "--health-port", "0", "--inference-timeout-sec", "30", "--ctx", "1024", *ARGS.serve]
        with Server(*options, model=model) as server:
            return measured(server)


def ask(server, **fields):
    """A completion for the other key: its status."""
    body = {"max_tokens": 1, "temperature": 0, **fields}
    return call("POST", server.url + "/v1/completions", body, {"X-Api-Key": attacks.KEYS["other"]})[0]


def metric(server, name):
    status, metrics = call("GET", server.url + "/metrics", headers={"X-Api-Key": attacks.KEYS["other"]})
    assert status == 200, metrics
    return next(float(line.split()[1]) for line in metrics.splitlines() if line.startswith(name + " "))


def warm_up(server):
    """Has every page of the KV cache written, as far as prompts fill it, and what all grammars share made."""
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    assert ask(server, prompt="a", **attacks.form(schema)) == 200
    n_page, n_cached = metric(server, "worker_kv_cache_pages"), 0
    for i in range(1000):
        assert ask(server, prompt=f"{i} " + "a long text of many words " * 150) == 200
        before, n_cached = n_cached, metric(server, "worker_kv_cache_cached_pages")
        if n_cached <= before:
            break
    assert n_cached > 0.8 * n_page, f"{n_cached} of {n_page} pages were filled"


def measured(server):
    url = urlsplit(server.url)
    address = (url.hostname, url.port)
    line = next(line for line in server.log if "probes are answered on" in line)
    health = urlsplit(line[line.index("http://"):].strip())
    addresses = [address, (health.hostname, health.port)]
    server.is_read = False
    fresh = server.rss()
    warm_up(server)
    stream(address, 20)
    time.sleep(2)
    idle, rest = server.rss(), min(20, ARGS.seconds)
    before = Phase("alone", server, addresses, rest)
    until = time.time() + ARGS.seconds + 2
    n_sent = multiprocessing.Value("q")
    attackers = multiprocessing.Process(target=attacks.attack, args=(address, ARGS.attacks, until, n_sent), daemon=True)
    attackers.start()
    time.sleep(2)
    meanwhile = Phase("attacked", server, addresses, ARGS.seconds - 2, attackers)
    attackers.join(60)
    attackers.kill()
    time.sleep(10)
    after_rss = server.rss()
    after = Phase("alone again", server, addresses, rest)
    table([phase.row() for phase in (before, meanwhile, after)])
    status, metrics = call("GET", server.url + "/metrics", headers={"X-Api-Key": attacks.KEYS["other"]})
    lost = next((line for line in metrics.splitlines() if line.startswith("worker_log_lines_lost_total")), "no metrics")
    alone = before.gaps + after.gaps
    ratio = percentile(meanwhile.gaps, 0.99) / percentile(alone, 0.99)
    figures = (
        f"p99 between tokens {ratio:.2f} times that alone, p50 {statistics.median(meanwhile.gaps) / statistics.median(alone):.2f}; memory "
        f"idle {idle:.0f} MiB ({fresh:.0f} before its plan was used), at most {meanwhile.peak:.0f}, ten seconds after {after_rss:.0f}; {lost}; "
        f"{n_sent.value} attacks; load {os.getloadavg()[0]:.1f}"
    )
    assert status == 200, figures
    assert meanwhile.peak < idle + 1024 and after_rss < idle + 64, figures
    assert all(percentile(times, 0.99) < 1000 * ARGS.health_p99 for times in meanwhile.times), figures
    assert ratio < ARGS.slower, figures
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--attacks", type=lambda text: text.split(","), default=DEFAULT, help=", ".join(attacks.kinds()) + "; or all")
    parser.add_argument("--tokens", type=int, default=400, help="of each stream that is measured")
    parser.add_argument("--health-p99", type=float, default=0.5, help="seconds; bounds for machines that do nothing else are 0.05")
    parser.add_argument("--slower", type=float, default=3, help="times; 1.5 on machines that do nothing else")
    parser.add_argument("--serve", type=lambda text: text.split(), default=[], help="further options of the server")
    ARGS = parser.parse_args()
    if ARGS.attacks == ["all"]:
        ARGS.attacks = list(attacks.kinds())
    unknown = set(ARGS.attacks) - set(attacks.kinds())
    if unknown:
        parser.error(f"no such attack: {', '.join(sorted(unknown))}")
    run()
