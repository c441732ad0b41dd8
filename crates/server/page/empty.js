// What does a page without messages show? The model's card, three messages to begin with, the API's address; or a question for a key.

import { address, model } from './api.js';
import { $, bytes, copyButton, count, el, rate } from './dom.js';
import { modelName } from './status.js';
import * as store from './store.js';

const STARTERS = [
  'Explain why the sky is blue to a ten-year-old.',
  'Write a Python function that finds duplicates.',
  'Give me three names for a black cat.',
];

let served = null; // {model, entry}: the model, as GET /v1/models had it when that model was seen first.

/** `begin(text)` sends a message. */
export function showEmpty(status, begin) {
  const { health, wantsKey } = status;
  const api = address('v1');
  const shown = [
    el('img', { src: 'page/icon.svg', alt: '', width: 44, height: 44 }),
    el('h2', { text: modelName(health) || 'worker-orcd' }),
    health ? card(status) : null,
  ];
  if (wantsKey) {
    const text = wantsKey === 'another' ? 'The server does not accept this API key.' : 'The server asks for an API key.';
    shown.push(el('p', { text }), keyForm(() => status.poll()));
  } else {
    shown.push(el('ul', { class: 'starters', 'aria-label': 'Messages to begin with' },
      ...STARTERS.map((text) => el('li', {}, el('button', { type: 'button', text, on: { click: () => begin(text) } })))));
    shown.push(el('p', { class: 'api' }, 'OpenAI API', el('code', { text: api }), copyButton('Copy the address', () => api),
      el('a', { href: 'docs', text: 'Reference' })));
  }
  $('empty').replaceChildren(...shown.filter(Boolean));
  if (!wantsKey && health && served?.name !== health.model) learn(status);
}

async function learn(status) {
  served = { name: status.health.model };
  served.entry = await model();
  if (!served.entry) served = null;
  showCard(status);
}

/** The card again, when a figure of it is known or has changed. */
export function showCard(status) {
  const old = $('empty').querySelector('.card');
  if (!old || !status.health) return;
  const made = card(status);
  if (made.textContent !== old.textContent) old.replaceWith(made);
}

function card({ health, perAnswer }) {
  const { n_params: parameters, size } = served?.entry?.meta ?? {};
  const weights = size ?? health.memory_bytes?.weights;
  const rows = [
    ['Size', [weights && bytes(weights), parameters && `${millions(parameters)} parameters`]],
    ['Quantisation', [health.quant_kind]],
    ['Context', [health.context_length && `${count(health.context_length)} tokens`]],
    ['Device', [health.device, health.kernels]],
    ['Speed', [perAnswer ? `${rate(perAnswer)} tokens/s an answer, on average` : 'known after the first answer']],
  ];
  return el('dl', { class: 'card', 'aria-label': 'Model' },
    ...rows.map(([name, values]) => el('div', {}, el('dt', { text: name }), el('dd', { text: values.filter(Boolean).join(', ') || '–' }))));
}

const millions = (n) => (n >= 1e9 ? `${(n / 1e9).toFixed(n < 1e10 ? 2 : 1)} billion` : `${Math.round(n / 1e6)} million`);

/** A question for an API key; `then` goes on with it. */
export function keyForm(then) {
  const input = el('input', { type: 'password', autocomplete: 'off', 'aria-label': 'API key', placeholder: 'API key', required: true });
  const remember = el('input', { type: 'checkbox' });
  remember.checked = store.keyIsRemembered();
  const submit = (event) => {
    event.preventDefault();
    store.setApiKey(input.value.trim(), remember.checked);
    then();
  };
  return el('form', { class: 'key', on: { submit } }, input, el('button', { class: 'primary', text: 'Use key' }),
    el('label', {}, remember, 'Remember in this browser'));
}
