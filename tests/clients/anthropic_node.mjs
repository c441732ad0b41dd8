// The `@anthropic-ai/sdk` package of Node.js against /v1/messages: the same core as anthropic_python.py, and the same lines.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

import { disconnected, run } from "./checks.mjs";

const { default: Anthropic } = await import(createRequire(process.env.CLIENTS_NODE_MODULES + "/").resolve("@anthropic-ai/sdk"));

const model = "smollm2";
const client = new Anthropic({ baseURL: process.env.CLIENTS_URL, apiKey: "none", maxRetries: 0, timeout: 120_000 });
const messages = [{ role: "user", content: "Why is the sky blue?" }];
const fields = (more) => ({ model, messages, system: "You are brief.", max_tokens: 16, temperature: 0, ...more });
const ask = (more) => client.messages.create(fields(more));
const weather = {
  name: "get_weather",
  description: "The weather of a city",
  input_schema: {
    type: "object",
    properties: { city: { type: "string", maxLength: 20 }, unit: { enum: ["C", "F"] } },
    required: ["city", "unit"],
    additionalProperties: false,
  },
};

const checks = {
  async "a message is answered"() {
    const message = await ask({ metadata: { user_id: "me" } });
    assert.equal(message.role, "assistant");
    assert.ok(message.content[0].text);
    assert.equal(message.stop_reason, "max_tokens");
    assert.equal(message.usage.output_tokens, 16);
  },
  async "a stream is the answer in pieces"() {
    const whole = (await ask()).content[0].text;
    const stream = client.messages.stream(fields());
    let text = "";
    stream.on("text", (piece) => { text += piece; });
    const final = await stream.finalMessage();
    assert.equal(text, whole);
    assert.equal(final.content[0].text, whole);
    assert.equal(final.usage.output_tokens, 16);
  },
  async "a stream that is left is cancelled"() {
    const before = await disconnected(0);
    const stream = client.messages.stream(fields({ max_tokens: 1000 }));
    stream.on("error", () => {});
    for await (const event of stream) { assert.ok(event.type); break; }
    stream.abort();
    await disconnected(before + 1);
  },
  async "a tool is called and its result taken"() {
    const tool_choice = { type: "any", disable_parallel_tool_use: true };
    const called = await ask({ tools: [weather], tool_choice, max_tokens: 64 });
    const use = called.content.at(-1);
    assert.equal(called.stop_reason, "tool_use");
    assert.deepEqual(Object.keys(use.input).sort(), ["city", "unit"]);
    const result = { type: "tool_result", tool_use_id: use.id, content: "12 degrees" };
    const turns = [...messages, { role: "assistant", content: called.content }, { role: "user", content: [result] }];
    const answer = await ask({ messages: turns, tools: [weather], tool_choice: { type: "none" } });
    assert.ok(answer.content[0].text);
  },
  async "a streamed call is the whole one"() {
    const call = { tools: [weather], tool_choice: { type: "tool", name: "get_weather" }, max_tokens: 64 };
    const streamed = (await client.messages.stream(fields(call)).finalMessage()).content.at(-1);
    assert.equal(streamed.type, "tool_use");
    assert.deepEqual(streamed.input, (await ask(call)).content.at(-1).input);
  },
  async "tokens are counted"() {
    const counted = await client.messages.countTokens({ model, messages, system: "You are brief." });
    const { usage } = await ask();
    assert.equal(counted.input_tokens, usage.input_tokens + usage.cache_read_input_tokens);
  },
  async "errors have types"() {
    await assert.rejects(ask({ model: "other" }), (error) => error instanceof Anthropic.NotFoundError && error.type === "not_found_error");
    await assert.rejects(ask({ frobnicate: 1 }), (error) => error instanceof Anthropic.BadRequestError && error.message.includes("frobnicate"));
  },
};

await run(checks);
