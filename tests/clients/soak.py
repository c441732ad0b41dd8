"""Do 500 streams at once, cancelled, dropped, read slowly and timed out at random, all end once and leave nothing behind?

Jobs over POST /execute against a server of its own, for --seconds (20), with a model so small that thousands of requests fit into them, or with --model. What is held: every stream that is read to its end has exactly one terminal
event, the right one for what was done to it; the cache is empty and nobody runs when all is over; memory does not grow; an answer that
nobody disturbed is the one given alone.
"""

import argparse
import asyncio
import json
import random
import statistics
import time
from pathlib import Path

import aiohttp

from checks import check, run
from server import Server

TINY = str(Path(__file__).resolve().parent.parent / "golden/qwen2-q4_k_m.gguf")
PROMPTS = ["The sea is", "Once upon a time", "Le chat", "def main():", "1 2 3 4", "In the year 1905 " * 8]
KINDS = {"whole": 4, "cancel": 3, "disconnect": 3, "slow": 1, "deadline": 2, "cancel at once": 1}


def job(name, i, max_tokens):
    return {"job_id": name, "prompt": PROMPTS[i], "max_tokens": max_tokens, "temperature": 0.8, "seed": i}


async def events(response):
    """Each event's name and data, as they come."""
    name = None
    async for line in response.content:
        line = line.decode()
        if line.startswith("event: "):
            name = line[7:].strip()
        elif line.startswith("data: "):
            yield name, json.loads(line[6:])


class Soak:
    def __init__(self, server, seconds, n_stream):
        self.server, self.seconds, self.n_stream = server, seconds, n_stream
        self.until = 0
        self.random, self.alone, self.rss = random.Random(1), {}, []
        self.ended = dict.fromkeys(KINDS, 0)
        self.faults, self.cancel_ms = [], []

    async def alone_first(self, session):
        """What each prompt's answer is when nobody else asks."""
        for i in range(len(PROMPTS)):
            async with session.post(self.server.url + "/execute", json=job(f"alone {i}", i, 16)) as response:
                self.alone[i] = "".join([data["t"] async for name, data in events(response) if name == "token"])

    async def one(self, session, name):
        kind = self.random.choices(list(KINDS), KINDS.values())[0]
        i = self.random.randrange(len(PROMPTS))
        # Answers to compare are as long as the ones given alone; others are longer, so that there is something to end.
        body = job(name, i, 16 if kind in ("whole", "slow") else 64)
        headers = {}
        if kind == "deadline":
            headers["X-Deadline"] = str(int(time.time() * 1000) + self.random.randrange(20, 4000))
        stop_after = self.random.randrange(1, 12)
        async with session.post(self.server.url + "/execute", json=body, headers=headers) as response:
            if response.status != 200:
                if not (kind == "deadline" and response.status == 504):
                    self.faults.append(f"{kind}: status {response.status} {(await response.text())[:200]}")
                self.ended[kind] += 1
                return
            if kind == "cancel at once":
                await self.cancel(session, name)
            await self.read(session, response, (kind, name, i, stop_after))
        self.ended[kind] += 1

    async def read(self, session, response, what):
        kind, name, i, stop_after = what
        order, text, last, cancelled = [], "", None, None
        async for event, data in events(response):
            order.append(event)
            last = data
            if event != "token":
                continue
            text += data["t"]
            if kind == "slow":
                await asyncio.sleep(0.05)
            if len(order) > stop_after and kind == "disconnect":
                response.close()
                return
            if len(order) > stop_after and kind == "cancel" and cancelled is None:
                cancelled = time.monotonic()
                await self.cancel(session, name)
        if cancelled is not None and order[-1] == "error":
            self.cancel_ms.append(1000 * (time.monotonic() - cancelled))
        self.judge(kind, order, last, text == self.alone[i])

    def judge(self, kind, order, last, is_same):
        terminal = [event for event in order if event in ("end", "error")]
        if order[:1] != ["started"] and terminal != ["error"] or len(terminal) != 1 or order[-1] != terminal[0]:
            self.faults.append(f"{kind}: events {order[:3]}...{order[-3:]}")
        elif terminal == ["error"]:
            allowed = {"cancel": "CANCELLED", "cancel at once": "CANCELLED", "deadline": "INFERENCE_TIMEOUT"}.get(kind)
            if last["code"] != allowed:
                self.faults.append(f"{kind}: {last}")
        elif kind in ("whole", "slow") and not is_same:
            self.faults.append(f"{kind}: another answer than alone")

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


@check
def streams_end_once_and_leave_nothing_behind():
    with Server("--queue", str(ARGS.streams + 100), "--inference-timeout-sec", "3600", model=ARGS.model) as server:
        soak = Soak(server, ARGS.seconds, ARGS.streams)
        health = asyncio.run(soak.run())
        assert not soak.faults, f"{len(soak.faults)} faults: {soak.faults[:5]}"
        assert health["n_running"] == 0 and health["kv_cache_reserved"] == 0, health
        assert all(soak.ended.values()), soak.ended
        # The first half of the run fills caches, pools and the allocator.
        half = len(soak.rss) // 2
        first, last = max(soak.rss[:half]), max(soak.rss[half:])
        assert last < 1.1 * first + 16, f"memory grew from {first:.0f} to {last:.0f} MiB"
        assert server.process.poll() is None
        cancel = statistics.median(soak.cancel_ms) if soak.cancel_ms else float("nan")
        worst = max(soak.cancel_ms, default=float("nan"))
        return (
            f"{sum(soak.ended.values())} requests: {soak.ended}; memory {first:.0f} then {last:.0f} MiB; "
            f"from /cancel to the end {cancel:.0f} ms, at most {worst:.0f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--model", default=TINY)
    ARGS = parser.parse_args()
    run()
