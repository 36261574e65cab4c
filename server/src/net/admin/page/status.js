// What the page announces: the last message, at the foot of the page, and spoken by screen readers.

import { time } from './format.js';

/** Shows a sentence until the next one. */
export function announce(sentence) {
  document.getElementById('status').textContent = `${time(Date.now())} ${sentence}`;
}
