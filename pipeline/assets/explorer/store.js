// What the page knows: the state that its address says, the samples that are selected, and what the service answers.

/** Every part of the state, with what it is where the address does not say. All are text. */
export const PARTS = {
  view: "find", root: "", text: "", minus: "", like: "", picture: "", near: "", about: "", among: "image",
  verdict: "", from: "", to: "", class: "", entity: "", language: "", copies: "",
  level: "0", parent: "", name: "", color: "class", sample: "",
};
export const FILTERS = ["verdict", "from", "to", "class", "entity", "language", "copies"];
export const QUERIES = ["text", "like", "picture", "near", "about"];
const VIEWS = ["find", "classes", "map"];

export function parsed(search) {
  const given = new URLSearchParams(search);
  const state = {};
  for (const [name, usual] of Object.entries(PARTS)) state[name] = (given.get(name) ?? usual).slice(0, 10000);
  if (!VIEWS.includes(state.view)) state.view = "find";
  return state;
}

/** The address of the state with these changes; a null takes a part back to what it usually is. */
export function address(changes = {}, from = state()) {
  const given = new URLSearchParams();
  for (const [name, usual] of Object.entries(PARTS)) {
    const value = name in changes ? changes[name] ?? usual : from[name];
    if (String(value) !== usual) given.set(name, value);
  }
  const text = given.toString();
  return text ? `?${text}` : "./";
}

let current = parsed(location.search);
export const state = () => current;
const listeners = new Set();
export const onState = (listener) => listeners.add(listener);

/** Changes the state; a step in the history, unless `replace`. */
export function go(changes, {replace = false} = {}) {
  const to = address(changes);
  if (to === address()) return;
  history[replace ? "replaceState" : "pushState"]({}, "", to);
  changed();
}

function changed() {
  const before = current;
  current = parsed(location.search);
  for (const listener of listeners) listener(current, before);
}
addEventListener("popstate", changed);

/** Keys of `where`: the filters as the service takes them. */
export function where(of = current) {
  const bounds = {};
  if (of.verdict && of.verdict !== "any") bounds.verdict = of.verdict.split(",");
  const [from, to] = [of.from, of.to].map((text) => (text === "" ? NaN : Number(text)));
  if (Number.isFinite(from) || Number.isFinite(to)) {
    bounds.clip_similarity = {...(Number.isFinite(from) && {min: from}), ...(Number.isFinite(to) && {max: to})};
  }
  if (/^\d{1,9}$/.test(of.class)) bounds.class_id = Number(of.class);
  if (of.entity) bounds.entities = [of.entity];
  if (of.language) bounds.language = of.language;
  if (of.copies === "none") Object.assign(bounds, {exact_duplicate: false, near_duplicate: false});
  if (of.copies === "exact") bounds.exact_duplicate = true;
  if (of.copies === "near") bounds.near_duplicate = true;
  return bounds;
}

// The service.

export class Refused extends Error {
  constructor(status, code, message, field) {
    super(message);
    Object.assign(this, {status, code, field});
    this.title = status === 0 ? "The service does not answer" : status === 401 ? "This service asks for a token"
      : status === 404 ? "Not here" : status === 429 ? "The service is busy" : status >= 500 ? "Not now" : "That cannot be asked";
  }
}

/** The JSON of an answer. Whole numbers that JavaScript would round (hashes) stay as their digits. */
function read(text) {
  return JSON.parse(text, (_, value, context) =>
    typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value) && context?.source ? context.source : value);
}

// Where a service asks for a token, this tab keeps it, and sends it with everything, pictures too.
let token = null;
try { token = sessionStorage.getItem("token"); } catch { /* asked for again */ }

export function useToken(given) {
  token = given;
  try { sessionStorage.setItem("token", given); } catch { /* until the page is left */ }
}

export const hasToken = () => token !== null;

/** Shows a picture of the service in an element; `broken` where there is none. */
export async function load(element, path, broken) {
  element.addEventListener("error", broken);
  if (token === null) {
    element.src = path;
    return;
  }
  try {
    const url = URL.createObjectURL(await (await fetched(path)).blob());
    element.addEventListener("load", () => URL.revokeObjectURL(url), {once: true});
    element.src = url;
  } catch {
    broken();
  }
}

