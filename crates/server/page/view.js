// How do messages look? One view for each message: it shows what the message holds and calls back for what its buttons do.
// Also following: the log stays at its end while an answer grows, unless the reader has scrolled up.

import { copyButton, count, el, icon, iconButton, milliseconds, rate } from './dom.js';
import { Markdown } from './markdown.js';

/** A reader's message. `actions.resend(text)` sends it anew in its place. */
export class UserView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.root = el('article', { class: 'user', 'aria-label': 'You' });
    this.show();
  }

  show() {
    this.edit = iconButton('edit', 'Edit and send again', () => this.startEdit());
    this.text = el('div', { class: 'text', text: this.message.content });
    this.root.replaceChildren(this.text, el('div', { class: 'tools' }, copyButton('Copy message', () => this.message.content), this.edit));
    this.setLast(this.last);
  }

  /** Only the last message can be edited, and not while it is being answered. */
  setLast(last) {
    this.last = last;
    this.edit.hidden = !last;
  }

  startEdit() {
    if (!this.last) return;
    const area = el('textarea', { 'aria-label': 'Edit message', rows: 1, enterkeyhint: 'send' });
    area.value = this.message.content;
    const stop = () => { this.show(); this.edit.focus(); };
    const send = () => { if (area.value.trim()) this.actions.resend(area.value.trim()); };
    area.addEventListener('keydown', (event) => {
      if (event.key === 'Escape') { event.stopPropagation(); stop(); }
      if (sends(event)) { event.preventDefault(); send(); }
    });
    area.addEventListener('input', () => fit(area));
    const form = el('form', { class: 'edit', on: { submit: (event) => { event.preventDefault(); send(); } } }, area,
      el('div', { class: 'buttons' }, el('button', { type: 'button', text: 'Cancel', on: { click: stop } }), el('button', { class: 'primary', text: 'Send' })));
    this.root.replaceChildren(form);
    fit(area);
    area.focus();
  }
}

/** Enter alone sends, but not the Enter that ends the composition of a character. */
export const sends = (event) => event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229;

/** Makes a text area as tall as its text; its style sheet bounds it. */
export function fit(area) {
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
}

