"""KV cache events, read as vLLM's own subscribers read them: pyzmq, and msgspec with the structs that vLLM has.

Checked: topic, numbers, hashes and tokens of what is stored, what is removed when the cache is short, subscriptions by topic, a subscriber that does not read,
and batches that are sent again.
"""

import time
import urllib.request
from typing import Optional, Union

import msgspec
import zmq
from checks import check, run
from server import Server, call

PAGE = 32
TOPIC = "kv@worker@smollm2"


class EventBatch(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    ts: float
    events: list
    data_parallel_rank: Optional[int] = None


class KVCacheEvent(msgspec.Struct, array_like=True, omit_defaults=True, gc=False, tag=True):
    pass


class BlockStored(KVCacheEvent):
    block_hashes: list[int]
    parent_block_hash: Optional[int]
    token_ids: list[int]
    block_size: int
    lora_id: Optional[int]
    medium: Optional[str]
    lora_name: Optional[str]


class BlockRemoved(KVCacheEvent):
    block_hashes: list[int]
    medium: Optional[str]


class AllBlocksCleared(KVCacheEvent):
    pass


class KVEventBatch(EventBatch):
    events: list[Union[BlockStored, BlockRemoved, AllBlocksCleared]]


DECODER = msgspec.msgpack.Decoder(type=KVEventBatch)


def free_port():
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Subscriber:
    """A socket of libzmq's that follows one server."""

    def __init__(self, port, topic="", hwm=1000):
        self.socket = zmq.Context.instance().socket(zmq.SUB)
        self.socket.setsockopt(zmq.RCVHWM, hwm)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.connect(f"tcp://127.0.0.1:{port}")
        self.socket.setsockopt_string(zmq.SUBSCRIBE, topic)

    def batches(self, seconds=2.0):
        """(number, batch) of all that comes until nothing comes for so long."""
        found = []
        while self.socket.poll(seconds * 1000):
            topic, number, payload = self.socket.recv_multipart()
            assert topic == TOPIC.encode(), topic
            found.append((int.from_bytes(number, "big"), DECODER.decode(payload)))
        return found


def complete(server, tokens, n=1):
    status, body = call("POST", server.url + "/v1/completions", {"prompt": tokens, "max_tokens": n, "temperature": 0})
    assert status == 200, body


def subscribed(server, n):
    """Waits until so many subscribers are counted."""
    for _ in range(100):
        if metric(server, "worker_kv_event_subscribers") == n:
            return time.sleep(0.2)
        time.sleep(0.05)
    raise AssertionError(f"expected {n} subscribers")


def metric(server, name):
    with urllib.request.urlopen(server.url + "/metrics") as response:
        lines = response.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith(name) and line[len(name)] in " {")


def start(port, *options):
    return Server("--kv-events", f"tcp://127.0.0.1:{port}", "--kv-events-topic", TOPIC, *options)


@check
def pages_of_prompts_are_stored_with_their_tokens_and_the_page_before():
    port = free_port()
    with start(port, "--slots", "2", "--ctx", "512") as server:
        everything, ours, others = Subscriber(port), Subscriber(port, "kv@worker"), Subscriber(port, "kv@other")
        subscribed(server, 3)
        first = list(range(100, 100 + 2 * PAGE + 5))
        complete(server, first)
        complete(server, first)
        complete(server, first[:PAGE] + list(range(300, 300 + PAGE + 1)))
        batches = everything.batches()
        assert [number for number, _ in batches] == list(range(len(batches))), batches
        assert all(batch.data_parallel_rank == 0 and abs(batch.ts - time.time()) < 60 for _, batch in batches)
        stored = [event for _, batch in batches for event in batch.events]
        assert all(isinstance(event, BlockStored) and event.block_size == PAGE and event.medium == "CPU" for event in stored), stored
        # A prompt is computed in steps, each of which may tell of a part of its pages.
        pages = {}
        for event in stored:
            before = event.parent_block_hash
            for i, name in enumerate(event.block_hashes):
                pages[name] = (before, event.token_ids[i * PAGE : (i + 1) * PAGE])
                before = name
        (one, two, three), chain = pages, list(pages.values())
        assert chain[0] == (None, first[:PAGE]) and chain[1] == (one, first[PAGE : 2 * PAGE]), chain
        assert chain[2] == (one, list(range(300, 300 + PAGE))), chain
        assert len(ours.batches(0.5)) == len(batches) and not others.batches(0.1)
        return f"{len(batches)} batches"


@check
def equal_prompts_have_equal_hashes_in_two_workers():
    ports = free_port(), free_port()
    with start(ports[0], "--ctx", "256") as one, start(ports[1], "--ctx", "256") as two:
        subscribers = [Subscriber(port) for port in ports]
        hashes = []
        for server, subscriber in zip((one, two), subscribers):
            subscribed(server, 1)
            complete(server, list(range(50, 50 + 3 * PAGE)))
            hashes.append([name for _, batch in subscriber.batches(1) for event in batch.events for name in event.block_hashes])
        assert hashes[0] == hashes[1] and len(hashes[0]) == 3, hashes


