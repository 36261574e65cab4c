// Numbers, sizes and times as people read them. Binary sizes, as in the options; times of day are local.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
const NONE = '–';

/** A whole number with separators. What arrives as text was beyond the whole numbers of JavaScript. */
export function count(value) {
  return typeof value === 'number' ? Math.round(value).toLocaleString('en') : value ?? NONE;
}

/** A size. */
export function bytes(value) {
  if (typeof value !== 'number') return NONE;
  const power = Math.min(UNITS.length - 1, Math.floor(Math.log2(Math.max(1, value)) / 10));
  const scaled = value / 1024 ** power;
  return `${power === 0 || scaled >= 100 ? Math.round(scaled) : scaled.toFixed(1)} ${UNITS[power]}`;
}

/** A number of a plot or a rate: three digits that matter. */
export function short(value) {
  if (typeof value !== 'number') return NONE;
  if (value >= 10_000) return `${Number((value / 1000).toPrecision(3)).toLocaleString('en')} k`;
  return value >= 100 ? count(value) : String(Number(value.toPrecision(3)));
}

/** A duration in its two largest units. */
export function duration(seconds) {
  if (typeof seconds !== 'number') return NONE;
  if (seconds < 60) return `${short(seconds)} s`;
  const units = [['d', 86_400], ['h', 3600], ['min', 60], ['s', 1]];
  const first = units.findIndex(([, size]) => seconds >= size);
  const [large, small] = [units[first], units[first + 1]];
  const rest = Math.floor((seconds % large[1]) / small[1]);
  return `${Math.floor(seconds / large[1])} ${large[0]}${rest > 0 ? ` ${rest} ${small[0]}` : ''}`;
}

/** Time of day; with the date when it was another day. */
export function time(timeMs) {
  const then = new Date(timeMs);
  const clock = then.toLocaleTimeString('en-GB');
  return then.toDateString() === new Date().toDateString() ? clock : `${day(then)} ${clock}`;
}

function day(date) {
  const two = (number) => String(number).padStart(2, '0');
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
}

/** A word with its number. */
export function plural(number, word) {
  return `${count(number)} ${word}${number === 1 ? '' : 's'}`;
}
