// The `openai` package of Node.js against /v1: the same core as openai_python.py, and the same lines.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

import { disconnected, run } from "./checks.mjs";

const { default: OpenAI } = await import(createRequire(process.env.CLIENTS_NODE_MODULES + "/").resolve("openai"));

const model = "smollm2";
const client = new OpenAI({ baseURL: process.env.CLIENTS_URL + "/v1", apiKey: "none", maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "Why is the sky blue?" }];
const chat = (fields) => client.chat.completions.create({ model, messages, max_tokens: 16, temperature: 0, ...fields });
const text = async (fields) => (await chat(fields)).choices[0].message.content;
const schema = (properties) => ({ type: "object", properties, required: Object.keys(properties), additionalProperties: false });
const weather = {
  type: "function",
  function: { name: "get_weather", parameters: schema({ city: { type: "string", maxLength: 20 } }) },
};

const checks = {
  async "a chat is answered"() {
    const answer = await chat();
    assert.equal(answer.choices[0].finish_reason, "length");
    assert.equal(answer.usage.completion_tokens, 16);
    assert.ok(answer.choices[0].message.content);
  },
  async "a stream is the answer in pieces"() {
    let whole = "", usage;
    for await (const chunk of await chat({ stream: true, stream_options: { include_usage: true } })) {
      whole += chunk.choices[0]?.delta.content ?? "";
      usage = chunk.usage;
    }
    assert.equal(whole, await text());
    assert.equal(usage.completion_tokens, 16);
  },
  async "a stream that is left is cancelled"() {
    const before = await disconnected(0);
    const stream = await chat({ stream: true, max_tokens: 1000 });
    for await (const chunk of stream) { assert.ok(chunk.id); break; }
    stream.controller.abort();
    await disconnected(before + 1);
  },
  async "a named tool is called"() {
    const tool_choice = { type: "function", function: { name: "get_weather" } };
    const [call] = (await chat({ tools: [weather], tool_choice, max_tokens: 100 })).choices[0].message.tool_calls;
    assert.equal(call.function.name, "get_weather");
    assert.equal(typeof JSON.parse(call.function.arguments).city, "string");
  },
  async "a required tool comes in pieces"() {
    const stream = client.chat.completions.stream({
      model, messages, tools: [weather], tool_choice: "required", parallel_tool_calls: false, max_tokens: 100, temperature: 0,
    });
    const [choice] = (await stream.finalChatCompletion()).choices;
    assert.equal(choice.finish_reason, "tool_calls");
    assert.equal(typeof JSON.parse(choice.message.tool_calls[0].function.arguments).city, "string");
  },
  async "a response streams, calls and goes on"() {
    const tools = [{ type: "function", strict: true, ...weather.function }];
    const fields = { model, input: "Why is the sky blue?", temperature: 0, tools, tool_choice: "required", parallel_tool_calls: false };
    const stream = client.responses.stream({ ...fields, max_output_tokens: 100 });
    let n = 0;
    for await (const event of stream) assert.equal(event.sequence_number, n++);
    const first = await stream.finalResponse();
    const call = first.output.at(-1);
    assert.equal(typeof JSON.parse(call.arguments).city, "string");
    const input = [{ type: "function_call_output", call_id: call.call_id, output: "sunny" }];
    const next = await client.responses.create({ model, input, previous_response_id: first.id, temperature: 0, max_output_tokens: 16 });
    assert.ok(next.output_text);
    assert.equal(next.status, "incomplete");
  },
  async "a schema is held"() {
    const json_schema = { name: "answer", strict: true, schema: schema({ ok: { type: "boolean" } }) };
    const response_format = { type: "json_schema", json_schema };
    assert.equal(typeof JSON.parse(await text({ response_format, max_tokens: 60 })).ok, "boolean");
  },
  async "logprobs, n, stop and seed do what they say"() {
    const { choices } = await chat({ logprobs: true, top_logprobs: 2, n: 2, temperature: 1, seed: 3 });
    const again = await chat({ n: 2, temperature: 1, seed: 3 });
    assert.equal(choices[0].logprobs.content[0].top_logprobs.length, 2);
    assert.deepEqual(choices.map((c) => c.message.content), again.choices.map((c) => c.message.content));
    const whole = await text({ max_tokens: 40 });
    const stop = whole.split(/\s+/)[5];
    assert.equal(await text({ max_tokens: 40, stop }), whole.slice(0, whole.indexOf(stop)));
  },
  async "errors have types"() {
    await assert.rejects(chat({ model: "gpt-4" }), (error) => error instanceof OpenAI.NotFoundError && error.code === "model_not_found");
    await assert.rejects(chat({ temperature: 3 }), (error) => error instanceof OpenAI.BadRequestError && error.param === "temperature");
  },
};

await run(checks);