/** An answer: its takes, of which one is shown. `actions`: again(), turn(by), key(), curl(). */
export class AnswerView {
  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.root = el('article', { class: 'answer', 'aria-label': 'Answer' });
    this.build();
  }

  get take() {
    return this.message.takes[this.message.at];
  }

  build() {
    this.built = this.take;
    this.announced = 0;
    this.summary = el('span');
    this.thought = el('div', { class: 'thought' });
    this.reasoning = el('details', { hidden: true }, el('summary', {}, icon('right'), this.summary), this.thought);
    const body = el('div', { class: 'prose' });
    this.markdown = new Markdown(body);
    this.problem = el('div', { class: 'problem', role: 'alert', hidden: true });
    this.stats = el('span', { class: 'stats' });
    this.takes = el('span', { class: 'takes', hidden: true });
    this.again = iconButton('again', 'Regenerate', () => this.actions.again());
    this.tools = el('div', { class: 'tools' }, copyButton('Copy answer', () => this.take.content), this.again,
      copyButton('Copy this request as a curl command', () => this.actions.curl(), 'code'), this.takes);
    this.root.replaceChildren(this.reasoning, body, this.problem, el('footer', {}, this.stats, this.tools));
    this.refresh(false);
  }

  /** Shows the take as it is now; `live` is the state of a generation in progress. */
  refresh(live) {
    if (this.built !== this.take) { this.build(); return; }
    const { content, reasoning, thoughtMs, problem } = this.take;
    this.root.classList.toggle('live', Boolean(live));
    this.root.classList.toggle('waiting', Boolean(live) && !content && !reasoning);
    this.root.setAttribute('aria-busy', String(Boolean(live)));
    this.markdown.update(content, Boolean(live));
    this.reasoning.hidden = !reasoning;
    if (reasoning) {
      if (this.thought.textContent.length !== reasoning.length) this.thought.textContent = reasoning;
      this.summary.textContent = live && !content ? 'Thinking' : thoughtMs ? `Thought for ${milliseconds(thoughtMs)}` : 'Thoughts';
      this.reasoning.classList.toggle('thinking', Boolean(live && !content));
    }
    const stats = live ? this.running(live) : this.final();
    if (this.stats.textContent !== stats) this.stats.textContent = stats;
    this.tools.hidden = Boolean(live);
    this.showTakes();
    if (this.shownProblem !== problem) this.showProblem(problem);
  }

  running({ n, ttft, rate: now, since }) {
    if (ttft == null) return since > 1500 ? `waiting ${(since / 1000).toFixed(0)} s` : '';
    return [`${count(n)} tokens`, now && `${rate(now)} tokens/s`, `first after ${milliseconds(ttft)}`].filter(Boolean).join('  ·  ');
  }

  final() {
    const { stats, stopped, finish } = this.take;
    const parts = [];
    if (stats) {
      parts.push(`${count(stats.n)} token${stats.n === 1 ? '' : 's'}`);
      if (stats.rate) parts.push(`${rate(stats.rate)} tokens/s`);
      if (stats.ttft != null) parts.push(`first after ${milliseconds(stats.ttft)}`);
      if (stats.prompt) parts.push(`prompt ${count(stats.prompt)}${stats.cached ? ` (${count(stats.cached)} cached)` : ''}`);
    }
    if (stopped) parts.push('stopped');
    if (finish === 'length') parts.push('cut off at the token limit');
    return parts.join('  ·  ');
  }

  showTakes() {
    const { takes, at } = this.message;
    this.takes.hidden = takes.length < 2;
    if (takes.length < 2) return;
    const key = `${at + 1} / ${takes.length}`;
    if (this.takes.textContent === key) return;
    const turn = (name, label, by) => {
      const button = iconButton(name, label, () => this.actions.turn(by));
      button.disabled = at + by < 0 || at + by >= takes.length;
      return button;
    };
    this.takes.replaceChildren(turn('left', 'Earlier answer', -1), el('span', { text: key }), turn('right', 'Later answer', 1));
  }

  showProblem(problem) {
    this.shownProblem = problem;
    this.problem.hidden = !problem;
    if (!problem) return;
    const again = el('button', { type: 'button', text: 'Try again', on: { click: () => this.actions.again() } });
    const rest = problem.status === 401 ? this.actions.key() : el('div', { class: 'buttons' }, again);
    this.problem.replaceChildren(el('p', { text: problem.message }), rest);
  }

  /** The texts of blocks that are finished and not announced yet. */
  news(live) {
    const nodes = live ? this.markdown.finished : this.markdown.nodes;
    const fresh = nodes.slice(this.announced).map((node) => {
      const code = node.matches('.code') && node.querySelector('code');
      return code ? `Code block, ${code.textContent.split('\n').length} lines.` : node.textContent;
    });
    this.announced = Math.max(this.announced, nodes.length);
    return fresh;
  }
}

/** Keeps a scrolled element at its end until its reader scrolls up, and again once they are back at the end. */
export class Follow {
  constructor(scroller, latest) {
    this.scroller = scroller;
    this.latest = latest;
    this.following = true;
    this.top = 0;
    scroller.addEventListener('scroll', () => this.onScroll(), { passive: true });
    latest.addEventListener('click', () => this.toEnd());
    new ResizeObserver(() => this.keep()).observe(scroller);
  }

  get rest() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  // Growth never lowers scrollTop, so a lower one is the reader's doing, however fast the answer grows.
  onScroll() {
    const { scrollTop } = this.scroller;
    if (this.rest < 16) this.following = true;
    else if (scrollTop < this.top - 1) this.following = false;
    this.top = scrollTop;
    this.latest.hidden = this.rest < 120;
  }

  keep() {
    if (this.following) this.scroller.scrollTop = this.scroller.scrollHeight;
    this.latest.hidden = this.following || this.rest < 120;
  }

  toEnd() {
    this.following = true;
    this.keep();
  }
}
