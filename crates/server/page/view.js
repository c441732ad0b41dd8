// How do messages look? A view shows what its message holds and calls back for what its buttons do. Also following: the log stays at
// its end while an answer grows, unless the reader has scrolled up.

import { bytes, copyButton, count, el, icon, iconButton, milliseconds, pre, rate } from './dom.js';
import { Markdown } from './markdown.js';

/** Enter alone sends, but not the Enter that ends the composition of a character. */
export const sends = (event) => event.key === 'Enter' && !event.shiftKey && !event.isComposing && event.keyCode !== 229;

/** Makes a text area as tall as its text; the style sheet bounds it. */
export function fit(area) {
  area.style.height = 'auto';
  area.style.height = `${area.scrollHeight + area.offsetHeight - area.clientHeight}px`;
}

/** Which of the versions of a message is shown, with buttons to the others. `choose(message)` shows another. */
function versionsNode({ message, all, choose }) {
  if (all.length < 2) return null;
  const at = all.indexOf(message);
  const button = (name, label, to) => {
    const made = iconButton(name, label, () => choose(all[to]));
    made.disabled = !all[to];
    return made;
  };
  return el('span', { class: 'versions', role: 'group', 'aria-label': 'Versions' },
    button('left', 'Earlier version', at - 1), el('span', { text: `${at + 1} of ${all.length}` }), button('right', 'Later version', at + 1));
}

/** A file of a message: its name, and its text where it is asked for. */
const fileNode = ({ name, text }) => el('details', { class: 'file' },
  el('summary', {}, icon('clip'), el('span', { text: name }), el('small', { text: bytes(new Blob([text]).size) })),
  pre(`Text of ${name}`, el('code', { text })));

/** A reader's message. `actions`: resend(text) sends it anew on a branch of its own, choose(message) shows another branch. */
export class UserView {
  root = el('article', { class: 'user', 'aria-label': 'You' });
  busy = false;

  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.settle([message], false);
  }

  /** `all`: the versions of the message; `busy`: an answer comes, so that nothing can be changed. */
  settle(all, busy) {
    this.all = all;
    this.busy = busy;
    if (!this.root.querySelector('.edit')) this.show();
  }

  get editable() {
    return !this.busy;
  }

  show() {
    const { message } = this;
    this.edit = iconButton('edit', 'Edit and send again', () => this.startEdit());
    this.edit.hidden = this.busy;
    const versions = this.busy ? null : versionsNode({ message, all: this.all, choose: this.actions.choose });
    this.root.replaceChildren(...(message.files ?? []).map(fileNode), ...(message.content ? [el('div', { class: 'said', text: message.content })] : []),
      el('div', { class: 'tools' }, ...(versions ? [versions] : []), copyButton('Copy message', () => message.content), this.edit));
  }

  startEdit() {
    const area = el('textarea', { 'aria-label': 'Edit message', rows: 1, enterkeyhint: 'send' });
    const stop = () => { this.show(); this.edit.focus(); };
    const send = (event) => {
      event.preventDefault();
      if (this.busy || !(area.value.trim() || this.message.files?.length)) return;
      this.show();
      this.actions.resend(area.value.trim());
    };
    const keydown = (event) => {
      if (event.key === 'Escape') { event.stopPropagation(); stop(); }
      if (sends(event)) send(event);
    };
    area.value = this.message.content;
    area.addEventListener('keydown', keydown);
    area.addEventListener('input', () => fit(area));
    this.root.replaceChildren(...(this.message.files ?? []).map(fileNode), el('form', { class: 'edit', on: { submit: send } }, area, el('div', { class: 'buttons' },
      el('button', { type: 'button', text: 'Cancel', on: { click: stop } }), el('button', { class: 'primary', text: 'Send' }))));
    fit(area);
    area.focus();
  }
}

/** What a tool gave. */
export class ToolView {
  root = el('article', { class: 'tool' });

  constructor({ name, content }) {
    const title = `Result of ${name}`;
    this.root.setAttribute('aria-label', title);
    this.root.append(el('div', { class: 'bar' }, el('span', { text: title }), copyButton('Copy result', () => content)),
      pre(title, el('code', { text: content })));
  }

  settle() {}
}

/** An answer. `actions`: again() asks anew in its place, retry() with another seed on a branch of its own, choose(message) shows another branch,
 *  results(texts) goes on with what its calls gave, verify(), receipt() shows what was verified, curl() is its request as a command, keyForm() asks for a key. */
export class AnswerView {
  root = el('article', { class: 'answer', 'aria-label': 'Answer' });
  summary = el('span');
  thought = el('div', { class: 'thought' });
  reasoning = el('details', { hidden: true }, el('summary', {}, icon('right'), this.summary), this.thought);
  prose = el('div', { class: 'prose' });
  calls = el('div', { class: 'calls' });
  problem = el('div', { class: 'problem', role: 'alert', hidden: true });
  stats = el('span', { class: 'stats' });
  badge = el('span');
  versions = el('span');
  markdown = new Markdown(this.prose);
  announced = 0;

  constructor(message, actions) {
    this.message = message;
    this.actions = actions;
    this.retry = iconButton('again', 'Retry with another seed', actions.retry);
    this.verify = iconButton('seal', 'Verify: compute it again and compare', actions.verify);
    this.tools = el('div', { class: 'tools' }, this.versions, copyButton('Copy answer', () => message.content), this.retry, this.verify,
      copyButton('Copy the request as a curl command', actions.curl, 'code'));
    this.root.append(this.reasoning, this.prose, this.calls, this.problem, el('footer', {}, this.tools, this.badge, this.stats));
    this.refresh();
  }

