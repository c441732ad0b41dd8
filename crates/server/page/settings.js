// What may be set? The dialog: system prompt and its presets, sampling with the defaults in effect, tools, receipts, appearance, what is kept.

import { model } from './api.js';
import { $, bytes, count, el } from './dom.js';
import { tools } from './request.js';
import * as store from './store.js';

const { settings } = store;

const FIELDS = [ // key, label, least, most, step, hint
  ['temperature', 'Temperature', 0, 2, 'any', '0 takes the likeliest'],
  ['top_p', 'Top-p', 0, 1, 'any', 'share of probability'],
  ['top_k', 'Top-k', 0, 1e6, 1, 'likeliest k; 0 is all'],
  ['min_p', 'Min-p', 0, 1, 'any', 'relative to the likeliest'],
  ['repetition_penalty', 'Repetition penalty', 0.01, 100, 'any', '1 is off'],
  ['max_tokens', 'Max tokens', 1, 1e7, 1, 'length of an answer'],
  ['seed', 'Seed', 0, Number.MAX_SAFE_INTEGER, 1, 'same seed, same answer'],
];

const PRESETS = {
  Concise: 'Answer in as few words as are needed. No introduction, no summary.',
  Programmer: 'You are an experienced programmer. Give working code in one block, then say briefly what matters. Say so when you are not sure.',
  Teacher: 'You are a patient teacher. Explain step by step with one example, then ask a question that checks whether it was understood.',
  Translator: 'Translate what the user writes into English; if it is English, into German. Give the translation alone.',
  Editor: 'Correct spelling, grammar and style of what the user writes, and keep its meaning. Give the corrected text, then a list of the changes.',
};

/** What is set, in a few words below the composer. */
export function changed() {
  store.saveSettings();
  const parts = FIELDS.filter(([key]) => key in settings.sampling).map(([key, label]) => `${label.toLowerCase()} ${settings.sampling[key]}`);
  if (tools().tools?.length) parts.unshift(count(tools().tools.length) + (tools().tools.length === 1 ? ' tool' : ' tools'));
  if (settings.system.trim()) parts.unshift('system prompt');
  $('active').hidden = !parts.length;
  $('active').textContent = parts.join(', ');
}

function buildFields() {
  const labels = FIELDS.map(([key, label, min, max, step, hint]) => {
    const input = el('input', { type: 'number', name: key, inputmode: 'decimal', min, max, step });
    const small = el('small', { text: hint });
    input.value = settings.sampling[key] ?? '';
    input.addEventListener('input', () => {
      const { valid } = input.validity;
      input.setAttribute('aria-invalid', !valid);
      small.textContent = valid ? hint : `not sent: ${step === 1 ? 'whole, ' : ''}${min} ${key === 'seed' ? 'or more' : `to ${count(max)}`}`;
      delete settings.sampling[key];
      if (input.value && valid) settings.sampling[key] = Number(input.value);
      changed();
    });
    return el('label', { class: 'field' }, el('span', { text: label }), input, small);
  });
  $('fields').replaceChildren(...labels);
}

/** Empty fields show what is in effect. */
async function showDefaults(context) {
  const entry = await model();
  const room = entry?.max_model_len ?? context;
  const found = { ...entry?.defaults, seed: 'random' };
  if (entry) found.max_tokens ??= room ? `up to ${count(room)}` : 'the context';
  for (const [key] of FIELDS) $('fields').querySelector(`[name=${key}]`).placeholder = found[key] ?? 'not known';
}

/* ---- System prompt ---- */

function showPresets() {
  const option = (text, value) => el('option', { text, value });
  const own = settings.presets.map(({ name }) => name).sort();
  $('preset').replaceChildren(option('None', 'none'),
    el('optgroup', { label: 'Presets' }, ...Object.keys(PRESETS).map((name) => option(name, `p ${name}`))),
    ...(own.length ? [el('optgroup', { label: 'Yours' }, ...own.map((name) => option(name, `o ${name}`)))] : []),
    option('Your own text', 'text'));
  showChosen();
}

/** The preset that the text is. */
function showChosen() {
  const text = settings.system.trim();
  const own = settings.presets.find((each) => each.text === text)?.name;
  const name = Object.keys(PRESETS).find((each) => PRESETS[each] === text);
  $('preset').value = !text ? 'none' : own ? `o ${own}` : name ? `p ${name}` : 'text';
  $('preset-drop').hidden = !own;
  $('preset-keep').hidden = $('preset').value !== 'text';
}

function setSystem(text) {
  settings.system = text;
  changed();
  showChosen();
}

function choosePreset() {
  const chosen = $('preset').value;
  const name = chosen.slice(2);
  if (chosen === 'text') $('system').focus();
  else setSystem($('system').value = chosen === 'none' ? '' : chosen[0] === 'p' ? PRESETS[name] : settings.presets.find((each) => each.name === name).text);
  showChosen();
}

function keepPreset(event) {
  event.preventDefault();
  const name = $('preset-name').value.trim();
  if (!name) return;
  keepPresets([...settings.presets.filter((each) => each.name !== name), { name, text: settings.system.trim() }]);
  $('preset-name').value = '';
}

function keepPresets(presets) {
  settings.presets = presets;
  store.saveSettings();
  showPresets();
  $('preset').focus();
}

/* ---- The rest ---- */

function showTools() {
  const { tools: list, problem } = tools();
  $('tools').setAttribute('aria-invalid', Boolean(problem));
  $('tools-state').textContent = problem ?? (list?.length ? list.map((tool) => tool.function.name).join(', ') : 'None');
}

function setTheme(theme) {
  settings.theme = theme;
  document.documentElement.dataset.theme = theme;
  changed();
}

/** `context`: the tokens of a conversation. */
export function openSettings(context) {
  showDefaults(context);
  showPresets();
  showTools();
  const n = store.conversations().length;
  $('kept').textContent = `${n ? `${count(n)}, ${bytes(store.size())},` : 'None. They are kept'} in this browser and nowhere else.`;
  $('clear').disabled = !n;
  $('key-set').hidden = !store.apiKey();
  $('settings').showModal();
}

export function setUpSettings() {
  const on = (id, event, listener) => $(id).addEventListener(event, listener);
  $('system').value = settings.system;
  $('tools').value = settings.tools;
  $('receipt').checked = settings.receipt;
  on('system', 'input', () => setSystem($('system').value));
  on('preset', 'change', choosePreset);
  on('preset-keep', 'submit', keepPreset);
  on('preset-drop', 'click', () => keepPresets(settings.presets.filter(({ name }) => `o ${name}` !== $('preset').value)));
  on('tools', 'input', () => { settings.tools = $('tools').value; changed(); showTools(); });
  on('receipt', 'change', () => { settings.receipt = $('receipt').checked; changed(); });
  on('reset', 'click', () => { settings.sampling = {}; buildFields(); showDefaults(); changed(); });
  on('forget', 'click', () => { store.setApiKey(''); $('key-set').hidden = true; });
  for (const radio of $('theme').querySelectorAll('input')) {
    radio.checked = radio.value === settings.theme;
    radio.addEventListener('change', () => setTheme(radio.value));
  }
  buildFields();
  changed();
}
