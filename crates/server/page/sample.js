// What would a request look like? The least one that a schema allows: fields that must be there, at their first value.

const FIRST = { // By the names of fields: what a schema does not say.
  role: 'user', content: 'Why is the sky blue?', prompt: 'The sky is', input: 'Why is the sky blue?', job_id: 'a-job', tokens: [1, 2, 3], max_tokens: 64, model: '',
};

export function sample(document, schema, name = '', depth = 0) {
  if (schema.$ref) return sample(document, schema.$ref.slice(2).split('/').reduce((at, word) => at[word], document), name, depth);
  if ('default' in schema && schema.default !== null) return schema.default;
  if (name in FIRST) return FIRST[name];
  const [first] = schema.anyOf ?? schema.oneOf ?? [];
  if (first) return sample(document, first, name, depth + 1);
  if (schema.enum) return schema.enum[0];
  const kind = [schema.type].flat()[0];
  if (kind === 'array') return depth < 6 && schema.items && schema.minItems ? [sample(document, schema.items, '', depth + 1)] : [];
  if (kind === 'object') {
    const must = [...(schema.required ?? []), ...(schema.properties?.role && schema.properties.content ? ['role', 'content'] : [])];
    const one = ['content', 'tokens'].find((field) => schema.properties?.[field]); // Where one of several fields must be there.
    const value = (field) => sample(document, schema.properties?.[field] ?? {}, field, depth + 1);
    return Object.fromEntries([...new Set(must.length || !one ? must : [one])].map((field) => [field, value(field)]));
  }
  return { string: 'text', integer: schema.minimum ?? 1, number: schema.minimum ?? 1, boolean: true }[kind] ?? null;
}
