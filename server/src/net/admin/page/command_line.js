// A line of the console: split into words, and replies printed, as redis-cli does it.
// Source: `sdssplitargs` and `cliFormatReplyTTY` of Redis 7.2.

import { decode, encode, fromApi, quote } from './bytes.js';

const SPACE = /\s/;
const ESCAPED = { n: '\n', r: '\r', t: '\t', b: '\b', a: '\x07' };
// Their replies are text on many lines, which redis-cli prints as it is.
const RAW = /^(info|lolwut|client (list|info)|cluster (nodes|info))\b/i;

/** The words of a line, as texts. Double quotes know escapes, single quotes only `\'`. */
export function split(line) {
  const words = [];
  let at = 0;
  for (;;) {
    while (at < line.length && SPACE.test(line[at])) at += 1;
    if (at === line.length) return words;
    const word = readWord(line, at);
    words.push(word.text);
    at = word.end;
  }
}

function readWord(line, start) {
  const bytes = [];
  let at = start;
  let quoteMark = null;
  while (at < line.length && (quoteMark !== null || !SPACE.test(line[at]))) {
    if (line[at] === quoteMark) {
      if (at + 1 < line.length && !SPACE.test(line[at + 1])) throw new Error('Invalid argument(s)');
      quoteMark = null;
      at += 1;
    } else if (quoteMark === null && (line[at] === '"' || line[at] === "'")) {
      quoteMark = line[at];
      at += 1;
    } else {
      const read = readCharacter(line, at, quoteMark);
      bytes.push(...read.bytes);
      at = read.end;
    }
  }
  if (quoteMark !== null) throw new Error('Invalid argument(s)');
  const text = decode(Uint8Array.from(bytes));
  if (text === null) throw new Error('The console sends text only, and this argument is not UTF-8.');
  return { text, end: at };
}

function readCharacter(line, at, quoteMark) {
  const rest = line.slice(at);
  if (quoteMark === '"' && /^\\x[0-9a-f]{2}/i.test(rest)) return { bytes: [parseInt(rest.slice(2, 4), 16)], end: at + 4 };
  if (quoteMark === '"' && /^\\./s.test(rest)) return { bytes: encode(ESCAPED[rest[1]] ?? rest[1]), end: at + 2 };
  if (quoteMark === "'" && rest.startsWith("\\'")) return { bytes: encode("'"), end: at + 2 };
  const character = String.fromCodePoint(line.codePointAt(at));
  return { bytes: encode(character), end: at + character.length };
}

/** What redis-cli prints for a reply to the words. */
export function printReply(words, reply) {
  if (RAW.test(words.join(' ')) && typeof reply.value === 'string') return reply.value;
  return print(reply, '');
}

function print(reply, indent) {
  switch (reply.type) {
    case 'simple': return reply.value;
    case 'text': return reply.value;
    case 'error': return `(error) ${reply.value}`;
    case 'integer': return `(integer) ${reply.value}`;
    case 'double': return `(double) ${reply.value}`;
    case 'boolean': return reply.value ? '(true)' : '(false)';
    case 'null': return '(nil)';
    case 'bulk': return quote(fromApi(reply.value, reply.encoding));
    case 'array': return printItems(reply.value, ')', '(empty array)', indent, print);
    case 'set': return printItems(reply.value, '~', '(empty set)', indent, print);
    case 'map': return printItems(pairs(reply.value), '#', '(empty hash)', indent, printPair);
    default: return `(a reply of the type ${reply.type}, which this page does not know)`;
  }
}

function printPair([key, value], indent) {
  return `${print(key, indent)} => ${print(value, indent)}`;
}

/** The first item stands where the caller is; the others begin lines of their own. */
function printItems(items, mark, whenEmpty, indent, printItem) {
  if (items.length === 0) return whenEmpty;
  const width = String(items.length).length;
  const inner = indent + ' '.repeat(width + 2);
  return items.map((item, position) => {
    const number = `${String(position + 1).padStart(width)}${mark} `;
    return (position === 0 ? '' : indent) + number + printItem(item, inner);
  }).join('\n');
}

/** The pairs of a map, which comes as pairs or as keys and values in turn. */
function pairs(entries) {
  if (entries.every(Array.isArray)) return entries;
  return Array.from({ length: entries.length / 2 }, (_, position) => entries.slice(2 * position, 2 * position + 2));
}

/** A reply as plain values: maps become objects. For views that know what they asked for. */
export function plain(reply) {
  switch (reply.type) {
    case 'array':
    case 'set': return reply.value.map(plain);
    case 'map': return Object.fromEntries(pairs(reply.value).map(([key, value]) => [plain(key), plain(value)]));
    default: return reply.value ?? null;
  }
}
