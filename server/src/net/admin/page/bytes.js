// Keys and values are bytes. This turns them into what a person reads or types, and back.
// A form is `{ name, fits(bytes), show(bytes) -> text, parse(text) -> bytes }`; `parse(show(bytes))` is `bytes` where the form fits.

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The bytes of what the API gives as text, or as base64 where it is not UTF-8. */
export function fromApi(text, encoding) {
  return encoding === 'base64' ? fromBase64(text) : encode(text);
}

export function encode(text) {
  return new TextEncoder().encode(text);
}

/** The text of bytes, or null where they are not UTF-8. */
export function decode(bytes) {
  try {
    return utf8.decode(bytes);
  } catch {
    return null;
  }
}

function toBase64(bytes) {
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

function fromBase64(text) {
  let binary;
  try {
    binary = atob(text.replace(/\s/g, ''));
  } catch {
    throw new Error('This is not base64.');
  }
  return Uint8Array.from(binary, (character) => character.charCodeAt(0));
}

function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

function fromHex(text) {
  const digits = text.replace(/\s/g, '');
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new Error('This is not hexadecimal: every byte takes two digits, 0 to 9 and a to f.');
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** Text that a person can read and a text field gives back as it was, or null. The field turns CR into LF; other controls cannot be seen. */
function toText(bytes) {
  const text = decode(bytes);
  return text === null || /[\x00-\x08\x0b-\x1f\x7f]/.test(text) ? null : text;
}

export const FORMS = [
  { name: 'text', fits: (bytes) => toText(bytes) !== null, show: toText, parse: encode },
  { name: 'hex', fits: () => true, show: toHex, parse: fromHex },
  { name: 'base64', fits: () => true, show: toBase64, parse: fromBase64 },
];

/** A key as it stands in a list: as text, or quoted when it is none or empty. */
export function readable(bytes) {
  return toText(bytes) || quote(bytes);
}

const ESCAPES = { 7: '\\a', 8: '\\b', 9: '\\t', 10: '\\n', 13: '\\r', 34: '\\"', 92: '\\\\' };

/** Bytes in quotes as redis-cli prints them. */
export function quote(bytes) {
  const printed = (byte) => {
    if (ESCAPES[byte]) return ESCAPES[byte];
    return byte >= 32 && byte < 127 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  };
  return `"${Array.from(bytes, printed).join('')}"`;
}

/** The path of a key. */
export function keyPath(bytes) {
  const text = decode(bytes);
  // A browser takes such a segment out of the path, escaped or not.
  if (['', '.', '..'].includes(text)) throw new Error('A browser cannot ask for this key by its path. The console can: GET, SET and DEL.');
  const escaped = (byte) => `%${byte.toString(16).padStart(2, '0')}`;
  return `/kv/${text === null ? Array.from(bytes, escaped).join('') : encodeURIComponent(text)}`;
}

/** An object or array of JSON on several lines, else null. Only white space differs: numbers keep their digits, objects their order. */
export function prettyJson(text) {
  try {
    const parsed = JSON.parse(text);
    if (parsed === null || typeof parsed !== 'object') return null;
  } catch {
    return null;
  }
  let pretty = '';
  let depth = 0;
  let isFirst = false;
  const newLine = () => `\n${'  '.repeat(depth)}`;
  for (const token of text.match(/"(?:[^"\\]|\\.)*"|[[\]{},:]|[^\s[\]{},:"]+/g)) {
    const closes = token === ']' || token === '}';
    if (closes) depth -= 1;
    if (isFirst !== closes) pretty += newLine();
    pretty += token;
    isFirst = token === '[' || token === '{';
    if (isFirst) depth += 1;
    if (token === ',') pretty += newLine();
    if (token === ':') pretty += ' ';
  }
  return pretty;
}
