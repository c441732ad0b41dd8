// What does the server say? Requests relative to the page, so that a path prefix in front of both changes nothing; answers as
// server-sent events (the stream of POST /v1/chat/completions), JSON (GET /health) and Prometheus text (GET /metrics).

import { apiKey } from './store.js';

export const address = (path) => new URL(path, document.baseURI).href;

export class ApiError extends Error {
  constructor(message, status = 0) {
    super(message);
    this.status = status;
  }
}

const withKey = (headers = {}) => (apiKey() ? { ...headers, Authorization: `Bearer ${apiKey()}` } : headers);

async function failure(response) {
  const text = (await response.text().catch(() => '')).slice(0, 4000);
  let message = text.startsWith('<') ? '' : text;
  try {
    const { error } = JSON.parse(text);
    message = typeof error === 'string' ? error : error.message;
  } catch { /* Not JSON: a gateway's own words. */ }
  const plain = { 401: 'The server asks for an API key.', 413: 'The conversation is too long for the server.', 429: 'The server has too many requests.' };
  return new ApiError(message || plain[response.status] || `The server answered ${response.status} ${response.statusText}`.trim(), response.status);
}

/** Streams one answer as {content, reasoning, finish, usage, timings}; each event has some of these. */
export async function* chat(body, signal) {
  let response;
  try {
    response = await fetch(address('v1/chat/completions'), {
      method: 'POST', signal, cache: 'no-store', headers: withKey({ 'Content-Type': 'application/json' }), body: JSON.stringify(body),
    });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new ApiError('The server could not be reached.');
  }
  if (!response.ok) throw await failure(response);
  let finished = false;
  try {
    for await (const data of events(response.body)) {
      if (data === '[DONE]') return;
      let chunk;
      try { chunk = JSON.parse(data); } catch { throw new ApiError('The server sent an event that is no JSON.'); }
      if (chunk.error) throw new ApiError(chunk.error.message || 'The server reported an error.', Number(chunk.error.code) || 0);
      const choice = chunk.choices?.[0];
      finished ||= Boolean(choice?.finish_reason);
      yield {
        content: choice?.delta?.content || '',
        reasoning: choice?.delta?.reasoning_content || choice?.delta?.reasoning || '',
        finish: choice?.finish_reason, usage: chunk.usage, timings: chunk.timings,
      };
    }
  } catch (error) {
    if (signal.aborted || error instanceof ApiError) throw error;
    throw new ApiError('The connection broke off before the answer was whole.');
  }
  if (!finished) throw new ApiError('The stream ended before the answer was whole.');
}

/** The data of each server-sent event. Comments keep the connection alive and say nothing. */
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
      for (let line of lines) {
        if (line.endsWith('\r')) line = line.slice(0, -1);
        if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5));
        else if (line === '' && data.length) {
          yield data.join('\n');
          data = [];
        }
      }
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

const POLL_MS = 5000;

/** {state: ready | loading | draining | failed | unreachable, reason, health}; never throws. */
export async function health() {
  let response, body;
  try {
    response = await fetch(address('health'), { cache: 'no-store', headers: withKey(), signal: AbortSignal.timeout(POLL_MS) });
    body = JSON.parse(await response.text());
  } catch {
    return { state: response && response.status < 500 ? 'failed' : 'unreachable', reason: '', health: null };
  }
  const reason = typeof body.error === 'string' ? body.error : body.error?.message ?? body.reason ?? body.message ?? '';
  const words = `${body.status ?? ''} ${reason}`.toLowerCase();
  let state = 'failed';
  if (/drain|shutting/.test(words)) state = 'draining';
  else if (/loading|starting/.test(words)) state = 'loading';
  else if (response.ok && /^(healthy|ok|ready)?\s*$/.test(words.trim())) state = 'ready';
  return { state, reason, health: body };
}

/** The metrics' sums over labels by name, or null where they cannot be read (no key yet, an old server). */
export async function metrics() {
  try {
    const response = await fetch(address('metrics'), { cache: 'no-store', headers: withKey(), signal: AbortSignal.timeout(POLL_MS) });
    if (!response.ok) return null;
    const sums = new Map();
    for (const line of (await response.text()).split('\n')) {
      const name = /^[a-zA-Z_:][\w:]*/.exec(line)?.[0];
      if (!name) continue;
      const value = Number(line.slice(Math.max(name.length, line.lastIndexOf('}') + 1)).trim().split(/\s+/)[0]);
      if (Number.isFinite(value)) sums.set(name, (sums.get(name) ?? 0) + value);
    }
    return sums;
  } catch {
    return null;
  }
}
