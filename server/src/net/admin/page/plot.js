// Small live plots of one to three lines over the last two minutes, from zero to a round number. The lines are SVG, stretched to the
// figure; all text is HTML around it, so that it is never stretched. A gap in the samples is a gap in the line.

import { h } from './dom.js';
import { PLOT_MS } from './watch.js';

const SVG = 'http://www.w3.org/2000/svg';
const WIDTH = 240;
const HEIGHT = 80;

/**
 * A figure. A line is `{ name, value(values) }`, where `value` takes a number, or nothing, out of a sample's values; lines are drawn in the
 * order of style.css: the first soft, the last in the accent. `format` makes the text of a number.
 */
export function createPlot(title, unit, lines, format) {
  const paths = lines.map((_, position) => shape('path', { class: `line line-${lines.length - position}` }));
  const grid = [0, 0.5, 1].map((part) => shape('path', { class: 'grid', d: `M0 ${HEIGHT * part}H${WIDTH}` }));
  const drawing = shape('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' }, ...grid, ...paths);
  const latest = lines.map((line, position) => h('b', { class: `key-${lines.length - position}` }));
  const legend = lines.map((line, position) => h('span', null, line.name, ' ', latest[position]));
  const scale = [1, 0.5, 0].map((part) => ({ part, label: h('span') }));
  const figure = h('figure', { class: 'plot' },
    h('figcaption', null, h('span', null, title, h('small', null, ` ${unit}`)), h('span', { class: 'legend' }, legend)),
    h('div', { class: 'scale', 'aria-hidden': 'true' }, scale.map(({ label }) => label)),
    drawing,
    h('div', { class: 'times', 'aria-hidden': 'true' }, h('span', null, `${PLOT_MS / 60_000} min ago`), h('span', null, 'now')));

  function draw(samples) {
    const nowMs = Date.now();
    const series = lines.map((line) => samples.map(({ timeMs, values }) => ({ timeMs, value: values && line.value(values) })));
    const top = roundUp(Math.max(0, ...series.flat().map(({ value }) => value ?? 0)));
    series.forEach((points, position) => paths[position].setAttribute('d', outline(points, nowMs, top)));
    const last = series.map((points) => points.at(-1)?.value);
    latest.forEach((label, position) => {
      label.textContent = format(last[position]);
    });
    for (const { part, label } of scale) label.textContent = format(top * part);
    const told = lines.map((line, position) => `${line.name} ${format(last[position])}`.trim()).join(', ');
    drawing.setAttribute('aria-label', `${title}, ${unit}: now ${told}; the scale ends at ${format(top)}.`);
  }

  return { figure, draw };
}

function shape(name, attributes, ...children) {
  const element = document.createElementNS(SVG, name);
  for (const [attribute, value] of Object.entries(attributes)) element.setAttribute(attribute, value);
  element.append(...children);
  return element;
}

/** The path of a line. */
function outline(points, nowMs, top) {
  let path = '';
  let isDrawing = false;
  for (const { timeMs, value } of points) {
    if (typeof value === 'number') {
      const x = WIDTH * (1 - (nowMs - timeMs) / PLOT_MS);
      path += `${isDrawing ? 'L' : 'M'}${x.toFixed(1)} ${(HEIGHT * (1 - value / top)).toFixed(1)}`;
    }
    isDrawing = typeof value === 'number';
  }
  return path;
}

/** The next of 1, 2, 5, 10, 20, ... of any size, so that the scale seldom changes. */
function roundUp(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return power * [1, 2, 5, 10].find((step) => step * power >= value);
}
