// What is the API asked? From the messages of a branch and the settings to the body of POST /v1/chat/completions.

import { address } from './api.js';
import { apiKey, settings } from './store.js';
import { path } from './tree.js';

/** The tools that the settings hold: {tools} or {problem}, in words. None is neither. */
export function tools(text = settings.tools) {
  if (!text.trim()) return {};
  let found;
  try {
    found = JSON.parse(text);
  } catch (error) {
    return { problem: `not sent: no JSON (${error.message})` };
  }
  if (!Array.isArray(found)) return { problem: 'not sent: expected a list, [{"type": "function", "function": {...}}]' };
  const wrong = found.findIndex((tool) => tool?.type !== 'function' || typeof tool.function?.name !== 'string');
  return wrong < 0 ? { tools: found } : { problem: `not sent: tool ${wrong + 1} is not {"type": "function", "function": {"name": ...}}` };
}

/** What the settings say now. An answer keeps it, so that it can be asked for again as it was. */
export function asked(more = {}) {
  const { tools: list } = tools();
  return {
    ...(settings.system.trim() && { system: settings.system.trim() }),
    ...(list?.length && { tools: list }),
    sampling: { ...settings.sampling, ...more },
    ...(settings.receipt && { receipt: true }),
  };
}

/** A seed of an answer's own, exact in JSON whatever reads it. */
export const anySeed = () => crypto.getRandomValues(new Uint32Array(1))[0];

/** The body for `answer`, the last message of its branch. */
export function body(conversation, answer) {
  const { system, tools: list, sampling, receipt } = answer.asked ?? asked();
  const turns = system ? [{ role: 'system', content: system }] : [];
  for (const message of path(conversation, answer).slice(0, -1)) turn(turns, message);
  return {
    messages: turns, ...(list && { tools: list }), ...sampling, ...(receipt && { receipt }), stream: true, stream_options: { include_usage: true },
  };
}

/** Two turns of one side in a row, as after an error, become one. */
function turn(turns, message) {
  const { role, calls, callId } = message;
  const content = text(message);
  const last = turns.at(-1);
  if (role === 'tool') turns.push({ role, tool_call_id: callId, content });
  else if (calls?.length) {
    const function_ = ({ name, arguments: words }) => ({ name, arguments: words });
    turns.push({ role, content, tool_calls: calls.map((call) => ({ id: call.id, type: 'function', function: function_(call) })) });
  } else if (content && last?.role === role && !last.tool_calls) last.content += `\n\n${content}`;
  else if (content) turns.push({ role, content });
}

/** A message's files, then its text. A fence is longer than any in the file. */
export function text({ content, files = [] }) {
  const parts = files.map(({ name, text: inside }) => {
    const longest = Math.max(2, ...(inside.match(/`{3,}/g) ?? []).map((run) => run.length));
    const fence = '`'.repeat(longest + 1);
    return `File ${name}:\n${fence}\n${inside.replace(/\n$/, '')}\n${fence}`;
  });
  return [...parts, content].filter(Boolean).join('\n\n');
}

/** The request of an answer as a command. */
export function curl(conversation, answer) {
  const quoted = (words) => `'${words.replaceAll("'", "'\\''")}'`;
  const key = apiKey() && ' -H "Authorization: Bearer $API_KEY"';
  const data = JSON.stringify(body(conversation, answer));
  return `curl -N ${quoted(address('v1/chat/completions'))} -H 'Content-Type: application/json'${key} -d ${quoted(data)}`;
}