async function fetched(path, {query = {}, body, signal} = {}) {
  const asked = new URLSearchParams(Object.entries(query).filter(([, value]) => value !== "" && value !== null && value !== undefined));
  if (current.root && !body && !path.includes("?")) asked.set("root", current.root);
  const sent = body && {...body, ...(current.root && {root: current.root})};
  let answer;
  try {
    answer = await fetch(`${path}${asked.size ? `?${asked}` : ""}`, {
      method: body ? "POST" : "GET", signal, credentials: "same-origin",
      headers: {...(body && {"Content-Type": "application/json"}), ...(token !== null && {Authorization: `Bearer ${token}`})}, body: body && JSON.stringify(sent),
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "offline", "Is `shardmill serve` still running, and is this machine connected to it?");
  }
  if (!answer.ok) {
    const problem = await answer.json().then((json) => json.error, () => null);
    throw new Refused(answer.status, problem?.code ?? "", problem?.message ?? `It answered with status ${answer.status}.`, problem?.field);
  }
  return answer;
}

export const ask = async (path, options) => read(await (await fetched(path, options)).text());
export const download = async (path, options) => (await fetched(path, options)).blob();

const rooted = (size) => new URLSearchParams({...(size && {size}), ...(current.root && {root: current.root})});
export const thumb = (uid, size = 256) => `thumb/${uid}?${rooted(size)}`;
export function image(uid) {
  const asked = rooted();
  return `image/${uid}${asked.size ? `?${asked}` : ""}`;
}

// Pictures that were dropped, pasted or chosen: held by this tab alone; the address has their name.

const LONGEST_SIDE = 512;
const held = new Map();

/** Makes a file small, keeps it, and says its name. Raises Refused for what is no picture. */
export async function keepPicture(file) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(file);
  } catch {
    throw new Refused(400, "no_picture", "This file is no picture that a browser can read. JPEG, PNG, WebP, GIF and AVIF are.");
  }
  const scale = Math.min(1, LONGEST_SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = Object.assign(document.createElement("canvas"), {
    width: Math.max(1, Math.round(bitmap.width * scale)), height: Math.max(1, Math.round(bitmap.height * scale))});
  const context = canvas.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  bitmap.close();
  const data = canvas.toDataURL("image/jpeg", 0.92).split(",")[1];
  let name = 0;
  for (let at = 0; at < data.length; at += 1) name = (Math.imul(name, 31) + data.charCodeAt(at)) >>> 0;
  name = name.toString(36);
  held.set(name, data);
  try {
    sessionStorage.setItem(`picture:${name}`, data);
  } catch { /* full: it lives until the page is left */ }
  return name;
}

/** The base64 of a picture by its name; null where this tab has none. */
export function pictureOf(name) {
  try {
    return held.get(name) ?? sessionStorage.getItem(`picture:${name}`);
  } catch {
    return null;
  }
}

// The selection: of this tab, by root; at most what one export takes.

export const MOST_SELECTED = 100_000;
const slot = () => `selection:${current.root}`;
const watchers = new Set();
export const onSelection = (watcher) => watchers.add(watcher);
let chosenFor = null;
let chosen = new Set();

export function selected() {
  if (chosenFor !== slot()) {
    chosenFor = slot();
    try {
      chosen = new Set(JSON.parse(sessionStorage.getItem(slot()) ?? "[]"));
    } catch {
      chosen = new Set();
    }
  }
  return chosen;
}

/** Selects these uids (`on`), or no longer; without uids, none. */
export function select(uids, on = true) {
  const set = selected();
  if (!uids) set.clear();
  else for (const uid of uids) on && set.size < MOST_SELECTED ? set.add(uid) : on || set.delete(uid);
  try {
    sessionStorage.setItem(slot(), JSON.stringify([...set]));
  } catch { /* full: it lives until the page is left */ }
  for (const watcher of watchers) watcher(set);
}
