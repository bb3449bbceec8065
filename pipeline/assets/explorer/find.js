// Looking for samples: by text, picture, sample, class or entity, or none of them: then the run from its beginning. With filters.

import {count, counted, failure, fill, h, notice, say, sign, verdictOf, words} from "./dom.js";
import {fresh, grid, more, picture, show, waiting} from "./grid.js";
import {FILTERS, QUERIES, ask, go, keepPicture, pictureOf, select, state, where} from "./store.js";

const PAGE = 60, MOST = 960;

/** The view: an element, and what it does when the state changes. */
export function find(root) {
  const has = new Set(root.columns.map((column) => column.name));
  const asked = form(), chosen = h("div.chips"), panel = filters(root, has);
  const head = h("div.results-head"), results = h("div.results");
  const element = h("div.find", {}, h("h1.vh", {}, "Find samples"), h("div.ask", {}, asked.element, chosen),
    panel.element, h("section.found", {"aria-label": "Samples"}, head, results));
  let running = null, last = null;

  async function load(now) {
    running?.abort();
    const own = running = new AbortController();
    results.setAttribute("aria-busy", "true");
    const wait = () => fill(results, waiting(24));
    if (last === null) wait();
    const slow = setTimeout(wait, 150);
    try {
      const found = await answered(now, own.signal);
      if (own.signal.aborted) return;
      clearTimeout(slow);
      drawn(now, found, own);
    } catch (error) {
      clearTimeout(slow);
      if (error.name === "AbortError") return;
      fill(head);
      fill(results, failure(error, () => load(state())));
      say(error.message);
    }
    results.removeAttribute("aria-busy");
  }

  function drawn(now, found, own) {
    show(found.samples.map((sample) => sample.uid));
    const said = now.picture && pictureOf(now.picture) === null ? "" : found.hits
      ? `${count(found.samples.length)} nearest${now.verdict === "" ? " of the kept" : ""}`
      : found.total === undefined ? (found.samples.length ? "From the beginning of the run" : "") : `${counted(found.total, "sample")}${isFiltered(now) ? ` of ${count(root.samples)}` : ""}`;
    const wider = found.hits && now.verdict === "" && root.kept < root.samples
      ? h("button.button.quiet", {type: "button", onclick: () => go({verdict: "any"})}, "Among the rejected too") : null;
    const all = found.samples.length ? h("button.button.quiet", {type: "button", onclick: () => select(found.samples.map((sample) => sample.uid))},
      "Select these") : null;
    fill(head, h("p", {}, h("strong", {}, said), found.hits
      ? h("span.muted", {}, ` · ${Math.max(1, Math.round(found.seconds * 1000))} ms${found.exact ? " · exact" : " · by the index"}`) : null),
      h("span.grow"), wider, all);
    say(said);
    if (!found.samples.length && !found.more) {
      fill(results, nothing(now));
      return;
    }
    const list = grid(found.samples);
    const next = h("button.button", {type: "button"}, "Show more");
    const foot = h("div.foot", {}, next);
    let onward = found.more;
    foot.hidden = !onward;
    next.addEventListener("click", async () => {
      next.disabled = true;
      try {
        const further = await onward(own.signal);
        const at = list.children.length;
        more(list, further.samples);
        show([...list.children].map((item) => item.dataset.uid));
        list.children[at]?.querySelector(".tile").focus();
        onward = further.more;
        foot.hidden = !onward;
      } catch (error) {
        if (error.name !== "AbortError") fill(foot, failure(error));
      }
      next.disabled = false;
    });
    fill(results, list, foot);
  }

  return {
    element,
    update(now) {
      asked.update(now);
      panel.update(now);
      fill(chosen, chips(now));
      const key = JSON.stringify([...QUERIES, ...FILTERS, "minus", "among", "root"].map((name) => now[name]));
      if (key !== last) load(now);
      last = key;
    },
    focus: asked.focus,
    close: () => running?.abort(),
  };
}

const filtersOf = (now) => FILTERS.filter((name) => now[name] !== "" && now[name] !== "any");
const isFiltered = (now) => filtersOf(now).length > 0;
const isQuery = (now) => QUERIES.some((name) => now[name] !== "");

/** Samples, and a function that gets the further ones where there are any. */
async function answered(now, signal) {
  if (!isQuery(now)) return listed(now, 0, signal);
  if (now.picture && pictureOf(now.picture) === null) return {samples: [], hits: true, seconds: 0, exact: true};
  return searched(now, PAGE, 0, signal);
}

async function listed(now, offset, signal) {
  // A page may be short where the filters leave little of a shard: it goes on until there is a page to show.
  const samples = [];
  let page, from = offset;
  do {
    page = await ask("samples", {query: {where: JSON.stringify(where(now)), offset: from, limit: PAGE}, signal});
    samples.push(...page.samples);
    from = page.next;
  } while (samples.length < PAGE && from !== undefined && from !== null);
  const onward = from !== undefined && from !== null;
  return {samples, total: page.total ?? undefined, more: onward ? (s) => listed(now, from, s) : null};
}

