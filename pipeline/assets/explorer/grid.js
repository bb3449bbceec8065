// Samples as tiles, and the tray of those that are selected.

import {badge, cosine, counted, fill, h, say, sign} from "./dom.js";
import {MOST_SELECTED, address, download, go, load, onSelection, select, selected, thumb} from "./store.js";

/** The uids that are shown, in order: the sample's page goes through them. */
export let shown = [];
export const show = (uids) => { shown = uids; };

/** A query that forgets the query before, but keeps the filters. */
export const fresh = (changes) => ({view: "find", text: null, minus: null, like: null, picture: null, near: null, about: null,
                                    sample: null, ...changes});

/** A picture of a sample, square; a sign instead where there is none to be had. */
export function picture(sample, size = 256, alt = "") {
  const frame = h("span.frame");
  const broken = () => fill(frame, sign("broken"), h("span.vh", {}, "no picture that can be decoded"));
  if (sample.width === null) broken();
  else {
    const image = h("img", {alt, width: 256, height: 256, loading: "lazy", decoding: "async"});
    frame.append(image);
    load(image, thumb(sample.uid, size), broken);
  }
  return frame;
}

function tile(sample) {
  const name = sample.caption || sample.class_name || "no caption";
  const link = h("a.tile", {href: address({sample: sample.uid}), "data-link": true, tabindex: -1, data: {uid: sample.uid}},
    picture(sample),
    h("span.under", {}, h("span.caption", {}, name),
      h("span.facts", {}, sample.verdict !== "kept" ? badge(sample.verdict) : h("span.kind", {}, sample.class_name ?? ""),
        sample.similarity === undefined ? null : h("span.score", {title: "cosine to the query"}, cosine(sample.similarity)))));
  const pick = h("button.pick", {type: "button", tabindex: -1, "aria-label": `Select: ${name}`, "aria-pressed": "false",
                                 onclick: () => toggle(sample.uid)}, sign("check"));
  const near = h("button.near", {type: "button", tabindex: -1, "aria-label": `More like: ${name}`, title: "More like this",
                                 onclick: () => go(fresh({like: sample.uid}))}, sign("near"));
  return h("li", {data: {uid: sample.uid}}, link, pick, near);
}

export const toggle = (uid) => select([uid], !selected().has(uid));

/** Tiles of samples; arrows move among them, Enter opens, x selects, l looks for more like it. */
export function grid(samples, {small = false} = {}) {
  const list = h(`ul.grid${small ? ".small" : ""}`, {onkeydown: move, onfocusin: (event) => hold(list, event.target.closest(".tile"))},
                 samples.map(tile));
  hold(list, list.querySelector(".tile"));
  mark(list, selected());
  return list;
}

export function more(list, samples) {
  list.append(...samples.map(tile));
  mark(list, selected());
}

/** Tiles that are on their way: as large as those to come, so that nothing moves. */
export const waiting = (number, small = false) =>
  h(`ul.grid.waiting${small ? ".small" : ""}`, {"aria-hidden": "true"}, Array.from({length: number}, () =>
    h("li", {}, h("span.tile", {}, h("span.frame"), h("span.under", {}, h("span.bar"), h("span.bar.short"))))));

function hold(list, tile) {
  if (!tile) return;
  for (const other of list.querySelectorAll('.tile[tabindex="0"]')) other.tabIndex = -1;
  tile.tabIndex = 0;
}

function mark(list, set) {
  for (const item of list.children) {
    const on = set.has(item.dataset.uid);
    item.classList.toggle("on", on);
    item.querySelector(".pick")?.setAttribute("aria-pressed", String(on));
  }
}

function move(event) {
  const list = event.currentTarget, tile = event.target.closest(".tile");
  if (!tile || event.ctrlKey || event.metaKey || event.altKey) return;
  const tiles = [...list.querySelectorAll(".tile")], at = tiles.indexOf(tile);
  const columns = getComputedStyle(list).gridTemplateColumns.split(" ").length;
  const step = {ArrowRight: 1, ArrowLeft: -1, ArrowDown: columns, ArrowUp: -columns}[event.key];
  const to = step !== undefined ? at + step : event.key === "Home" ? 0 : event.key === "End" ? tiles.length - 1 : null;
  if (to !== null) {
    event.preventDefault();
    tiles[Math.min(Math.max(to, 0), tiles.length - 1)].focus();
  } else if (event.key === "x" || event.key === " ") {
    event.preventDefault();
    toggle(tile.dataset.uid);
  } else if (event.key === "l") {
    event.preventDefault();
    go(fresh({like: tile.dataset.uid}));
  }
}

const FORMATS = [
  ["txt", "List", "One uid a line: an allow or deny list that a recipe reads."],
  ["npy", "npy", "DataComp's subset form, as its resharder reads it."],
  ["parquet", "Parquet", "uid, shard, row and caption, for everything else."],
];

/** The tray at the foot of the page, while anything is selected. */
export function tray(place) {
  const number = h("strong"), full = h("span.muted");
  const clear = h("button.button.quiet", {type: "button", onclick: () => select(null)}, "Clear");
  const out = h("button.button.main", {type: "button", onclick: exporting}, "Export…");
  fill(place, number, full, h("span.grow"), clear, out);
  const update = (set) => {
    place.hidden = set.size === 0;
    document.body.classList.toggle("with-tray", set.size > 0);
    number.textContent = `${counted(set.size, "sample")} selected`;
    full.textContent = set.size >= MOST_SELECTED ? " (no more go into one export)" : "";
    for (const list of document.querySelectorAll("ul.grid:not(.waiting)")) mark(list, set);
  };
  onSelection((set) => { update(set); say(`${counted(set.size, "sample")} selected`); });
  update(selected());
  return () => update(selected());
}

function exporting() {
  const problem = h("p.bad-text", {role: "alert"});
  const one = ([format, name, text]) => h("li", {}, h("button.choice", {type: "button", onclick: () => get(format)},
    h("strong", {}, name), h("span", {}, text)));
  const get = async (format) => {
    problem.textContent = "";
    try {
      const blob = await download("selection", {body: {uids: [...selected()], format}});
      const link = h("a", {href: URL.createObjectURL(blob), download: `selection.${format}`});
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
      say(`selection.${format} was downloaded`);
    } catch (error) {
      problem.textContent = error.message;
    }
  };
  const dialog = h("dialog.sheet", {"aria-labelledby": "export-title", onclose: () => dialog.remove(),
                                    onclick: (event) => event.target === dialog && dialog.close()},
    h("div.body", {}, h("header", {}, h("h2", {id: "export-title"}, `Export ${counted(selected().size, "sample")}`),
      h("button.icon", {type: "button", "aria-label": "Close", onclick: () => dialog.close()}, sign("close"))),
    h("ul.choices", {}, FORMATS.map(one)), problem,
    h("p.muted", {}, "In a recipe, this list leaves the selected samples out of the next run (",
      h("code", {}, "any_of_file"), " keeps them alone):"),
    h("pre", {tabindex: 0}, "filters:\n  uid: {none_of_file: selection.txt}")));
  document.body.append(dialog);
  dialog.showModal();
}
