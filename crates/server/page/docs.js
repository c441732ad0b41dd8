// What does the API take and give? A page of the OpenAPI document: routes by their tags, then schemas, linked by their names.

import { address, openapi } from './api.js';
import { $, copyButton, el, icon, pre } from './dom.js';
import { keyForm } from './empty.js';
import { sample } from './sample.js';

const code = (text) => el('code', { text });
const schemaName = (ref) => ref.split('/').pop();
const anchorOf = (method, path) => `${method}-${path}`.replace(/[^a-z0-9]+/gi, '-').replace(/-$/, '');

/** Where `ref` leads in the document. */
const resolve = (document, { $ref: ref }) => ref.slice(2).split('/').reduce((at, name) => at?.[name], document) ?? {};

/** A schema's type as nodes: names of schemas are links. */
function type(schema, depth = 0) {
  if (schema === true || !schema || depth > 6) return ['any'];
  if (schema.$ref) return [el('a', { href: `#schema-${schemaName(schema.$ref)}`, text: schemaName(schema.$ref) })];
  const choices = schema.anyOf ?? schema.oneOf;
  if (choices) return choices.flatMap((each, n) => [...(n ? [' or '] : []), ...type(each, depth + 1)]);
  if ('const' in schema) return [code(JSON.stringify(schema.const))];
  if (schema.enum) return schema.enum.flatMap((value, n) => [...(n ? [' '] : []), code(JSON.stringify(value))]);
  if ([schema.type].flat().includes('array')) return ['list of ', ...type(schema.items, depth + 1), ...([schema.type].flat().includes('null') ? [' or null'] : [])];
  if (schema.type) return [[schema.type].flat().join(' or ')];
  return [schema.properties ? 'object' : 'any'];
}

const BOUNDS = [
  ['minimum', 'maximum', ''], ['minLength', 'maxLength', ' characters'], ['minItems', 'maxItems', ' items'], ['minProperties', 'maxProperties', ' fields'],
];

function notes(schema) {
  const found = BOUNDS.filter((names) => names.slice(0, 2).some((name) => name in schema)).map(([least, most, unit]) =>
    (!(least in schema) ? `at most ${schema[most]}` : most in schema ? `${schema[least]} to ${schema[most]}` : `at least ${schema[least]}`) + unit);
  for (const name of ['exclusiveMinimum', 'exclusiveMaximum', 'pattern', 'format']) if (name in schema) found.push(`${name} ${schema[name]}`);
  if ('default' in schema) found.push(`default ${JSON.stringify(schema.default)}`);
  if (schema['x-ignored']) found.push('accepted, not used, and named in ignored_parameters');
  return found.join(', ');
}

/** Descriptions name fields in backticks, as Markdown does. */
const prose = (text) => text.split('`').map((part, n) => (n % 2 ? code(part) : part));

function described(schema) {
  const more = notes(schema);
  return [...(schema.description ? [el('p', {}, ...prose(schema.description))] : []), ...(more ? [el('p', { class: 'notes', text: more })] : [])];
}

/** The fields of an object, those that must be there first. */
function fields(schema) {
  const required = new Set(schema.required ?? []);
  const names = Object.keys(schema.properties ?? {});
  const rows = [...names.filter((name) => required.has(name)), ...names.filter((name) => !required.has(name))].map((name) => {
    const field = schema.properties[name];
    const inner = Object.keys(field.properties ?? field.items?.properties ?? {}).length ? [fields(field.properties ? field : field.items)] : [];
    return el('div', {}, el('dt', {}, code(name), ...(required.has(name) ? [el('b', { text: 'required' })] : [])),
      el('dd', {}, el('p', { class: 'type' }, ...type(field)), ...described(field), ...inner));
  });
  return rows.length ? el('dl', {}, ...rows) : null;
}

/** The name of a schema, and its fields where it is an object: written out, or a link to them. */
function body(title, { description, content = {} }, document, isOpen) {
  const kinds = Object.entries(content).map(([kind, { schema }]) => {
    const whole = schema.$ref ? resolve(document, schema) : schema;
    const inner = isOpen ? fields(whole) : null;
    return el('div', {}, el('p', {}, code(kind), ': ', ...type(schema)), ...(inner ? [inner] : []));
  });
  return el('section', {}, el('h3', { text: title }), ...(description ? [el('p', {}, ...prose(description))] : []), ...kinds);
}

