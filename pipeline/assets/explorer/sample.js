// One sample: its picture, why it has its verdict, and everything that the run knows of it.

import {counted, failure, fill, h, say, sign, verdictOf, words} from "./dom.js";
import {fresh, picture, shown, toggle} from "./grid.js";
import {address, ask, go, hasToken, image, onSelection, selected, state} from "./store.js";

const SHOWN_NUMBERS = 6;

/** The page of the sample that the address names, over the view that it was opened from. */
export function samplePage() {
  const body = h("div.body"), title = h("h2", {id: "sample-title"}, "Sample");
  const step = (by, name, label) => h("button.icon", {type: "button", "aria-label": label, title: label, onclick: () => turn(by)}, sign(name));
  const before = step(-1, "left", "The one before (←)"), after = step(1, "right", "The next one (→)");
  const close = h("button.icon", {type: "button", "aria-label": "Close (Escape)", title: "Close (Escape)", onclick: () => shut()}, sign("close"));
  const dialog = h("dialog.sample", {"aria-labelledby": "sample-title", onclick: (event) => event.target === dialog && shut(), oncancel: (event) => {
    event.preventDefault();
    shut();
  }, onkeydown: (event) => {
    if (event.target.closest("input, pre, .wide") || event.ctrlKey || event.metaKey || event.altKey) return;
    const act = {ArrowLeft: () => turn(-1), ArrowRight: () => turn(1), x: () => toggle(state().sample), l: () => go(fresh({like: state().sample}))}[event.key];
    if (act) { event.preventDefault(); act(); }
  }}, h("header", {}, title, h("span.grow"), before, after, close), body);
  document.body.append(dialog);
  let running = null, from = null;

  const shut = () => go({sample: null});
  function turn(by) {
    const to = shown[shown.indexOf(state().sample) + by];
    if (to && shown.includes(state().sample)) go({sample: to}, {replace: true});
  }

  async function load(uid) {
    running?.abort();
    const own = running = new AbortController();
    const place = shown.indexOf(uid);
    before.disabled = place <= 0;
    after.disabled = place < 0 || place >= shown.length - 1;
    fill(body, h("div.sample-body", {}, h("div.figure", {}, h("span.frame")), h("div.story", {}, h("span.bar"), h("span.bar.short"), h("span.bar"))));
    try {
      const entries = await ask(`explain/${encodeURIComponent(uid)}`, {signal: own.signal});
      if (own.signal.aborted) return;
      fill(body, entries.map((entry, at) => page(entry, at, entries.length)));
      title.textContent = `Sample ${entries[0].key}`;
      say(`Sample ${entries[0].key}: ${verdictOf(entries[0].verdict).text}`);
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(body, failure(error, () => load(uid)));
      say(error.message);
    }
  }

  return {
    update(now, earlier) {
      if (!now.sample) {
        running?.abort();
        if (dialog.open) {
          dialog.close();
          (document.querySelector(`.tile[data-uid="${CSS.escape(from ?? "")}"]`))?.focus();
        }
        return;
      }
      from = now.sample;
      if (!dialog.open) dialog.showModal();
      if (!earlier || earlier.sample !== now.sample || earlier.root !== now.root || !body.childElementCount) load(now.sample);
    },
  };
}

function page(entry, at, number) {
  const all = Object.assign({}, ...Object.values(entry.columns));
  const decoded = all.width !== null && all.width !== undefined && !all.image_error;
  const pick = h("button.button", {type: "button", onclick: () => toggle(entry.uid)});
  const mark = (set) => {
    const on = set.has(entry.uid);
    pick.setAttribute("aria-pressed", String(on));
    fill(pick, sign("check"), on ? "Selected" : "Select");
  };
  mark(selected());
  onSelection((set) => pick.isConnected && mark(set));
  return h("article.sample-body", {}, number > 1 && h("p.muted.wide-note", {}, `${at + 1} of ${number} rows that have this uid: they are the same picture and caption.`),
    h("div.figure", {}, pictured(entry, all, decoded),
    h("div.row", {}, decoded && h("a.button", {href: address(fresh({like: entry.uid})), "data-link": true}, sign("near"), "More like this"), pick),
    decoded && namesOf(entry.uid)),
    h("div.story", {}, verdict(entry), h("blockquote", {}, all.caption ?? h("span.muted", {}, "no caption")), rules(entry.rules, verdictOf(entry.verdict).reason),
      h("div.facts-row", {}, labels(entry.labels), entities(all.entities), copies(all)), columns(entry)));
}

/** The picture; it leads to its own bytes, where a link may ask for them. */
function pictured(entry, all, decoded) {
  const shown = picture({uid: entry.uid, width: decoded ? all.width : null}, 512, all.caption || "the sample's picture");
  return !decoded || hasToken() ? shown
    : h("a", {href: image(entry.uid), target: "_blank", rel: "noopener", title: "The picture as it is stored"}, shown);
}