  /** `isLast`: nothing follows it, so that its calls wait for results. */
  settle(all, busy, isLast) {
    const { message, actions } = this;
    this.retry.hidden = this.verify.hidden = busy;
    this.versions.replaceChildren(...[busy ? null : versionsNode({ message, all, choose: actions.choose })].filter(Boolean));
    if (!busy) this.verify.hidden = !message.finish || message.seed == null || Boolean(message.verified?.same);
    const wanted = isLast && !busy && message.calls?.length;
    if (Boolean(wanted) !== Boolean(this.root.querySelector('.results'))) {
      this.root.querySelector('.results')?.remove();
      if (wanted) this.calls.after(this.resultForm());
    }
    this.showBadge();
  }

  /** `progress`: tokens that were computed again so far. */
  showBadge(progress) {
    const { verified } = this.message;
    const button = (kind, name, text) => el('button', { type: 'button', class: `badge ${kind}`, on: { click: this.actions.receipt } }, icon(name), text);
    const made = progress != null ? el('span', { class: 'badge', text: `Computing again: ${count(progress)}` })
      : !verified ? null : verified.same ? button('same', 'seal', 'Verified') : button('other', 'close', 'Not the same');
    this.badge.replaceChildren(...[made].filter(Boolean));
  }

  /** Shows the message as it is now; `live` is the state of a generation in progress. */
  refresh(live) {
    const { content, reasoning = '', calls = [], thoughtMs, problem } = this.message;
    const nothing = Boolean(live && !content && !calls.length);
    this.root.classList.toggle('waiting', nothing && !reasoning);
    this.root.classList.toggle('thinking', nothing);
    this.root.setAttribute('aria-busy', Boolean(live));
    this.markdown.update(content, Boolean(live));
    if (!content) this.announced = 0;
    this.reasoning.hidden = !reasoning;
    if (this.thought.textContent.length !== reasoning.length) this.thought.textContent = reasoning;
    this.summary.textContent = nothing ? 'Thinking' : thoughtMs > 50 ? `Thought for ${milliseconds(thoughtMs)}` : 'Thoughts';
    this.showCalls(calls, Boolean(live));
    this.stats.textContent = (live ? this.running(live) : this.final()).filter(Boolean).join('  ·  ');
    this.tools.hidden = Boolean(live);
    if (this.shownProblem !== problem) this.showProblem(problem);
  }

  /** Each call, with its arguments laid out once they are whole. */
  showCalls(calls, live) {
    while (this.calls.children.length > calls.length) this.calls.lastChild.remove();
    calls.forEach(({ name, arguments: words }, n) => {
      if (!this.calls.children[n]) {
        const code = el('code');
        this.calls.append(el('div', { class: 'code call' },
          el('div', { class: 'bar' }, el('span'), copyButton('Copy arguments', () => code.textContent)), pre('', code)));
      }
      const shown = this.calls.children[n];
      shown.querySelector('span').textContent = `Call of ${name}`;
      shown.querySelector('pre').setAttribute('aria-label', `Arguments of ${name}`);
      shown.querySelector('code').textContent = live ? words : laidOut(words);
    });
  }

  resultForm() {
    const areas = this.message.calls.map(({ name }) => el('textarea',
      { rows: 1, 'aria-label': `Result of ${name}`, placeholder: `What ${name} gives`, required: true, on: { input: ({ target }) => fit(target) } }));
    const submit = (event) => { event.preventDefault(); this.actions.results(areas.map((area) => area.value)); };
    return el('form', { class: 'edit results', on: { submit } }, ...areas,
      el('div', { class: 'buttons' }, el('button', { class: 'primary', text: 'Send results' })));
  }

  running({ n, ttft, rate: now, since }) {
    if (ttft == null) return [since > 1500 && `waiting ${Math.floor(since / 1000)} s`];
    return [`${count(n)} tokens`, now && `${rate(now)} tokens/s`, `first after ${milliseconds(ttft)}`];
  }

  final() {
    const { stopped, finish, seed } = this.message;
    const stats = this.message.stats ?? {};
    return [
      stats.n && `${count(stats.n)} token${stats.n === 1 ? '' : 's'}`,
      stats.rate && `${rate(stats.rate)} tokens/s`,
      stats.ttft != null && `first after ${milliseconds(stats.ttft)}`,
      stats.prompt && `prompt ${count(stats.prompt)}${stats.cached ? ` (${count(stats.cached)} cached)` : ''}`,
      seed != null && `seed ${seed}`,
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

/** JSON with line breaks, and every value as it was written: numbers may be larger than JavaScript's. */
function laidOut(words) {
  try { JSON.parse(words); } catch { return words; }
  let depth = 0;
  const line = (by) => `\n${'  '.repeat(Math.max(0, depth += by))}`;
  return words.replaceAll(/"(?:[^"\\]|\\.)*"|[[{]\s*[\]}]|[[{\]},:]|\s+/g, (part) => {
    if (/^\s/.test(part)) return '';
    if (part.length > 1) return part;
    if (part === '[' || part === '{') return part + line(1);
    if (part === ']' || part === '}') return line(-1) + part;
    return part === ',' ? part + line(0) : part === ':' ? ': ' : part;
  });
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
