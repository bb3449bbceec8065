// The map: every sample a point, neighbours near each other; coloured, named, lassoed.

import {badge, cosine, count, counted, failure, fill, h, notice, say, sign, verdictOf, words} from "./dom.js";
import {grid, picture, show} from "./grid.js";
import {Scatter} from "./scatter.js";
import {ask, go, select, state} from "./store.js";

const TILES = 60, LEGEND = 40, AGAIN = 1500;
const COLOURS = [["class", "Class"], ["value", "Similarity"], ["verdict", "Verdict"]];
const held = new Map();

export function map(root) {
  const canvas = h("canvas", {tabindex: 0, role: "img", "aria-label": "Map of the run: arrows move it, plus and minus zoom, 0 shows all of it"});
  const names = h("canvas.names", {"aria-hidden": "true"}), tip = h("div.tip", {hidden: true});
  const legend = h("div.legend"), found = h("div.lassoed"), about = h("p.muted.tally");
  const tabs = h("div.tabs", {role: "group", "aria-label": "Colour by"}, COLOURS.map(([kind, label]) =>
    h("button", {type: "button", data: {kind}, onclick: () => go({color: kind === "value" ? "similarity" : kind}, {replace: true})}, label)));
  const tool = (name, label, act, more = {}) => h("button.icon", {type: "button", title: label, "aria-label": label, onclick: act, ...more}, sign(name));
  const lasso = tool("lasso", "Lasso: draw around samples (or hold Shift)", () => lassoing(!scatter.lassoing), {"aria-pressed": "false"});
  const tools = h("div.tools", {}, lasso, tool("plus", "Nearer", () => scatter.zoom(1.5)), tool("minus", "Farther", () => scatter.zoom(1 / 1.5)),
    tool("fit", "All of it", () => scatter.home()));
  const stage = h("div.stage", {}, canvas, names, tip, tools), cover = h("div.cover");
  const side = h("aside.side", {"aria-label": "Legend and lassoed samples"}, found, legend);
  const element = h("div.map", {}, h("div.bar-row", {}, h("h1", {}, "Map"), about, h("span.grow"), tabs), h("div.map-body", {}, h("div.stage-frame", {}, stage, cover), side));
  let data = null, only = null, closed = false, timer = null, drawnFor = null, inside = null;

  const scatter = new Scatter(canvas, {
    over: hover, view: () => data && label(), pick: (point) => { show([data.uid[point]]); go({sample: data.uid[point]}); },
    lasso: (points) => { inside = points.length ? points : null; lassoed(); },
  });

  function lassoing(on) {
    scatter.lassoing = on;
    lasso.setAttribute("aria-pressed", String(on));
    stage.classList.toggle("lassoing", on);
  }

  canvas.addEventListener("keydown", (event) => {
    const step = {ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60]}[event.key];
    if (step) scatter.pan(...step);
    else if (event.key === "+" || event.key === "=") scatter.zoom(1.4);
    else if (event.key === "-") scatter.zoom(1 / 1.4);
    else if (event.key === "0") scatter.home();
    else return;
    event.preventDefault();
  });

  async function load() {
    const kept = held.get(root.name);
    try {
      const answer = kept ?? await ask("map");
      if (closed) return;
      if (answer.x === undefined) {
        fill(cover, notice({mark: "near", title: "The map is being drawn", text: `Since ${Math.max(1, Math.round(answer.seconds ?? 0))} s. A large run takes about a minute, once; `
          + "this page shows it as soon as it is there."}), h("div.progress", {role: "progressbar", "aria-label": "Drawing the map"}));
        cover.hidden = false;
        timer = setTimeout(load, AGAIN);
        return;
      }
      held.set(root.name, answer);
      data = answer;
      cover.hidden = true;
      fill(cover);
      about.textContent = data.x.length < data.total ? `${count(data.x.length)} of ${counted(data.total, "sample")}` : counted(data.x.length, "sample");
      if (!data.x.length) {
        cover.hidden = false;
        fill(cover, notice({title: "Nothing to draw", text: "No sample of this run has an embedding of its picture."}));
      }
      scatter.setPoints(Float32Array.from(data.x), Float32Array.from(data.y));
      say(`Map of ${about.textContent}`);
      only = state().class === "" ? null : state().class;
      coloured();
      if (only !== null) scatter.frame(members());
    } catch (error) {
      if (closed) return;
      cover.hidden = false;
      fill(cover, failure(error, () => { fill(cover); load(); }));
    }
  }

  /** What each point is called by the kind of colouring, and the groups in their order. */
  function groups() {
    const kind = state().color === "verdict" ? "verdict" : "class_id", sizes = new Map();
    for (const key of data[kind]) sizes.set(key, (sizes.get(key) ?? 0) + 1);
    const named = new Map(data.classes.map((one) => [one.class_id, one.name]));
    return {of: data[kind], list: [...sizes].sort((a, b) => (a[0] === null) - (b[0] === null) || b[1] - a[1]).map(([key, size]) => ({
      key, size, name: kind === "verdict" ? (verdictOf(key).reason ? words(verdictOf(key).reason) : key) : key === null ? "in no class" : named.get(key) ?? `class ${key}`}))};
  }

  const members = () => { const points = []; groups().of.forEach((key, at) => String(key) === only && points.push(at)); return points; };

  function coloured() {
    const how = state().color, dark = isDark();
    scatter.ink = dark ? "#fff" : "#111";
    for (const tab of tabs.children) tab.setAttribute("aria-pressed", String((how === "similarity" ? "value" : how) === tab.dataset.kind));
    drawnFor = `${how}${dark}`;
    if (how === "similarity") {
      only = null;
      const values = data.value.filter((value) => value !== null).sort((a, b) => a - b);
      const low = values[Math.floor(values.length * 0.02)] ?? 0, high = values[Math.floor(values.length * 0.98)] ?? 1;
      scatter.setColours(Uint32Array.from(data.value, (value) => (value === null ? rgb(...NONE[+dark]) : ramp((value - low) / (high - low || 1), dark))));
      fill(legend, h("h2", {}, "Similarity of picture and caption"), scale(dark), h("div.ends", {}, h("span", {}, cosine(low)), h("span", {}, cosine(high))));
      return;
    }
    const {of, list} = groups();
    const colours = new Map(list.map(({key}, at) => [key, how === "verdict" ? verdictColour(key, at, dark) : classColour(key, dark)]));
    scatter.setColours(Uint32Array.from(of, (key) => colours.get(key)), only === null ? null : Uint8Array.from(of, (key) => +(String(key) !== only)));
    const item = ({key, name, size}) => h("li", {}, h("button.group", {type: "button", "aria-pressed": String(only === String(key)), onclick: () => {
      only = only === String(key) ? null : String(key);
      coloured();
      only === null ? scatter.home() : scatter.frame(members());
      say(only === null ? "All are shown" : `${name}: ${counted(size, "sample")}`);
    }}, h("span.dot", {css: {"--dot": css(colours.get(key))}}), h("span.grow", {}, name), h("span.muted", {}, count(size))));
    fill(legend, h("h2", {}, how === "verdict" ? "Verdicts" : "Classes"), h("ul", {}, list.slice(0, LEGEND).map(item)),
      list.length > LEGEND ? h("p.muted.more", {}, `and ${count(list.length - LEGEND)} smaller ones`) : null);
  }

  /** Names of classes: the largest first, each where none is yet; more of them as one comes nearer. */
  function label() {
    const {ratio, width, height} = scatter, context = names.getContext("2d");
    if (names.width !== canvas.width || names.height !== canvas.height) Object.assign(names, {width: canvas.width, height: canvas.height});
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.clearRect(0, 0, width, height);
    if (state().color !== "class") return;
    const style = getComputedStyle(cover), taken = [];
    Object.assign(context, {font: `560 12.5px ${style.fontFamily}`, textAlign: "center", textBaseline: "middle", lineJoin: "round", lineWidth: 4,
                            strokeStyle: style.backgroundColor, fillStyle: style.color});
    for (const one of data.classes) {
      if (only !== null && String(one.class_id) !== only) continue;
      const name = one.name.length > 26 ? `${one.name.slice(0, 25)}…` : one.name, half = context.measureText(name).width / 2 + 5;
      const [left, top] = [scatter.across(one.x), scatter.down(one.y)];
      if (left < half || left > width - half || top < 10 || top > height - 10) continue;
      if (taken.some(([l, t, w]) => Math.abs(l - left) < w + half && Math.abs(t - top) < 19)) continue;
      taken.push([left, top, half]);
      context.strokeText(name, left, top);
      context.fillText(name, left, top);
    }
  }

  function hover(point, left, top) {
    canvas.classList.toggle("over", point >= 0);
    tip.hidden = point < 0;
    if (point < 0) return;
    if (tip.dataset.point !== String(point)) {
      tip.dataset.point = point;
      const name = data.classes.find((one) => one.class_id === data.class_id[point])?.name;
      const undecoded = verdictOf(data.verdict[point]).reason.startsWith("image_");
      fill(tip, picture({uid: data.uid[point], width: undecoded ? null : 1}, 128), h("div", {}, name && h("strong", {}, name), badge(data.verdict[point]),
        h("span.muted", {}, `similarity ${cosine(data.value[point])}`)));
    }
    const right = left > scatter.width / 2;
    tip.style.setProperty("left", `${right ? left - 226 : left + 14}px`);
    tip.style.setProperty("top", `${Math.min(Math.max(top - 40, 4), scatter.height - 92)}px`);
  }

  function lassoed() {
    if (!inside) return fill(found);
    const uids = inside.map((point) => data.uid[point]);
    const tiles = inside.slice(0, TILES).map((point) => ({uid: data.uid[point], caption: null, verdict: data.verdict[point], width: 1,
      class_name: data.classes.find((one) => one.class_id === data.class_id[point])?.name ?? "in no class"}));
    show(uids.slice(0, 1000));
    fill(found, h("header", {}, h("h2", {}, counted(uids.length, "sample")), h("span.grow"),
      h("button.button.main", {type: "button", onclick: () => select(uids)}, "Select all"),
      h("button.icon", {type: "button", "aria-label": "Drop the lasso", onclick: () => { inside = null; scatter.path = []; scatter.draw(); lassoed(); }}, sign("close"))),
      grid(tiles, {small: true}), uids.length > TILES ? h("p.muted.more", {}, `The first ${TILES} are shown; "Select all" takes them all.`) : null);
    say(`${counted(uids.length, "sample")} in the lasso`);
  }

  const theme = matchMedia("(prefers-color-scheme: dark)"), repaint = () => data && coloured();
  theme.addEventListener("change", repaint);
  addEventListener("theme", repaint);
  fill(cover, notice({mark: "near", title: "The map is on its way"}), h("div.progress", {role: "progressbar", "aria-label": "Loading the map"}));
  load();
  return {
    element,
    update(now) {
      if (data && `${now.color}${isDark()}` !== drawnFor) { only = null; coloured(); }
    },
    focus: () => canvas.focus(),
    close() {
      closed = true;
      clearTimeout(timer);
      theme.removeEventListener("change", repaint);
      removeEventListener("theme", repaint);
    },
  };
}

