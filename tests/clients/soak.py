"""Do 500 streams at once, cancelled, dropped, read slowly and timed out at random, all end once and leave nothing behind?

On every route that streams (soak_routes.py), with embeddings and counts among them, on a server of its own, for --seconds (20), with a model so small
that thousands of requests fit into them, or with --model. What is held: every stream that is read to its end ends exactly once, rightly for what was
done to it; the cache is empty and nobody runs when all is over; memory does not grow; an answer that nobody disturbed is the one given alone.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from pathlib import Path

import aiohttp

from checks import MODEL, check, run
from gguf_file import with_text
from server import Server
from soak_routes import ROUTES, ask, events

TINY = str(Path(__file__).resolve().parent.parent / "golden/qwen2-q4_k_m.gguf")
PROMPTS = ["The sea is", "Once upon a time", "Le chat", "def main():", "1 2 3 4", "In the year 1905 " * 8]
TEMPLATE = "{% for message in messages %}{{ message.content }}\n{% endfor %}"
# How often each is tried; only a job can be cancelled, and what gives no stream can only be dropped or waited for.
KINDS = {"whole": 4, "cancel": 3, "disconnect": 3, "slow": 1, "deadline": 2, "cancel at once": 1, "embeddings": 1, "count": 1}
SHARES = {"execute": 4, "chat": 3, "completions": 2, "responses": 3, "messages": 3, "completion": 1}


class Soak:
    def __init__(self, server, seconds, n_stream):
        self.server, self.seconds, self.n_stream = server, seconds, n_stream
        self.until = 0
        self.random, self.alone, self.rss = random.Random(1), {}, []
        self.ended, self.asked = dict.fromkeys(KINDS, 0), dict.fromkeys(ROUTES, 0)
        self.faults, self.cancel_ms = [], []

    async def alone_first(self, session):
        """What each prompt's answer is on each route when nobody else asks."""
        for name, route in ROUTES.items():
            for i, prompt in enumerate(PROMPTS):
                async with session.post(self.server.url + route.path, json=route.body(f"alone {i}", prompt, i, 16)) as response:
                    self.alone[name, i] = "".join([route.read(*event)[0] async for event in events(response)])
        for i in range(len(PROMPTS)):
            self.alone["embeddings", i], self.alone["count", i] = await self.embed(session, i), await self.count(session, i)

    async def embed(self, session, i):
        return await self.post(session, "/v1/embeddings", {"model": MODEL, "input": PROMPTS[i], "encoding_format": "base64"})

    async def count(self, session, i):
        return await self.post(session, "/v1/messages/count_tokens", {"model": MODEL, "messages": ask(PROMPTS[i])})

    async def post(self, session, path, body):
        async with session.post(self.server.url + path, json=body) as response:
            return response.status, await response.text()

    async def one(self, session, name):
        kind = self.random.choices(list(KINDS), KINDS.values())[0]
        i = self.random.randrange(len(PROMPTS))
        if kind in ("embeddings", "count"):
            if await (self.embed if kind == "embeddings" else self.count)(session, i) != self.alone[kind, i]:
                self.faults.append(f"{kind}: another answer than alone")
            self.ended[kind] += 1
            return
        where = "execute" if kind.startswith("cancel") else self.random.choices(list(SHARES), SHARES.values())[0]
        route = ROUTES[where]
        # Answers to compare are as long as the ones given alone; others are longer, so that there is something to end.
        body = route.body(name, PROMPTS[i], i, 16 if kind in ("whole", "slow") else 64)
        headers = {}
        if kind == "deadline":
            headers["X-Deadline"] = str(int(time.time() * 1000) + self.random.randrange(20, 4000))
        stop_after = self.random.randrange(1, 12)
        async with session.post(self.server.url + route.path, json=body, headers=headers) as response:
            if response.status != 200:
                if not (kind == "deadline" and response.status == 504):
                    self.faults.append(f"{where}, {kind}: status {response.status} {(await response.text())[:200]}")
            else:
                if kind == "cancel at once":
                    await self.cancel(session, name)
                await self.read(session, response, (kind, name, (where, i), stop_after))
        self.ended[kind] += 1
        self.asked[where] += 1

    async def read(self, session, response, what):
        kind, name, (where, i), stop_after = what
        ends, text, n, last, cancelled, first = [], "", 0, None, None, None
        async for event, data in events(response):
            first = first or event
            more, end = ROUTES[where].read(event, data)
            text += more
            n += 1
            # Nothing may come after an end but the mark of one.
            if end or ends:
                ends.append(end)
                last = data if end != "done" else last
                continue
            if kind == "slow":
                await asyncio.sleep(0.05)
            if n > stop_after and kind == "disconnect":
                response.close()
                return
            if n > stop_after and kind == "cancel" and cancelled is None:
                cancelled = time.monotonic()
                await self.cancel(session, name)
        if cancelled is not None and ends[0] == "error":
            self.cancel_ms.append(1000 * (time.monotonic() - cancelled))
        if where == "execute" and first not in ("started", "error"):
            self.faults.append(f"a job's first event is {first}")
        self.judge((where, kind), tuple(ends), last, text == self.alone[where, i])

    def judge(self, what, ends, last, is_same):
        where, kind = what
        well, badly = ROUTES[where].ends
        if ends not in (well, badly):
            self.faults.append(f"{what}: ends {ends}")
        elif ends == badly:
            why = json.dumps(last)
            allowed = {"cancel": "CANCELLED", "cancel at once": "CANCELLED", "deadline": "timed out"}.get(kind)
            if allowed is None or allowed not in why:
                self.faults.append(f"{what}: {why[:300]}")
        elif kind in ("whole", "slow") and not is_same:
            self.faults.append(f"{what}: another answer than alone")

    async def cancel(self, session, name):
        async with session.post(self.server.url + "/cancel", json={"job_id": name}) as response:
            if response.status != 202:
                self.faults.append(f"/cancel: {response.status}")

    async def stream(self, session, number):
        n = 0
        while time.monotonic() < self.until:
            try:
                await self.one(session, f"{number}-{n}")
            except (aiohttp.ClientError, asyncio.TimeoutError) as error:
                self.faults.append(f"the connection failed: {error!r}")
            n += 1

    async def sample(self):
        while True:
            self.rss.append(self.server.rss())
            await asyncio.sleep(0.5)

    async def run(self):
        # No limit, so that /cancel never waits for a connection.
        connector = aiohttp.TCPConnector(limit=0)
        timeout = aiohttp.ClientTimeout(total=None, sock_read=300)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout, read_bufsize=4096) as session:
            await self.alone_first(session)
            self.until = time.monotonic() + self.seconds
            sampler = asyncio.create_task(self.sample())
            await asyncio.gather(*(self.stream(session, number) for number in range(self.n_stream)))
            sampler.cancel()
            return await self.rest(session)

    async def rest(self, session):
        """The last health, once nobody runs; pages of dropped streams may take a step to come back."""
        for _ in range(600):
            async with session.get(self.server.url + "/health") as response:
                health = await response.json()
            if health["n_running"] == 0 and health["kv_cache_reserved"] == 0:
                break
            await asyncio.sleep(0.1)
        return health


