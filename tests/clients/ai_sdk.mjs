// The AI SDK against /v1, with zod's schemas: records, streams of objects, tools. What a schema says must hold in what comes back.

import assert from "node:assert/strict";
import { createRequire } from "node:module";

import { run } from "./checks.mjs";

const load = (name) => import(createRequire(process.env.CLIENTS_NODE_MODULES + "/").resolve(name));
const [{ generateObject, generateText, stepCountIs, streamObject, streamText, tool }, { createOpenAICompatible }, { z }] = await Promise.all(
  ["ai", "@ai-sdk/openai-compatible", "zod"].map(load),
);

const provider = createOpenAICompatible({
  name: "worker", baseURL: process.env.CLIENTS_URL + "/v1", apiKey: "none", supportsStructuredOutputs: true, includeUsage: true,
});
const ask = { model: provider("smollm2"), prompt: "Name a person, briefly.", maxOutputTokens: 100, temperature: 0, maxRetries: 0 };

const record = z.object({ r: z.record(z.string(), z.number().int().min(0).max(9)) });

// The tiny model may go on until its tokens are used up; then nothing can be parsed, and that is the only excuse.
async function object(schema) {
  try {
    const { object } = await generateObject({ ...ask, schema });
    schema.parse(object);
    return "whole";
  } catch (error) {
    assert.equal(error.finishReason, "length", String(error.message));
    return "cut";
  }
}

const checks = {
  async "a small object is whole"() {
    assert.equal(await object(z.object({ a: z.enum(["x", "y"]), b: z.boolean().nullable() })), "whole");
  },
  async "records are accepted"() {
    return [await object(record), await object(z.object({ m: z.record(z.string(), z.record(z.string(), z.boolean())) }))].join(" ");
  },
  async "records have the keys of an enum, all or some"() {
    const key = z.enum(["red", "green"]);
    const [whole, some] = [z.record(key, z.boolean()), z.partialRecord(key, z.number().int().min(0).max(9))];
    return [await object(z.object({ whole })), await object(z.object({ some }))].join(" ");
  },
  async "a union and a tuple are held"() {
    const either = z.discriminatedUnion("k", [z.object({ k: z.literal("a"), n: z.number() }), z.object({ k: z.literal("b") })]);
    return [await object(z.object({ x: either })), await object(z.object({ t: z.tuple([z.number().int(), z.boolean()]) }))].join(" ");
  },
  async "an object comes in a stream"() {
    let last;
    const { partialObjectStream } = streamObject({ ...ask, schema: z.object({ ok: z.boolean() }) });
    for await (const part of partialObjectStream) last = part;
    assert.equal(typeof last.ok, "boolean");
  },
  async "a required tool is called"() {
    const inputSchema = z.object({ city: z.enum(["Bern", "Rome"]) });
    const { toolCalls } = await generateText({
      ...ask, toolChoice: "required", tools: { weather: tool({ description: "The weather of a city", inputSchema }) },
    });
    assert.equal(toolCalls[0].toolName, "weather");
    inputSchema.parse(toolCalls[0].input);
  },
  async "a text comes in a stream"() {
    const { textStream, usage } = streamText({ ...ask, maxOutputTokens: 16 });
    let text = "";
    for await (const part of textStream) text += part;
    const whole = await generateText({ ...ask, maxOutputTokens: 16 });
    assert.equal(text, whole.text);
    assert.equal((await usage).outputTokens, 16);
  },
  async "a streamed call has its tool run and its result taken"() {
    const asked = [];
    const execute = async ({ city }) => (asked.push(city), "sunny");
    const weather = tool({ description: "The weather of a city", inputSchema: z.object({ city: z.enum(["Bern", "Rome"]) }), execute });
    const { fullStream, steps } = streamText({
      ...ask, tools: { weather }, stopWhen: stepCountIs(2),
      // A call is forced in the first step, and an answer in the one after it.
      prepareStep: ({ stepNumber }) => ({ toolChoice: stepNumber === 0 ? "required" : "none" }),
    });
    const kinds = new Set();
    for await (const part of fullStream) kinds.add(part.type);
    const [first, second] = await steps;
    assert.ok(asked.length >= 1 && first.toolResults[0].output === "sunny" && second.text, JSON.stringify([asked, second]));
    for (const kind of ["tool-input-delta", "tool-call", "tool-result", "text-delta"]) assert.ok(kinds.has(kind), [...kinds].join(" "));
  },
};

await run(checks);