async function searched(now, k, have, signal) {
  const query = now.picture ? {image: pictureOf(now.picture)} : now.like ? {uid: now.like} : now.near ? {class_id: Number(now.near)}
    : now.about ? {entity: now.about} : {text: now.text};
  const found = await ask("search", {signal, body: {
    ...query, ...(now.minus && {minus_text: now.minus}), modality: now.among === "text" ? "text" : "image", k, ...(now.verdict === "any" && {verdict: "any"}), where: where(now)}});
  const onward = found.hits.length === k && k < MOST;
  return {samples: found.hits.slice(have), hits: true, seconds: found.seconds, exact: found.exact,
          more: onward ? (s) => searched(now, Math.min(2 * k, MOST), k, s) : null};
}

function nothing(now) {
  if (now.picture && pictureOf(now.picture) === null) {
    return notice({mark: "picture", title: "The picture of this search is not here",
                   text: "A picture that somebody searches by stays in that browser tab: drop, paste or choose it again."});
  }
  const loosen = isFiltered(now) && h("button.button", {type: "button", onclick: () => go(cleared())}, "Clear the filters");
  return notice({title: "No sample is like that",
                 text: isFiltered(now) ? "No sample meets all of these filters." : "This run has no sample to show.", actions: loosen ? [loosen] : []});
}

const cleared = () => Object.fromEntries(FILTERS.map((name) => [name, null]));

/** The search form. It keeps its fields, so that nobody loses the place while typing. */
function form() {
  const text = h("input", {type: "search", id: "text", name: "text", placeholder: "Describe a picture", autocomplete: "off", maxlength: 2000,
                           "aria-label": "Describe a picture", enterkeyhint: "search"});
  const minus = h("input", {type: "search", id: "minus", name: "minus", placeholder: "without…", autocomplete: "off", maxlength: 2000,
                            "aria-label": "Without: words that are taken away", enterkeyhint: "search"});
  const file = h("input.vh", {type: "file", accept: "image/*", id: "file", tabindex: -1, "aria-label": "A picture to look for",
                              onchange: () => { if (file.files.length) byPicture(file.files[0]); file.value = ""; }});
  const choose = h("button.icon", {type: "button", title: "Search by a picture: choose, drop or paste one",
                                   "aria-label": "Search by a picture", onclick: () => file.click()}, sign("picture"));
  const element = h("form.search", {role: "search", onsubmit: (event) => {
    event.preventDefault();
    const words = text.value.trim(), without = minus.value.trim();
    const now = state();
    // Words are a new query, but "without" alone goes with the picture, sample or class that is asked for.
    go(words ? fresh({text: words, minus: without || null}) : isQuery(now) && !now.text ? {minus: without || null} : fresh({}));
  }}, h("label.field", {for: "text"}, sign("search"), text, choose), h("label.field.without", {for: "minus"}, sign("minus"), minus), file,
    h("button.button.main", {type: "submit"}, "Search"));
  const said = {};
  return {element, focus: () => { text.focus(); text.select(); }, update(now) {
    // What somebody is typing stays, until the state says something else.
    for (const field of [text, minus]) {
      if (said[field.name] !== now[field.name]) field.value = now[field.name];
      said[field.name] = now[field.name];
    }
  }};
}

/** Searches by a file; what is no picture is said. */
export async function byPicture(file) {
  try {
    go(fresh({picture: await keepPicture(file)}));
  } catch (error) {
    const place = document.querySelector(".results") ?? document.getElementById("main");
    fill(place, failure(error));
    say(error.message);
  }
}

/** What is asked for beside words, each to be taken away. */
function chips(now) {
  const chip = (label, content, name) => h("span.chip", {}, content, h("span", {}, label),
    h("button.icon", {type: "button", "aria-label": `Remove: ${label}`, onclick: () => go({[name]: null})}, sign("close")));
  const held = now.picture && pictureOf(now.picture);
  return [
    now.like && chip("like this sample", picture({uid: now.like}, 96), "like"),
    now.picture && chip("like your picture", held ? h("span.frame", {}, preview(held)) : sign("picture"), "picture"),
    now.near && chip(`near the middle of class ${now.near}`, null, "near"),
    now.about && chip(`about the entity ${now.about}`, null, "about"),
  ];
}

/** A picture that the page itself holds: drawn, since its policy loads no pictures but the service's. */
function preview(base64) {
  const canvas = h("canvas", {width: 96, height: 96, "aria-hidden": "true"});
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0));
  createImageBitmap(new Blob([bytes])).then((bitmap) => {
    const side = Math.min(bitmap.width, bitmap.height);
    canvas.getContext("2d").drawImage(bitmap, (bitmap.width - side) / 2, (bitmap.height - side) / 2, side, side, 0, 0, 96, 96);
  }, () => {});
  return canvas;
}

