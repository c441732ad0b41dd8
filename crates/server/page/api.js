// What does the server say? Requests relative to the page, so that a path prefix in front of both changes nothing; answers as
// server-sent events (POST /v1/chat/completions), JSON (GET /health) and Prometheus text (GET /metrics).

import { apiKey } from './store.js';

const POLL_MS = 5000;

export const address = (path) => new URL(path, document.baseURI).href;

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

/** A server's message as a sentence: its own begin small, as they may stand in the middle of others. */
const sentence = (text) => text.replace(/^[a-z]+(?=\s)/, (word) => word[0].toUpperCase() + word.slice(1)).replace(/[\p{L}\p{N})`'"]$/u, '$&.');

function send(path, options) {
  const headers = { ...options.headers };
  if (apiKey()) headers.Authorization = `Bearer ${apiKey()}`;
  return fetch(address(path), { cache: 'no-store', ...options, headers });
}

async function failure(response) {
  const text = (await response.text().catch(() => '')).trim().slice(0, 2000);
  let message = text.startsWith('<') ? '' : text; // A gateway's own page says nothing that its status does not.
  try {
    const { error } = JSON.parse(text);
    message = error.message ?? error;
  } catch { /* Not JSON: the text itself. */ }
  if (!message && response.status === 401) message = 'The server asks for an API key.';
  return new ApiError(sentence(message || `The server answered ${response.status} ${response.statusText}`.trim()), response.status);
}

/** Streams one answer as events of {content, reasoning, calls, finish, seed, receipt, usage, timings}. */
export async function* chat(body, signal) {
  let whole = false;
  let met = false;
  try {
    const response = await send('v1/chat/completions', {
      method: 'POST', signal, headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
    });
    met = true;
    if (!response.ok) throw await failure(response);
    for await (const data of events(response.body)) {
      if (data === '[DONE]') break;
      const { choices, usage, timings, error } = JSON.parse(data);
      if (error) throw new ApiError(sentence(error.message || 'The server reported an error'), Number(error.code) || 0);
      const { delta = {}, finish_reason: finish, seed, receipt } = choices?.[0] ?? {};
      whole ||= Boolean(finish);
      const reasoning = delta.reasoning_content || delta.reasoning || '';
      yield { content: delta.content || '', reasoning, calls: delta.tool_calls, finish, seed, receipt, usage, timings };
    }
  } catch (error) {
    if (signal.aborted || error instanceof ApiError) throw error;
    throw new ApiError(met ? 'The connection broke off before the answer was whole.' : 'The server could not be reached.');
  }
  if (!whole) throw new ApiError('The stream ended before the answer was whole.');
}

/** The data of each server-sent event; comments only keep the connection alive. */
async function* events(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  let data = [];
  try {
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      const lines = (rest + value).split('\n');
      rest = lines.pop();
      for (const line of lines.map((line) => line.replace(/\r$/, ''))) {
        if (line.startsWith('data:')) data.push(line.slice(5).trimStart());
        else if (!line && data.length) {
          yield data.join('\n');
          data = [];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const ask = (path) => send(path, { signal: AbortSignal.timeout(POLL_MS) });

/** {state: ready | loading | draining | failed | unreachable, reason, health}; never throws. */
export async function health() {
  try {
    const response = await ask('health');
    const found = await response.json();
    const reason = sentence(String(found.error?.message ?? found.error ?? ''));
    const words = `${found.phase ?? found.status ?? ''} ${reason}`;
    const state = /drain|shutting/i.test(words) ? 'draining' : /loading/i.test(words) ? 'loading' : response.ok ? 'ready' : 'failed';
    return { state, reason, health: found.model ? found : null };
  } catch {
    return { state: 'unreachable', reason: '', health: null };
  }
}

/** The served model as GET /v1/models has it, with the defaults in effect; null where it cannot be read, as without a key. */
export async function model() {
  try {
    const response = await ask('v1/models');
    return response.ok ? (await response.json()).data[0] : null;
  } catch {
    return null;
  }
}

/** The description of the API; throws. */
export async function openapi() {
  const response = await ask('openapi.json');
  if (!response.ok) throw await failure(response);
  return response.json();
}

let refused = null; // {key, status} of metrics that were refused: asking again with the same key would only fill the console.

/** Whether the server wants a key: `one` where there is none yet, `another` than the one that is here, or nothing. */
export const wantsKey = () => (refused?.status !== 401 || refused.key !== apiKey() ? '' : refused.key ? 'another' : 'one');

/** The metrics by name, summed over labels; null where they cannot be read, as without a key. */
export async function metrics() {
  if (refused?.key === apiKey()) return null;
  const key = apiKey();
  try {
    const response = await ask('metrics');
    refused = [401, 403, 404].includes(response.status) ? { key, status: response.status } : null;
    if (!response.ok) return null;
    const sums = new Map();
    for (const line of (await response.text()).split('\n')) {
      const name = /^[a-zA-Z_:][\w:]*/.exec(line)?.[0];
      if (!name) continue;
      const value = parseFloat(line.slice(Math.max(name.length, line.lastIndexOf('}') + 1)));
      if (Number.isFinite(value)) sums.set(name, (sums.get(name) ?? 0) + value);
    }
    return sums;
  } catch {
    return null;
  }
}