/** The verdict in a sentence: which rule took it out, and what the rule saw. */
function verdict(entry) {
  const {kind, reason} = verdictOf(entry.verdict), rule = entry.rules.find((one) => one.rule === reason);
  const text = kind === "kept" ? "Kept: it meets every rule."
    : kind === "failed" ? `Failed: ${words(reason)}. It could not be read, so no rule was asked.`
    : rule ? `Rejected by ${words(reason)}: ${words(rule.column)} is ${quoted(rule.value)}, and the rule wants ${rule.bound}.` : `Rejected by ${words(reason)}.`;
  return h(`p.banner.${kind}`, {}, text);
}

function rules(list, reason) {
  if (!list.length) return null;
  return h("section", {}, h("h3", {}, "Rules"), h("div.wide", {tabindex: 0, role: "region", "aria-label": "Rules"}, h("table", {},
    h("thead", {}, h("tr", {}, ["Rule", "Value", "Wants", ""].map((name) => h("th", {scope: "col"}, name || h("span.vh", {}, "Passes"))))),
    h("tbody", {}, list.map((rule) => h(`tr${rule.passes ? "" : ".fails"}${rule.rule === reason ? ".decides" : ""}`, {},
      h("th", {scope: "row"}, words(rule.rule)), h("td.number", {}, shownValue(rule.value)), h("td", {}, rule.bound),
      h("td", {}, h(`span.pass${rule.passes ? "" : ".no"}`, {}, sign(rule.passes ? "check" : "close"), h("span.vh", {}, rule.passes ? "passes" : "fails")))))))));
}

function labels(list) {
  if (!list) return null;
  return h("section", {}, h("h3", {}, "Classes"), list.length ? h("ul.bars", {}, list.map((label) => h("li", {},
    h("a", {href: address(fresh({class: label.class_id})), "data-link": true}, label.name ?? `class ${label.class_id}`),
    h("meter", {min: 0, max: 1, value: label.weight, "aria-label": "weight"}), h("span.number", {}, label.weight.toFixed(2)))))
    : h("p.muted", {}, "Not labelled: only kept samples are."));
}

function entities(list) {
  if (!Array.isArray(list)) return null;
  return h("section", {}, h("h3", {}, "Entities"), list.length ? h("ul.plain-list", {}, list.map((entity) => h("li", {},
    h("a", {href: address(fresh({about: entity.id})), "data-link": true}, entity.name),
    h("span.muted", {}, entity.confirmed ? " · the picture confirms it" : " · in the caption alone"),
    typeof entity.z === "number" ? h("span.muted.number", {}, ` z ${entity.z.toFixed(1)}`) : null)))
    : h("p.muted", {}, "The caption names none that is known."));
}

function copies(all) {
  if (all.exact_duplicate === undefined && all.near_duplicate === undefined) return null;
  const kinds = [all.exact_duplicate && "an exact", all.near_duplicate && "a near"].filter(Boolean);
  return h("section", {}, h("h3", {}, "Duplicates"), h("p", {}, kinds.length ? `It is ${kinds.join(" and ")} duplicate of a sample that stays. ` : "No other sample is its duplicate, or it is the one that stays."));
}

/** Names out of the run's own captions, when somebody asks. */
function namesOf(uid) {
  const place = h("div.names-of");
  const button = h("button.button.quiet", {type: "button", onclick: async () => {
    button.disabled = true;
    try {
      const {names} = await ask("name", {body: {uid}});
      fill(place, h("h3", {}, "Words of the run that fit it"), names.length ? h("p", {}, names.map((one) => h("a.tag", {href: address(fresh({text: one.name})), "data-link": true,
        title: `score ${one.score.toFixed(3)}`}, one.name))) : h("p.muted", {}, "None stands out."));
    } catch (error) {
      fill(place, h("p.bad-text", {role: "alert"}, error.message));
    }
  }}, "Words that fit it");
  return fill(place, button);
}

function columns(entry) {
  const row = (name, value) => h("div", {}, h("dt", {}, name), h("dd", {}, shownValue(value)));
  const identity = {uid: entry.uid, source_uid: entry.source_uid, shard_id: entry.shard_id, row: entry.row, key: entry.key, url: entry.url};
  return h("section", {}, h("h3", {}, "Everything that the run knows"), Object.entries({identity, ...entry.columns}).map(([stage, values]) =>
    h("details", {}, h("summary", {}, stage, h("span.muted", {}, ` ${counted(Object.keys(values).length, "column")}`)),
      h("dl", {}, Object.entries(values).map(([name, value]) => row(name, value))))));
}

const quoted = (value) => (typeof value === "string" ? `“${value}”` : shownValue(value));

function shownValue(value) {
  if (value === null || value === undefined) return "nothing";
  if (typeof value === "number") return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(SHOWN_NUMBERS)));
  if (typeof value === "boolean") return value ? "yes" : "no";
  return typeof value === "string" ? value : JSON.stringify(value);
}