/** The filters of a root: those for which it has columns. They act at once. */
function filters(root, has) {
  const now = () => state();
  const verdicts = Object.entries(root.verdicts);
  const boxes = verdicts.map(([verdict, number]) => h("label.check", {},
    h("input", {type: "checkbox", value: verdict, onchange: ticked}),
    h(`span.dot.${verdictOf(verdict).kind}`), h("span.grow", {}, verdictOf(verdict).reason ? words(verdictOf(verdict).reason) : verdict),
    h("span.muted", {}, count(number))));
  // A search looks among the kept, where nothing is ticked by hand: that box then shows it.
  function ticked() {
    const on = boxes.map((box) => box.querySelector("input")).filter((box) => box.checked).map((box) => box.value).join(",");
    go({verdict: on || (isQuery(now()) ? "any" : null)});
  }
  const number = (name, label) => h("input", {type: "number", step: "0.01", min: "-1", max: "1", inputmode: "decimal", placeholder: label,
    "aria-label": `Similarity of picture and caption, ${label}`, onchange: (event) => go({[name]: event.target.value || null})});
  const from = number("from", "at least"), to = number("to", "at most");
  const choice = (name, label, options) => h("select", {"aria-label": label, onchange: (event) => go({[name]: event.target.value || null})},
    options.map(([value, text]) => h("option", {value}, text)));
  const language = choice("language", "Language", [["", "any"], ...Object.entries(root.languages).map(([code, n]) => [code, `${code} · ${count(n)}`])]);
  const copies = choice("copies", "Duplicates", [["", "shown"], ["none", "left out"], ["exact", "exact ones alone"], ["near", "near ones alone"]]);
  const among = h("select", {"aria-label": "Compare the query with", onchange: (event) => go({among: event.target.value})},
    h("option", {value: "image"}, "pictures"), h("option", {value: "text"}, "captions"));
  const classes = choice("class", "Class", [["", "any"]]);
  if (root.classes) {
    ask("classes", {query: {level: 0, limit: 200}}).then((page) => {
      classes.append(...page.classes.map((one) => h("option", {value: one.class_id}, `${one.name} · ${count(one.size)}`)));
      sync(now());
    }, () => {});
  }
  const names = new Map();
  const entity = h("input", {type: "search", placeholder: "any", "aria-label": "Entity", list: "entities", autocomplete: "off",
    oninput: suggest, onchange: () => {
      const typed = entity.value.trim();
      go({entity: typed === "" ? null : names.get(typed) ?? typed});
    }});
  const suggestions = h("datalist", {id: "entities"});
  let asked = 0;
  async function suggest() {
    const own = asked += 1;
    await new Promise((done) => setTimeout(done, 150));
    if (own !== asked) return;
    const page = await ask("entities", {query: {q: entity.value.trim(), limit: 20}}).catch(() => ({entities: []}));
    if (own !== asked) return;
    for (const one of page.entities) names.set(one.name, one.id);
    fill(suggestions, page.entities.map((one) => h("option", {value: one.name}, count(one.count))));
  }
  const group = (label, ...content) => h("fieldset", {}, h("legend", {}, label), content);
  const clear = h("button.button.quiet", {type: "button", onclick: () => go(cleared())}, "Clear");
  const body = h("div.filters-body", {id: "filters"}, group("Verdict", boxes),
    has.has("clip_similarity") && group("Similarity", h("div.pair", {}, from, h("span.muted", {}, "–"), to)),
    root.classes > 0 && group("Class", classes), has.has("entity_count") && group("Entity", entity, suggestions),
    Object.keys(root.languages).length > 0 && group("Language", language), has.has("exact_duplicate") && group("Duplicates", copies),
    group("Compare with", among));
  const number_ = h("span.badge");
  const fold = h("button.fold", {type: "button", "aria-expanded": "false", "aria-controls": "filters", onclick: () => {
    const open = element.classList.toggle("open");
    fold.setAttribute("aria-expanded", String(open));
  }}, sign("filter"), "Filters", number_);
  const element = h("aside.filters", {"aria-label": "Filters"}, h("div.filters-head", {}, h("h2", {}, "Filters"), fold, clear), body);

  function sync(now) {
    const on = new Set(now.verdict === "" && isQuery(now) ? ["kept"] : now.verdict.split(","));
    for (const box of boxes) box.querySelector("input").checked = on.has(box.querySelector("input").value);
    from.value = now.from;
    to.value = now.to;
    if (now.class && ![...classes.options].some((option) => option.value === now.class)) {
      classes.append(h("option", {value: now.class}, `class ${now.class}`));
    }
    for (const [box, name] of [[language, "language"], [copies, "copies"], [classes, "class"], [among, "among"]]) box.value = now[name];
    if (document.activeElement !== entity) entity.value = [...names].find(([, id]) => id === now.entity)?.[0] ?? now.entity;
    const number = filtersOf(now).length;
    number_.textContent = number || "";
    clear.hidden = number === 0;
  }
  return {element, update: sync};
}