function route(document, path, method, operation) {
  const parameters = (operation.parameters ?? []).map((each) => (each.$ref ? resolve(document, each) : each));
  const input = operation.requestBody?.content?.['application/json']?.schema;
  const words = ['curl', ...(method === 'get' ? [] : [`-X ${method.toUpperCase()}`]), `'${address(path.slice(1)).replaceAll('%7B', '{').replaceAll('%7D', '}')}'`,
    ...(input ? [`-H 'Content-Type: application/json' -d '${JSON.stringify(sample(document, input))}'`] : [])];
  const command = words.join(' ');
  const must = (each) => (each.required ? [el('b', { text: 'required' })] : []);
  const rows = parameters.map((each) => el('div', {}, el('dt', {}, code(each.name), el('span', { text: ` ${each.in}` }), ...must(each)),
    el('dd', {}, el('p', { class: 'type' }, ...type(each.schema)), ...described({ ...each.schema, description: each.description }))));
  return el('details', { id: anchorOf(method, path), class: 'route' },
    el('summary', {}, icon('right'), el('b', { class: 'method', text: method.toUpperCase() }), code(path), el('span', { text: operation.summary })),
    ...(operation.description ? [el('p', {}, ...prose(operation.description))] : []),
    el('div', { class: 'code' }, el('div', { class: 'bar' }, el('span', { text: 'Example' }), copyButton('Copy example', () => command)),
      pre(`Example of ${method.toUpperCase()} ${path}`, code(command))),
    ...(rows.length ? [el('section', {}, el('h3', { text: 'Parameters' }), el('dl', {}, ...rows))] : []),
    ...(operation.requestBody ? [body('Request', operation.requestBody, document, true)] : []),
    ...Object.entries(operation.responses).map(([status, each]) =>
      body(`Response ${status}`, each.$ref ? resolve(document, each) : each, document, false)));
}

function show(document) {
  const sections = [];
  const links = [];
  const routes = Object.entries(document.paths).flatMap(([path, methods]) => Object.entries(methods).map(([method, operation]) => ({ path, method, operation })));
  for (const { name } of document.tags) {
    const own = routes.filter(({ operation }) => operation.tags?.includes(name));
    sections.push(el('h2', { text: name }), ...own.map(({ path, method, operation }) => route(document, path, method, operation)));
    const link = ({ path, method }) => el('a', { href: `#${anchorOf(method, path)}` }, el('b', { class: 'method', text: method.toUpperCase() }), path);
    links.push(el('h2', { text: name }), ...own.map(link));
  }
  const schemas = Object.entries(document.components.schemas).map(([name, schema]) => {
    const inner = fields(schema);
    return el('details', { id: `schema-${name}`, class: 'route' }, el('summary', {}, icon('right'), code(name)), ...described(schema),
      inner ?? el('p', { class: 'type' }, ...type(schema)));
  });
  links.push(el('h2', { text: 'Schemas' }), el('a', { href: '#schemas', text: `${schemas.length} schemas` }));
  $('content').replaceChildren(...sections, el('h2', { id: 'schemas', text: 'Schemas' }), ...schemas);
  const home = el('a', { class: 'brand', href: './' }, el('img', { src: 'page/icon.svg', alt: '', width: 22, height: 22 }), el('b', { text: 'worker-orcd' }));
  $('routes').replaceChildren(home, ...links);
  $('about').replaceChildren(...prose(`Version ${document.info.version}. ${document.info.description}`));
  $('filter').hidden = false;
  follow();
}

/** Opens what the address names. */
function follow() {
  const at = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!at) return;
  at.open = true;
  at.scrollIntoView();
  at.querySelector('summary')?.focus({ preventScroll: true });
}

function filter() {
  const words = $('filter').value.trim().toLowerCase();
  for (const each of $('content').querySelectorAll('.route')) each.hidden = Boolean(words) && !each.textContent.toLowerCase().includes(words);
}

async function load() {
  try {
    show(await openapi());
  } catch (error) {
    $('about').textContent = error.message ?? String(error);
    $('content').replaceChildren(...(error.status === 401 ? [keyForm(load)] : []));
  }
}

$('filter').addEventListener('input', filter);
addEventListener('hashchange', follow);
load();