const isDark = () =>
  (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const NONE = [[196, 192, 184], [88, 86, 80]];
const rgb = (red, green, blue) => Math.round(red) | (Math.round(green) << 8) | (Math.round(blue) << 16);
const css = (colour) => `rgb(${colour & 255} ${(colour >> 8) & 255} ${(colour >> 16) & 255})`;

/** Hues a golden angle apart: the ids of classes that lie side by side get colours that do not. */
function classColour(id, dark) {
  if (id === null) return rgb(...NONE[+dark]);
  const lightness = [0.44, 0.56, 0.5][id % 3] + (dark ? 0.14 : 0);
  return hsl((id * 137.508) % 360, dark ? 0.62 : 0.66, lightness);
}

function verdictColour(verdict, at, dark) {
  const {kind} = verdictOf(verdict);
  if (kind === "kept") return dark ? rgb(88, 189, 149) : rgb(26, 112, 83);
  if (kind === "failed") return dark ? rgb(238, 127, 134) : rgb(168, 50, 62);
  return hsl([24, 275, 46, 330, 205, 60, 300, 230, 10][at % 9], 0.7, dark ? 0.66 : 0.45);
}

function hsl(hue, saturation, lightness) {
  const part = (n) => {
    const k = (n + hue / 30) % 12;
    return 255 * (lightness - saturation * Math.min(lightness, 1 - lightness) * Math.max(-1, Math.min(k - 3, 9 - k, 1)));
  };
  return rgb(part(0), part(8), part(4));
}

const RAMP = [[68, 1, 84], [59, 82, 139], [33, 145, 140], [94, 201, 98], [253, 231, 37]];
const RAMP_LIGHT = [[130, 60, 150], [62, 84, 160], [28, 125, 135], [70, 165, 80], [225, 170, 20]];

function ramp(share, dark) {
  const colours = dark ? RAMP : RAMP_LIGHT, at = Math.min(Math.max(share, 0), 1) * (colours.length - 1), low = Math.min(Math.floor(at), colours.length - 2);
  return rgb(...[0, 1, 2].map((part) => colours[low][part] + (colours[low + 1][part] - colours[low][part]) * (at - low)));
}

function scale(dark) {
  const stops = Array.from({length: 9}, (_, at) => css(ramp(at / 8, dark))).join(", ");
  return h("div.scale", {css: {background: `linear-gradient(to right, ${stops})`}});
}