def tiny(folder):
    """The smallest model, with a chat template."""
    with_text(TINY, "tokenizer.chat_template", TEMPLATE, f"{folder}/tiny.gguf")
    return f"{folder}/tiny.gguf"


def flags():
    return ["--queue", str(ARGS.streams + 100), "--inference-timeout-sec", "3600"]


@check
def streams_end_once_and_leave_nothing_behind():
    with tempfile.TemporaryDirectory() as folder, Server(*flags(), model=ARGS.model or tiny(folder)) as server:
        soak = Soak(server, ARGS.seconds, ARGS.streams)
        health = asyncio.run(soak.run())
        assert not soak.faults, f"{len(soak.faults)} faults: {soak.faults[:5]}"
        assert health["n_running"] == 0 and health["kv_cache_reserved"] == 0, health
        assert all(soak.ended.values()) and all(soak.asked.values()), (soak.ended, soak.asked)
        # The first half of the run fills caches, pools and the allocator.
        half = len(soak.rss) // 2
        first, last = max(soak.rss[:half]), max(soak.rss[half:])
        assert last < 1.1 * first + 16, f"memory grew from {first:.0f} to {last:.0f} MiB"
        assert server.process.poll() is None
        cancel = statistics.median(soak.cancel_ms) if soak.cancel_ms else float("nan")
        worst = max(soak.cancel_ms, default=float("nan"))
        return (
            f"{sum(soak.ended.values())} requests: {soak.ended}; streams of {soak.asked}; memory {first:.0f} then {last:.0f} MiB; "
            f"from /cancel to the end {cancel:.0f} ms, at most {worst:.0f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--model")
    ARGS = parser.parse_args()
    run()