@check
def what_makes_room_is_removed_by_the_hash_that_it_was_stored_by():
    port = free_port()
    # Pages for one sequence of 256 positions, and no more.
    with start(port, "--slots", "1", "--ctx", "256", "--kv-cache-size-mb", "6") as server:
        subscriber = Subscriber(port)
        subscribed(server, 1)
        for i in range(8):
            complete(server, [1000 + i] * (6 * PAGE + 1))
        known, n_removed = set(), 0
        for _, batch in subscriber.batches():
            for event in batch.events:
                if isinstance(event, BlockStored):
                    assert event.parent_block_hash is None or event.parent_block_hash in known, event
                    known.update(event.block_hashes)
                else:
                    assert isinstance(event, BlockRemoved) and set(event.block_hashes) <= known, event
                    known.difference_update(event.block_hashes)
                    n_removed += len(event.block_hashes)
        kept = metric(server, "worker_kv_cache_cached_pages")
        assert n_removed > 0 and len(known) == kept, (n_removed, len(known), kept)
        return f"{n_removed} pages removed, {len(known)} kept"


def again(port, start, kind=zmq.DEALER):
    """(number, payload) of the batches from a number on, as vLLM's subscribers ask for them; a REQ socket takes one answer, a DEALER all."""
    with zmq.Context.instance().socket(kind) as socket:
        socket.setsockopt(zmq.LINGER, 0)
        socket.connect(f"tcp://127.0.0.1:{port}")
        number = start.to_bytes(8, "big")
        socket.send_multipart([b"", number] if kind == zmq.DEALER else [number])
        found = []
        while socket.poll(5000):
            *empty, number, payload = socket.recv_multipart()
            assert empty == ([b""] if kind == zmq.DEALER else []), empty
            found.append((int.from_bytes(number, "big", signed=True), payload))
            if kind == zmq.REQ or not payload:
                return found
        raise AssertionError(f"expected an end after {found}")


@check
def batches_are_sent_again_from_a_number_on():
    port, replay = free_port(), free_port()
    with start(port, "--ctx", "256", "--kv-events-replay", f"tcp://127.0.0.1:{replay}") as server:
        assert again(replay, 0) == [(-1, b"")]
        complete(server, list(range(60, 60 + 2 * PAGE + 1)))
        # Nobody has listened; who comes now asks for what it missed.
        late = Subscriber(port)
        subscribed(server, 1)
        for i in range(4):
            complete(server, [2000 + i] * (2 * PAGE + 1))
        live = late.batches(1)
        *found, end = again(replay, 0)
        assert end == (-1, b"") and [number for number, _ in found] == list(range(live[-1][0] + 1)), (found, end)
        decoded = [(number, DECODER.decode(payload)) for number, payload in found]
        assert decoded[live[0][0] :] == live
        assert decoded[0][1].events[0].token_ids[:PAGE] == list(range(60, 60 + PAGE)), decoded[0]
        assert again(replay, 3) == [*found[3:], end] and again(replay, len(found)) == [end]
        assert again(replay, 2, zmq.REQ) == found[2:3]
        return f"{len(found)} batches"


@check
def a_subscriber_that_does_not_read_delays_no_answer():
    import socket

    port = free_port()
    with start(port, "--slots", "2", "--ctx", "256") as server:
        # Speaks the protocol until it has subscribed, then reads no more.
        deaf = socket.create_connection(("127.0.0.1", port))
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"\xff" + b"\0" * 7 + b"\x01\x7f\x03\x00NULL".ljust(56, b"\0"))
        deaf.sendall(b"\x04\x19\x05READY\x0bSocket-Type\0\0\0\x03SUB" + b"\x00\x01\x01")
        good = Subscriber(port)
        subscribed(server, 2)
        began = time.monotonic()
        for i in range(10):
            complete(server, [2000 + i] * (2 * PAGE + 1))
        seconds = time.monotonic() - began
        batches = good.batches(1)
        assert len(batches) >= 10 and [n for n, _ in batches] == list(range(len(batches))), batches[-1][0]
        deaf.close()
        return f"10 answers in {seconds:.1f} s"


@check
def who_does_not_speak_the_protocol_is_closed_and_the_server_goes_on():
    import socket

    port = free_port()
    with start(port, "--ctx", "256") as server:
        for said in (b"GET / HTTP/1.1\r\n\r\n".ljust(64, b"x"), b"\xff" * 64, b"\xff" + b"\0" * 8 + b"\x7f\x03\x00CURVE".ljust(55, b"\0")):
            with socket.create_connection(("127.0.0.1", port)) as peer:
                peer.settimeout(10)
                peer.sendall(said)
                while peer.recv(4096):
                    pass
        subscriber = Subscriber(port)
        subscribed(server, 1)
        complete(server, list(range(60, 60 + PAGE + 1)))
        assert len(subscriber.batches(1)) == 1


run()
