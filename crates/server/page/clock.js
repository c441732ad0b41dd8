// How fast is an answer? While it comes each event counts as a token; in the end the server's own count is taken.

export class Clock {
  start = performance.now();
  live = { n: 0, rate: 0, since: 0 }; // What a view shows meanwhile.
  #marks = []; // {at, n} of the last two seconds, for the speed now.

  /** `message` gets the time that it thought. */
  constructor(message) {
    this.message = message;
  }

  count({ content, reasoning, calls, usage, timings }) {
    const { live, message } = this;
    if (content || reasoning || calls) {
      this.last = performance.now();
      this.first ??= this.last;
      live.n++;
      live.ttft ??= this.last - this.start;
      if (!reasoning && message.reasoning) message.thoughtMs ??= this.last - this.first;
    }
    this.usage = usage ?? this.usage;
    this.timings = timings ?? this.timings;
  }

  tick() {
    const { live } = this;
    const at = performance.now();
    live.since = at - this.start;
    this.#marks = [...this.#marks.slice(-8), { at, n: live.n }];
    const { at: oldest, n } = this.#marks[0];
    const ms = at - Math.max(oldest, this.first ?? at);
    if (ms > 200) live.rate = ((live.n - n) * 1000) / ms;
  }

  /** What stays: {n, ttft, rate, prompt, cached}, or null where nothing came. */
  stats() {
    const { message, live } = this;
    const n = this.usage?.completion_tokens ?? live.n;
    const ms = this.last - this.first;
    if (!n) return null;
    if (message.reasoning) message.thoughtMs ??= ms;
    return {
      n, ttft: live.ttft, rate: this.timings?.predicted_per_second ?? (n > 4 && ms > 0 ? ((n - 1) * 1000) / ms : null),
      prompt: this.usage?.prompt_tokens, cached: this.usage?.prompt_tokens_details?.cached_tokens,
    };
  }
}
