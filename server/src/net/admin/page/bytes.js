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

export function toBase64(bytes) {
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary);
}

/** Base64 for URLs, without padding. */
function toBase64Url(bytes) {
  return toBase64(bytes).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

function fromBase64(text) {
  let binary;
  try {
    binary = atob(text.replace(/\s/g, ''));
  } catch {
    throw new Error('This is not base64.');
  }
  // One by one: Uint8Array.from would first make an array of strings, one for each byte of what may be 64 MiB.
  const bytes = new Uint8Array(binary.length);
  for (let at = 0; at < bytes.length; at += 1) bytes[at] = binary.charCodeAt(at);
  return bytes;
}

function toHex(bytes) {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join(' ');
}

function fromHex(text) {
  const digits = text.replace(/\s/g, '');
  if (!/^([0-9a-f]{2})*$/i.test(digits)) throw new Error('This is not hexadecimal: every byte takes two digits, 0 to 9 and a to f.');
  return Uint8Array.from(digits.match(/../g) ?? [], (pair) => parseInt(pair, 16));
}

/** The beginning of bytes. Text ends after a whole character. */
export function beginning(bytes, length) {
  let end = Math.min(length, bytes.length);
  if (end < bytes.length && decode(bytes) !== null) while (bytes[end] >> 6 === 0b10) end -= 1;
  return bytes.subarray(0, end);
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

/** A key as it stands in a list: as text, or quoted when it is none, is empty, or could be taken for quoted. */
export function readable(bytes) {
  const text = toText(bytes);
  return text === null || text === '' || text.startsWith('"') ? quote(bytes) : text;
}

/** The bytes of a key, or of a part of one, as a person types it: quoted with escapes, or the text itself. Reads what `readable` makes. */
export function fromReadable(text) {
  const quoted = /^"((?:[^"\\]|\\.)*)"$/s.exec(text);
  if (!quoted) return encode(text);
  const pieces = quoted[1].match(/\\x[0-9a-f]{2}|\\.|[^\\]+/gis) ?? [];
  return Uint8Array.from(pieces.flatMap((piece) => [...unescaped(piece)]));
}

const ESCAPES = { 7: '\\a', 8: '\\b', 9: '\\t', 10: '\\n', 13: '\\r', 34: '\\"', 92: '\\\\' };

const UNESCAPES = new Map(Object.entries(ESCAPES).map(([byte, escape]) => [escape, Number(byte)]));

function unescaped(piece) {
  if (/^\\x./is.test(piece) && piece.length === 4) return [parseInt(piece.slice(2), 16)];
  if (UNESCAPES.has(piece)) return [UNESCAPES.get(piece)];
  return encode(piece.startsWith('\\') ? piece.slice(1) : piece);
}

/** Bytes in quotes as redis-cli prints them. */
export function quote(bytes) {
  const printed = (byte) => {
    if (ESCAPES[byte]) return ESCAPES[byte];
    return byte >= 32 && byte < 127 ? String.fromCharCode(byte) : `\\x${byte.toString(16).padStart(2, '0')}`;
  };
  return `"${Array.from(bytes, printed).join('')}"`;
}

/** Bytes as they stand in a URL. */
export function percentEncode(bytes) {
  const text = decode(bytes);
  const escaped = (byte) => `%${byte.toString(16).padStart(2, '0')}`;
  return text === null ? Array.from(bytes, escaped).join('') : encodeURIComponent(text);
}

/** The path of a key, perhaps with a query. */
export function keyPath(bytes) {
  // A browser takes such a segment out of the path, escaped or not.
  const isTakenOut = ['', '.', '..'].includes(decode(bytes));
  return isTakenOut ? `/kv/?key64=${toBase64Url(bytes)}` : `/kv/${percentEncode(bytes)}`;
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
