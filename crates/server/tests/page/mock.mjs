// Which server does the page talk to when there is no real one? Serves the page's files under the policy that the real server sends,
// and answers GET /health, GET /metrics and POST /v1/chat/completions on the wire that the page relies on, slowly enough to be stopped.

import { createServer } from 'node:http';
import { readFile } from 'node:fs/promises';

const PAGE = new URL('../../page/', import.meta.url);
const TYPES = { html: 'text/html; charset=utf-8', js: 'text/javascript; charset=utf-8', css: 'text/css; charset=utf-8', svg: 'image/svg+xml' };
export const POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const ANSWER = `Mergesort splits, sorts both halves and **merges** them. It is *stable* and takes \`O(n log n)\`.

\`\`\`rust
// Sorts by splitting in two.
fn sort<T: Ord + Clone>(v: &[T]) -> Vec<T> {
    if v.len() < 2 { return v.to_vec(); }
    let (a, b) = v.split_at(v.len() / 2);
    merge(sort(a), sort(b))
}
\`\`\`

1. Split in the middle
2. Sort each half
   - the left one
   - the right one
3. Merge

| sort | worst case | stable |
|------|-----------:|:------:|
| merge | n log n | yes |
| quick | n² | no |

More in [the article](https://en.wikipedia.org/wiki/Merge_sort).
`;

let nToken = 0;
let nRunning = 0;

export function mock() {
  const server = createServer((request, response) => {
    answer(request, response).catch((error) => { response.writeHead(500).end(String(error)); });
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve({
    url: `http://127.0.0.1:${server.address().port}/`,
    close: () => { server.closeAllConnections(); server.close(); },
  })));
}

async function answer(request, response) {
  const { pathname } = new URL(request.url, 'http://mock');
  if (pathname === '/health') return json(response, 200, health());
  if (pathname === '/metrics') return response.end(metrics());
  if (pathname === '/v1/chat/completions') return chat(request, response);
  const name = pathname === '/' ? 'index.html' : /^\/page\/([\w.-]+)$/.exec(pathname)?.[1];
  const body = name && await readFile(new URL(name, PAGE)).catch(() => null);
  if (!body) return json(response, 404, { error: { message: 'There is no such page.' } });
  response.writeHead(200, { 'Content-Type': TYPES[name.split('.').pop()], 'Content-Security-Policy': POLICY, 'X-Content-Type-Options': 'nosniff' });
  response.end(body);
}

const json = (response, status, body) => response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(body));

const health = () => ({
  status: 'healthy', model: 'Qwen2.5-0.5B-Instruct-Q4_K_M', resident: true, quant_kind: 'Q4_K_M', vram_bytes_used: 612_368_384,
  tokenizer_kind: 'gguf-bpe', vocab_size: 151_936, context_length: 32_768, uptime_seconds: 8_130, device: 'NVIDIA H200',
  n_running: nRunning, n_waiting: 0, kv_cache_usage: nRunning ? 0.14 : 0.02,
});

const metrics = () => `# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{model_name="a {b} c"} ${nRunning}
vllm:num_requests_waiting{model_name="a {b} c"} 0
vllm:kv_cache_usage_perc{model_name="a {b} c"} ${nRunning ? 0.14 : 0.02}
worker_tokens_generated_total ${nToken}
worker_vram_bytes 612368384
`;

async function chat(request, response) {
  let text = '';
  for await (const part of request) text += part;
  const body = JSON.parse(text);
  const base = { id: 'chatcmpl-1', object: 'chat.completion.chunk', created: 1, model: 'mock', usage: null };
  const event = (value) => response.write(`data: ${JSON.stringify(value)}\n\n`);
  response.writeHead(200, { 'Content-Type': 'text/event-stream' });
  nRunning++;
  const whole = /count/i.test(body.messages.at(-1).content) ? Array.from({ length: 4000 }, (_, n) => n + 1).join(' ') : ANSWER;
  const tokens = whole.match(/\s*\S{1,6}/g).slice(0, body.max_tokens);
  let n = 0;
  response.write(': keep-alive\n\n');
  event({ ...base, choices: [{ index: 0, delta: { role: 'assistant', content: '' }, finish_reason: null }] });
  for (const content of tokens) {
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (response.destroyed) break;
    event({ ...base, choices: [{ index: 0, delta: { content }, finish_reason: null }] });
    n++;
    nToken++;
  }
  nRunning--;
  if (response.destroyed) return;
  event({ ...base, choices: [{ index: 0, delta: {}, finish_reason: n === body.max_tokens ? 'length' : 'stop' }] });
  event({ ...base, choices: [], usage: { prompt_tokens: 31, completion_tokens: n, total_tokens: 31 + n, prompt_tokens_details: { cached_tokens: 16 } } });
  response.end('data: [DONE]\n\n');
}

if (process.argv[1] === new URL(import.meta.url).pathname) console.log((await mock()).url);
