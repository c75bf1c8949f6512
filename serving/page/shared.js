'use strict';
// What both pages use.

/** A server that has not answered by then is as good as away. */
const REQUEST_MAX_MS = 8_000;

const $ = (id) => document.getElementById(id);
const number = new Intl.NumberFormat('en-US');
const isKnown = (value) => value !== null && value !== undefined;
/** A number that is not known is never shown as zero. */
const shown = (value) => (isKnown(value) ? number.format(value) : 'unknown');

/** Changes only what is another text: what is selected stays selected, and nothing is read aloud twice. */
function set(node, value) {
  const text = String(value);
  if (node.textContent !== text) node.textContent = text;
}

/** Text in which what is to be typed stands between `backquotes`. */
function setCoded(node, text) {
  node.replaceChildren(...text.split('`').map((part, place) => element(place % 2 ? 'code' : 'span', part)));
}

function element(name, text, className) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}
