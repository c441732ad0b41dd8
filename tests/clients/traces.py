"""Spans, taken by a collector that reads them into OpenTelemetry's own messages.

OTLP's JSON writes ids as hexadecimal digits where JSON of protocol buffers has base64, so ids are turned round before the messages are read; every
other field is read as it is, and an unknown one is an error.
"""

import base64
import http.server
import json
import threading
import time
import urllib.request

from checks import check, run
from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from server import Server, call

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes spans on a free port; `status` is what it answers with."""

    def __init__(self, status=200):
        self.requests, self.status = [], status
        collector = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.requests.append((self.path, self.headers["Content-Type"], json.loads(body)))
                self.send_response(collector.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"{}")

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def spans(self, n, seconds=20):
        """The first `n` spans, as OpenTelemetry's messages."""
        for _ in range(int(seconds / 0.1)):
            found = [span for path, kind, body in self.requests for span in read(path, kind, body)]
            if len(found) >= n:
                return found
            time.sleep(0.1)
        raise AssertionError(f"expected {n} spans, found {len(found)}")


def read(path, kind, body):
    assert path == "/v1/traces" and kind == "application/json", (path, kind)
    for of_resource in body["resourceSpans"]:
        for of_scope in of_resource["scopeSpans"]:
            for span in of_scope["spans"]:
                for name in ("traceId", "spanId", "parentSpanId"):
                    if name in span and len(span[name]) in (16, 32):
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
    request = json_format.ParseDict(body, ExportTraceServiceRequest())
    for of_resource in request.resource_spans:
        names = {attribute.key: attribute.value.string_value for attribute in of_resource.resource.attributes}
        assert names["service.name"] == "worker-orcd" and names["service.instance.id"] == "w1", names
        for of_scope in of_resource.scope_spans:
            yield from of_scope.spans


def attributes(span):
    return {attribute.key: getattr(attribute.value, attribute.value.WhichOneof("value")) for attribute in span.attributes}


def lost(server, at):
    with urllib.request.urlopen(server.url + "/metrics") as response:
        lines = response.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith(f'worker_otlp_spans_lost_total{{at="{at}"}}'))


@check
def a_chat_has_a_span_of_the_trace_that_it_came_with():
    collector = Collector()
    with Server("--otlp-endpoint", collector.url, "--worker-id", "w1") as server:
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4, "temperature": 0}
        began = time.time_ns()
        status, answer = call("POST", server.url + "/v1/chat/completions", body, {"traceparent": f"00-{TRACE}-{PARENT}-01"})
        ended = time.time_ns()
        assert status == 200, answer
        # A parent that is not sampled wants no spans.
        call("POST", server.url + "/v1/chat/completions", body, {"traceparent": f"00-{TRACE}-{PARENT}-00"})
        call("POST", server.url + "/v1/embeddings", {"input": "Hi"})
        chat, embedding = collector.spans(2)
        assert (chat.trace_id.hex(), chat.parent_span_id.hex()) == (TRACE, PARENT) and len(chat.span_id) == 8
        assert chat.kind == 2 and chat.name == "chat smollm2" and chat.status.code == 0, chat
        assert began - 10**8 <= chat.start_time_unix_nano <= chat.end_time_unix_nano <= ended + 10**8
        found = attributes(chat)
        usage = answer["usage"]
        assert found["gen_ai.usage.input_tokens"] == usage["prompt_tokens"], found
        assert found["gen_ai.usage.output_tokens"] == usage["completion_tokens"] == 4, found
        assert [value.string_value for value in found["gen_ai.response.finish_reasons"].values] == ["length"], found
        queue, first, all_of_it = (found[f"gen_ai.latency.{name}"] for name in ("time_in_queue", "time_to_first_token", "e2e"))
        assert 0 <= queue <= first <= all_of_it, found
        assert embedding.name == "embeddings smollm2" and embedding.trace_id.hex() != TRACE and not embedding.parent_span_id
        assert lost(server, "queue") == lost(server, "collector") == 0


@check
def the_last_spans_go_out_when_the_server_ends():
    collector = Collector()
    with Server("--otlp-endpoint", collector.url, "--worker-id", "w1") as server:
        call("POST", server.url + "/v1/completions", {"prompt": "Hi", "max_tokens": 2})
        server.terminate()
        assert server.wait() == 0
    assert collector.spans(1, seconds=1)[0].name == "text_completion smollm2"


@check
def a_collector_that_is_gone_or_refuses_costs_no_answer_and_its_spans_are_counted():
    collector = Collector(status=400)
    for url in (collector.url, "http://127.0.0.1:9"):
        with Server("--otlp-endpoint", url, "--worker-id", "w1") as server:
            for _ in range(3):
                assert call("POST", server.url + "/v1/completions", {"prompt": "Hi", "max_tokens": 2})[0] == 200
            for _ in range(150):
                if lost(server, "collector") == 3:
                    break
                time.sleep(0.1)
            assert lost(server, "collector") == 3, url


run()
