// Elements, signs and numbers. Text from samples goes into text nodes and attributes alone: there is no HTML out of strings here.

import {useToken} from "./store.js";

/** h("a.tile", {href: "…", onclick: f}, "text", element, [more]): an element. null, undefined and false are left out. */
export function h(spec, given = {}, ...children) {
  const [tag, ...classes] = spec.split(".");
  const element = document.createElement(tag || "div");
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(given)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(element.dataset, value);
    else if (name === "css") for (const [key, setting] of Object.entries(value)) element.style.setProperty(key, setting);
    else if (name === "value") element.value = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  add(element, children);
  return element;
}

function add(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Puts these children in the place of all others. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

const SIGNS = {
  search: "M10.5 4a6.5 6.5 0 1 0 0 13 6.5 6.5 0 0 0 0-13zM15.5 15.5 20 20",
  picture: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9.5h.01",
  close: "M6 6l12 12M18 6 6 18",
  check: "M5 12.5l4.5 4.5L19 7.5",
  near: "M12 12h.01M6 12a6 6 0 0 1 6-6M18 12a6 6 0 0 1-6 6M3 12a9 9 0 0 1 9-9M21 12a9 9 0 0 1-9 9",
  left: "M14.5 5.5 8 12l6.5 6.5",
  right: "M9.5 5.5 16 12l-6.5 6.5",
  lasso: "M12 4c5 0 9 2.5 9 6s-4 6-9 6-9-2.5-9-6 4-6 9-6zM7 15c-2 1-2 3 0 3s2 2 0 3",
  hand: "M12 3v18M3 12h18M12 3 9.500 5.500M12 3l2.500 2.500M12 21l-2.500-2.500M12 21l2.500-2.500M3 12l2.500-2.500M3 12l2.500 2.500M21 12l-2.500-2.500M21 12l-2.500 2.500",
  plus: "M12 5v14M5 12h14",
  minus: "M5 12h14",
  fit: "M4 9V4h5M20 9V4h-5M4 15v5h5M20 15v5h-5",
  filter: "M4 6h16M7 12h10M10 18h4",
  theme: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  warn: "M12 4 2.500 20h19zM12 10v5M12 17.500h.01",
  broken: "M4 5h16v14H4zM4 19 20 5",
  none: "M10.5 4a6.5 6.500 0 1 0 0 13 6.500 6.500 0 0 0 0-13zM15.500 15.500 20 20M8 10.500h5",
};

/** A sign of one line, in the colour of the text, for the eyes alone. */
export function sign(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("class", "sign");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("d", SIGNS[name]);
  svg.append(path);
  return svg;
}

const whole = new Intl.NumberFormat("en");
export const count = (number) => whole.format(number);
export const counted = (number, noun, many = `${noun}s`) => `${count(number)} ${number === 1 ? noun : many}`;
export const cosine = (number) => (number === null || number === undefined ? "–" : number.toFixed(3));
export const words = (name) => name.replaceAll("_", " ");

/** A verdict in words: {kind: kept | rejected | failed, reason, text}. */
export function verdictOf(verdict) {
  const [kind, reason = ""] = verdict.split(/:(.*)/s);
  return {kind, reason, text: reason ? `${kind}: ${words(reason)}` : kind};
}

export function badge(verdict) {
  const {kind, text} = verdictOf(verdict);
  return h(`span.verdict.${["kept", "rejected", "failed"].includes(kind) ? kind : "rejected"}`, {}, text);
}

/** Tells those who listen instead of looking. */
export function say(text) {
  document.getElementById("said").textContent = text;
}

/** A state of a view that shows no data: empty, or an error. */
export function notice({mark = "none", title, text, actions = [], bad = false}) {
  return h(`div.notice${bad ? ".bad" : ""}`, {role: bad ? "alert" : false}, sign(mark), h("h2", {}, title), text && h("p", {}, text),
           actions.length ? h("div.row", {}, actions) : null);
}

function asksForToken() {
  const token = h("input", {type: "password", id: "token", autocomplete: "off", required: true, "aria-label": "Token"});
  return notice({mark: "warn", title: "This service asks for a token", text: "It is in the file that `shardmill serve --token-file` names. This tab keeps it until it is closed.",
    actions: [h("form.row", {onsubmit: (event) => {
      event.preventDefault();
      useToken(token.value.trim());
      location.reload();
    }}, token, h("button.button.main", {type: "submit"}, "Open"))]});
}

/** What went wrong, for people, and a way on. */
export function failure(error, again) {
  if (error.status === 401) return asksForToken();
  const retry = again && h("button.button", {type: "button", onclick: again}, "Try again");
  return notice({mark: "warn", bad: true, title: error.title ?? "That did not work", text: error.message, actions: retry ? [retry] : []});
}
