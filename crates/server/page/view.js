// How do messages look? A view shows what its message holds and calls back for what its buttons do. Also following: the log stays at
// its end while an answer grows, unless the reader has scrolled up.

import { copyButton, count, el, icon, iconButton, milliseconds, rate } from './dom.js';
import { Markdown } from './markdown.js';

/** Enter alone sends, but not the Enter that ends the composition of a character. */
export const sends = (event) => event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229;

/** Makes a text area as tall as its text; the style sheet bounds it. */
export function fit(area) {
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
}

/** A reader's message. `resend(text)` sends it anew in its place. */
export class UserView {
  root = el('article', { class: 'user', 'aria-label': 'You' });

  constructor(message, resend) {
    this.message = message;
    this.resend = resend;
    this.show();
  }

  show() {
    this.edit = iconButton('edit', 'Edit and send again', () => this.startEdit());
    this.root.replaceChildren(el('div', { class: 'said', text: this.message.content }),
      el('div', { class: 'tools' }, copyButton('Copy message', () => this.message.content), this.edit));
    this.setEditable(this.editable);
  }

  setEditable(editable) {
    this.editable = editable;
    this.edit.hidden = !editable;
  }

  startEdit() {
    const area = el('textarea', { 'aria-label': 'Edit message', rows: 1, enterkeyhint: 'send' });
    const stop = () => { this.show(); this.edit.focus(); };
    const send = (event) => { event.preventDefault(); if (area.value.trim()) this.resend(area.value.trim()); };
    const keydown = (event) => {
      if (event.key === 'Escape') { event.stopPropagation(); stop(); }
      if (sends(event)) send(event);
    };
    area.value = this.message.content;
    area.addEventListener('keydown', keydown);
    area.addEventListener('input', () => fit(area));
    this.root.replaceChildren(el('form', { class: 'edit', on: { submit: send } }, area, el('div', { class: 'buttons' },
      el('button', { type: 'button', text: 'Cancel', on: { click: stop } }), el('button', { class: 'primary', text: 'Send' }))));
    fit(area);
    area.focus();
  }
}

/** An answer. `actions`: again() regenerates, curl() is its request as a command, keyForm() asks for a key. */
export class AnswerView {
  root = el('article', { class: 'answer', 'aria-label': 'Answer' });
  summary = el('span');
  thought = el('div', { class: 'thought' });
  reasoning = el('details', { hidden: true }, el('summary', {}, icon('right'), this.summary), this.thought);
  prose = el('div', { class: 'prose' });
  problem = el('div', { class: 'problem', role: 'alert', hidden: true });
  stats = el('span', { class: 'stats' });
  markdown = new Markdown(this.prose);
  announced = 0;

  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.again = iconButton('again', 'Regenerate', actions.again);
    this.tools = el('div', { class: 'tools' }, copyButton('Copy answer', () => message.content), this.again,
      copyButton('Copy the request as a curl command', actions.curl, 'code'));
    this.root.append(this.reasoning, this.prose, this.problem, el('footer', {}, this.tools, this.stats));
    this.refresh();
  }

  /** Shows the message as it is now; `live` is the state of a generation in progress. */
  refresh(live) {
    const { content, reasoning, thoughtMs, problem } = this.message;
    const thinking = Boolean(live && !content);
    this.root.classList.toggle('waiting', thinking && !reasoning);
    this.root.classList.toggle('thinking', thinking);
    this.root.setAttribute('aria-busy', Boolean(live));
    this.markdown.update(content, Boolean(live));
    if (!content) this.announced = 0;
    this.reasoning.hidden = !reasoning;
    if (this.thought.textContent.length !== reasoning.length) this.thought.textContent = reasoning;
    this.summary.textContent = thinking ? 'Thinking' : thoughtMs > 50 ? `Thought for ${milliseconds(thoughtMs)}` : 'Thoughts';
    this.stats.textContent = (live ? this.running(live) : this.final()).filter(Boolean).join('  ·  ');
    this.tools.hidden = Boolean(live);
    if (this.shownProblem !== problem) this.showProblem(problem);
  }

  running({ n, ttft, rate: now, since }) {
    if (ttft == null) return [since > 1500 && `waiting ${Math.floor(since / 1000)} s`];
    return [`${count(n)} tokens`, now && `${rate(now)} tokens/s`, `first after ${milliseconds(ttft)}`];
  }

  final() {
    const { stopped, finish } = this.message;
    const stats = this.message.stats ?? {};
    return [
      stats.n && `${count(stats.n)} token${stats.n === 1 ? '' : 's'}`,
      stats.rate && `${rate(stats.rate)} tokens/s`,
      stats.ttft != null && `first after ${milliseconds(stats.ttft)}`,
      stats.prompt && `prompt ${count(stats.prompt)}${stats.cached ? ` (${count(stats.cached)} cached)` : ''}`,
      stopped && 'stopped',
      finish === 'length' && 'cut off at the token limit',
    ];
  }

  showProblem(problem) {
    this.shownProblem = problem;
    this.problem.hidden = !problem;
    if (problem) this.problem.replaceChildren(el('p', { text: problem.message }), problem.status === 401 ? this.actions.keyForm()
      : el('button', { type: 'button', text: 'Try again', on: { click: this.actions.again } }));
  }

  /** The texts of blocks that are finished and were not announced yet. */
  news(live) {
    const nodes = this.markdown.nodes.slice(0, live ? -1 : undefined);
    const fresh = nodes.slice(this.announced);
    this.announced = Math.max(this.announced, nodes.length);
    return fresh.map((node) => (node.matches('.code') ? 'Code block.' : node.textContent));
  }
}

/** Keeps a scrolled element at its end until its reader scrolls up, and again once they are back at the end. */
export class Follow {
  following = true;
  top = 0;

  constructor(scroller, latest) {
    this.scroller = scroller;
    this.latest = latest;
    scroller.addEventListener('scroll', () => this.moved(), { passive: true });
    latest.addEventListener('click', () => this.toEnd());
    new ResizeObserver(() => this.keep()).observe(scroller);
  }

  get rest() {
    const { scrollHeight, scrollTop, clientHeight } = this.scroller;
    return scrollHeight - scrollTop - clientHeight;
  }

  // Growth never lowers scrollTop, so a lower one is the reader's doing, however fast the answer grows.
  moved() {
    const { scrollTop } = this.scroller;
    if (this.rest < 16) this.following = true;
    else if (scrollTop < this.top - 1) this.following = false;
    this.top = scrollTop;
    this.latest.hidden = this.following || this.rest < 120;
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
