// Is an answer what this server computes? It is asked for again, as it was and with its seed, and compared: the text, the calls and how
// it ended, and where the answer has a receipt, the model's hash, every parameter and every token.

import { chat } from './api.js';
import { body } from './request.js';

/** Adds what a stream's event says of calls: pieces of a call have its index. */
export function addCalls(calls, deltas) {
  for (const { index = 0, id, function: { name = '', arguments: words = '' } = {} } of deltas ?? []) {
    const call = (calls[index] ??= { id: '', name: '', arguments: '' });
    call.id ||= id ?? '';
    call.name += name;
    call.arguments += words;
  }
}

const NAMES = {
  version: 'the form of receipts', program: 'the program', model: "the model's file", tokenizer: 'the vocabulary', template: 'the chat template',
  device: 'the kind of device', n_ctx: 'the context', kv_type: 'the KV type', parameters: 'the parameters', prompt: 'the prompt',
  answer: 'the tokens', stop: 'how it ended',
};

/** {same, n, why, receipt}; throws where the server cannot be asked. `progress(n)` hears of each token. */
export async function verify(conversation, answer, progress, signal) {
  const request = { ...body(conversation, answer), seed: answer.seed, receipt: true };
  const found = { content: '', reasoning: '', calls: [], finish: null, receipt: null };
  let n = 0;
  for await (const event of chat(request, signal)) {
    found.content += event.content;
    found.reasoning += event.reasoning;
    addCalls(found.calls, event.calls);
    found.finish = event.finish ?? found.finish;
    found.receipt = event.receipt ?? found.receipt;
    if (event.content || event.reasoning || event.calls) progress(++n);
  }
  const why = difference(answer, found);
  return { same: !why, n: found.receipt?.answer?.length ?? n, why, receipt: found.receipt };
}

function difference(answer, found) {
  if (!found.receipt) return 'The server sent no receipt.';
  const said = JSON.stringify;
  if (answer.receipt) {
    const others = Object.keys(NAMES).filter((name) => said(answer.receipt[name]) !== said(found.receipt[name])).map((name) => NAMES[name]);
    if (others.length) return `Not the same as in its receipt: ${others.join(', ')}.`;
  }
  for (const [name, of] of [['reasoning', 'Its reasoning'], ['content', 'The text']]) {
    const [old, now] = [answer[name] ?? '', found[name]];
    let at = 0;
    while (at < old.length && old[at] === now[at]) at++;
    if (old !== now) return `${of} differs from character ${at + 1} on.`;
  }
  const calls = (list) => said((list ?? []).map(({ name, arguments: words }) => [name, words])); // Each answer has ids of its own.
  if (calls(answer.calls) !== calls(found.calls)) return 'The calls differ.';
  if (answer.finish !== found.finish) return `It ended otherwise: ${found.finish}.`;
  return '';
}
