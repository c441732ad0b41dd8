// How is the server? Asks GET /health and GET /metrics every two seconds while the page can be seen, and shows the answers: state,
// load, cache, memory, and the speed of the whole server over the last two minutes.

import { health, metrics, wantsKey } from './api.js';
import { $, bytes, count, duration, rate } from './dom.js';

const EVERY_MS = 2000;
const N_SAMPLE = 60;
const GAP_MS = 10_000; // After a longer pause (a hidden page) the mean since then is not the speed now.

const STATES = { // What the header says, and the line below it.
  ready: ['Ready', ''],
  loading: ['Loading', 'The model is loading. You can write meanwhile.'],
  draining: ['Shutting down', 'The server is shutting down: it finishes running answers and takes no new ones.'],
  failed: ['Failed', 'The server reports a failure.'],
  unreachable: ['Unreachable', 'The server does not answer. Trying again every two seconds.'],
};

export class Status {
  health = null;
  #rates = Array(N_SAMPLE).fill(null);
  #last = null; // {at, tokens} of the counter, for its slope.
  #timer = 0;
  #busy = false;

  perAnswer = 0; // Tokens a second of an answer, on average; 0 before the first.

  /** `changed` is called when the model, its state or whether it wants a key becomes another one, `polled` after each look. */
  constructor({ changed, polled }) {
    Object.assign(this, { changed, polled });
    document.addEventListener('visibilitychange', () => this.poll());
  }

  async poll() {
    clearTimeout(this.#timer);
    if (document.hidden || this.#busy) return;
    this.#busy = true;
    const [{ state, reason, health: found }, sums] = await Promise.all([health(), metrics()]);
    this.#busy = false;
    this.#timer = setTimeout(() => this.poll(), EVERY_MS);
    const changed = state !== this.state || wantsKey() !== this.wantsKey || (found && found.model !== this.health?.model);
    this.wantsKey = wantsKey();
    this.state = state;
    this.health = found ?? this.health;
    const between = sums?.get('vllm:inter_token_latency_seconds_sum');
    if (between) this.perAnswer = sums.get('vllm:inter_token_latency_seconds_count') / between;
    this.#showState(reason);
    this.#showFigures(sums);
    this.#showSpeed(sums?.get('worker_tokens_generated_total') ?? sums?.get('vllm:generation_tokens_total'));
    if (changed) this.changed();
    this.polled();
  }

  #showState(reason) {
    const [word, line] = STATES[this.state];
    const model = modelName(this.health);
    const whole = this.state === 'failed' && reason ? reason : line;
    const set = (node, text) => { if (node.textContent !== text) node.textContent = text; }; // A live region repeats what is set anew.
    set($('model'), model || 'worker-orcd');
    set($('state-text'), word);
    set($('banner'), whole);
    $('banner').hidden = !whole;
    document.body.dataset.state = this.state;
    document.title = model ? `${model} · worker-orcd` : 'worker-orcd';
  }

  #showFigures(sums) {
    if (this.state === 'unreachable') return; // The last figures stay, greyed.
    const found = this.health ?? {};
    const memory = found.memory_bytes ?? {};
    const n = sums?.get('vllm:num_requests_running') ?? found.n_running;
    const waiting = sums?.get('vllm:num_requests_waiting') ?? found.n_waiting;
    const kv = 100 * Math.min(1, sums?.get('vllm:kv_cache_usage_perc') ?? found.kv_cache_usage ?? 0);
    const used = sums?.get('worker_vram_bytes') || found.vram_bytes_used || Object.values(memory).reduce((a, b) => a + b, 0);
    set('load', n != null && `${count(n)} running${waiting ? `, ${count(waiting)} waiting` : ''}`);
    set('kv-text', this.health && (kv > 0 && kv < 1 ? '<1%' : `${Math.round(kv)}%`));
    $('kv').setAttribute('aria-valuenow', Math.round(kv));
    $('kv').firstChild.style.width = `${kv}%`;
    set('memory', memory.weights ? `${bytes(memory.weights)} model + ${bytes(used - memory.weights)}` : used && bytes(used));
    $('memory').title = memoryParts(found);
    set('device', found.device);
    set('uptime', found.uptime_seconds != null && duration(found.uptime_seconds));
  }

  #showSpeed(tokens) {
    const at = performance.now();
    const last = this.#last;
    this.#last = tokens == null ? null : { at, tokens };
    const usable = last && tokens >= last.tokens && at - last.at < GAP_MS;
    const now = usable ? ((tokens - last.tokens) * 1000) / (at - last.at) : null;
    this.#rates.push(now);
    this.#rates.shift();
    const peak = Math.max(0, ...this.#rates);
    set('rate', now != null && rate(now));
    $('peak').textContent = peak ? `peak ${rate(peak)}` : '';
    const bar = (value, n) => (value == null ? '' : `M${n * 2},32v-${(value ? 1.5 + (30 * value) / peak : 0.75).toFixed(1)}h1.5V32z`);
    $('spark').firstElementChild.setAttribute('d', this.#rates.map(bar).join(''));
    $('spark').setAttribute('aria-label', `Tokens per second of the whole server in the last two minutes: now ${now == null ? 'unknown' : rate(now)}, peak ${rate(peak)}`);
  }
}

/** What the memory is made of. A CPU's KV cache is reserved and becomes resident as it fills. */
const memoryParts = ({ memory_bytes: memory, memory_plan: plan }) => memory ? [
  `weights ${bytes(memory.weights)}`,
  `KV cache ${bytes(memory.kv_cache)}${plan ? ` for ${count(plan.kv_cache_positions)} positions (${count(plan.sequences)} sequences of up to ${count(plan.context_length)})` : ''}`,
  ...(memory.state ? [`state ${bytes(memory.state)}`] : []),
  `activations ${bytes(memory.activations)}`,
].join(', ') : '';

const set = (id, text) => { $(id).textContent = text || '–'; };

/** A model's name without its folder and its file's ending. */
export const modelName = (found) => String(found?.model ?? '').split(/[\\/]/).pop().replace(/\.gguf$/i, '');
