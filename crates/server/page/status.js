// How is the server? Asks GET /health and GET /metrics every two seconds while the page can be seen, and shows the answers: state,
// load, cache, memory, and the speed of the whole server over the last two minutes.

import { health, metrics } from './api.js';
import { bytes, count, duration, rate } from './dom.js';

const EVERY_MS = 2000;
const N_SAMPLE = 60;
const GAP_MS = 10_000; // After a longer pause (a hidden page) the mean since then would be shown as if it were now.

const WORDS = { connecting: 'Connecting', ready: 'Ready', loading: 'Loading', draining: 'Shutting down', failed: 'Failed', unreachable: 'Unreachable' };
const BANNERS = {
  loading: 'The model is loading. You can write meanwhile.',
  draining: 'The server is shutting down: it finishes running answers and takes no new ones.',
  failed: 'The server reports a failure.',
  unreachable: 'The server does not answer. Trying again every two seconds.',
};

const $ = (id) => document.getElementById(id);

export class Status extends EventTarget {
  state = 'connecting';
  health = null;
  #rates = Array(N_SAMPLE).fill(null);
  #last = null; // {at, tokens} of the counter, for its slope.
  #timer = 0;
  #busy = false;

  start() {
    document.addEventListener('visibilitychange', () => this.poll());
    addEventListener('online', () => this.poll());
    this.poll();
  }

  async poll() {
    clearTimeout(this.#timer);
    if (document.hidden || this.#busy) return;
    this.#busy = true;
    const [state, sums] = await Promise.all([health(), metrics()]);
    this.#busy = false;
    this.#take(state, sums);
    this.#timer = setTimeout(() => this.poll(), EVERY_MS);
  }

  #take({ state, reason, health: found }, sums) {
    const changed = state !== this.state || found?.model !== this.health?.model;
    this.state = state;
    if (found && state !== 'loading') this.health = { ...this.health, ...found };
    this.#sample(sums?.get('worker_tokens_generated_total') ?? sums?.get('vllm:generation_tokens_total'));
    this.#showState(reason);
    this.#showFigures(sums);
    if (changed) this.dispatchEvent(new Event('change'));
  }

  #sample(tokens) {
    const at = performance.now();
    const last = this.#last;
    this.#last = tokens == null ? null : { at, tokens };
    const usable = last && tokens >= last.tokens && at - last.at < GAP_MS;
    this.#rates.push(usable ? ((tokens - last.tokens) * 1000) / (at - last.at) : null);
    this.#rates.shift();
  }

  #showState(reason) {
    const model = modelName(this.health);
    $('model').textContent = model || 'worker-orcd';
    $('state-text').textContent = WORDS[this.state];
    $('state').dataset.state = this.state;
    document.title = model ? `${model} · worker-orcd` : 'worker-orcd';
    const banner = $('banner');
    const text = BANNERS[this.state] ?? '';
    const whole = this.state === 'failed' && reason ? `${text} ${reason}` : text;
    if (banner.textContent !== whole) banner.textContent = whole;
    banner.hidden = !whole;
    banner.dataset.state = this.state;
  }

  #showFigures(sums) {
    const found = this.health ?? {};
    const stale = this.state === 'unreachable';
    $('server').classList.toggle('stale', stale);
    if (stale) return this.#showSpeed();
    const running = sums?.get('vllm:num_requests_running') ?? found.n_running;
    const waiting = sums?.get('vllm:num_requests_waiting') ?? found.n_waiting;
    const kv = sums?.get('vllm:kv_cache_usage_perc') ?? found.kv_cache_usage;
    const vram = sums?.get('worker_vram_bytes') ?? found.vram_bytes_used;
    set('load', running == null ? null : `${count(running)} running${waiting ? `, ${count(waiting)} waiting` : ''}`);
    const percent = kv == null ? null : Math.min(100, Math.max(0, kv * 100));
    set('kv-text', percent == null ? null : percent > 0 && percent < 1 ? '<1%' : `${Math.round(percent)}%`);
    $('kv').setAttribute('aria-valuenow', Math.round(percent ?? 0));
    $('kv').firstElementChild.style.width = `${percent ?? 0}%`;
    set('memory', vram ? `${bytes(vram)}${found.resident ? ' resident' : ''}` : null);
    set('device', deviceName(found.device));
    set('uptime', found.uptime_seconds == null ? null : duration(found.uptime_seconds));
    this.#showSpeed();
  }

  #showSpeed() {
    const now = this.#rates.at(-1);
    const peak = Math.max(0, ...this.#rates);
    set('rate', now == null ? null : now === 0 ? '0' : rate(now));
    $('peak').textContent = peak ? `peak ${rate(peak)}` : '';
    const step = 120 / (N_SAMPLE - 1);
    const known = this.#rates.map((value, n) => [n * step, 31 - (29 * (value ?? 0)) / (peak || 1), value]).filter(([, , value]) => value != null);
    const line = known.map(([x, y]) => `${x.toFixed(1)},${y.toFixed(1)}`).join(' ');
    const [area, stroke] = $('spark').children;
    stroke.setAttribute('points', line);
    area.setAttribute('points', known.length ? `${known[0][0].toFixed(1)},32 ${line} ${known.at(-1)[0].toFixed(1)},32` : '');
    $('spark').setAttribute('aria-label', `Tokens per second of the whole server: now ${now == null ? 'unknown' : rate(now)}, peak ${rate(peak)} in two minutes`);
  }
}

const set = (id, text) => { $(id).textContent = text ?? '–'; };

const deviceName = (device) => (device && typeof device === 'object' ? device.name ?? device.kind : device);

/** A model's name without its folder and its file's ending. */
export const modelName = (found) => String(found?.model ?? '').split(/[\\/]/).pop().replace(/\.gguf$/i, '');

/** What is known of the model, in a few words. */
export function modelFacts(found) {
  if (!found) return [];
  return [found.quant_kind, found.context_length && `${count(found.context_length)} tokens of context`, deviceName(found.device)].filter(Boolean);
}
