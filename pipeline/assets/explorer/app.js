// The page: its head, the view that the address names, keys, and pictures that are dropped or pasted.

import {classes} from "./classes.js";
import {count, failure, fill, h, notice, sign} from "./dom.js";
import {byPicture, find} from "./find.js";
import {tray} from "./grid.js";
import {map} from "./map.js";
import {samplePage} from "./sample.js";
import {address, ask, go, onState, state} from "./store.js";

const VIEWS = {find: ["Find", find], classes: ["Classes", classes], map: ["Map", map]};
const main = document.getElementById("main");
const sheet = samplePage();
const updateTray = tray(document.getElementById("tray"));
let roots = [], open = null, opened = "";

const links = Object.fromEntries(Object.entries(VIEWS).map(([view, [name]]) => [view, h("a", {"data-link": true}, name)]));
fill(document.getElementById("views"), Object.values(links));

const THEMES = ["", "light", "dark"], themeButton = h("button.icon", {type: "button", onclick: () => {
  const to = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "") + 1) % THEMES.length];
  try { localStorage.setItem("theme", to); } catch { /* not kept */ }
  themed(to);
}}, sign("theme"));
function themed(theme) {
  if (theme) document.documentElement.dataset.theme = theme;
  else delete document.documentElement.dataset.theme;
  const label = `Colours: ${theme || "as the system"}`;
  themeButton.setAttribute("aria-label", label);
  themeButton.title = label;
  dispatchEvent(new Event("theme"));
}
try { themed(THEMES.includes(localStorage.getItem("theme")) ? localStorage.getItem("theme") : ""); } catch { themed(""); }

const helpButton = h("button.icon", {type: "button", "aria-label": "Keys and help", title: "Keys and help (?)", onclick: help}, h("span", {"aria-hidden": "true"}, "?"));
const facts = h("span.root-facts");
fill(document.getElementById("tools"), facts, themeButton, helpButton);

function head(root) {
  const chooser = roots.length > 1
    ? h("select", {"aria-label": "Run", onchange: (event) => go({root: event.target.value === roots[0].name ? null : event.target.value, sample: null})},
        roots.map((one) => h("option", {value: one.name}, one.name))) : h("span.root-name", {}, root.name);
  if (roots.length > 1) chooser.value = root.name;
  fill(facts, chooser, h("span.muted", {title: `${root.model}, ${root.dimension} dimensions`}, `${count(root.kept)} of ${count(root.samples)} kept`));
}

function update(now, before) {
  for (const [view, link] of Object.entries(links)) {
    link.href = address({view, sample: null, ...(view !== "find" && {class: null})});
    view === now.view ? link.setAttribute("aria-current", "page") : link.removeAttribute("aria-current");
  }
  const root = now.root ? roots.find((one) => one.name === now.root) : roots[0];
  if (!root) {
    fill(main, notice({mark: "warn", bad: true, title: "This run is not served here", text: `The service has ${roots.map((one) => one.name).join(", ") || "none"}.`,
                       actions: [h("a.button", {href: "./"}, "Open the first one")]}));
    opened = "";
    return;
  }
  document.title = `${VIEWS[now.view][0]}${now.text ? `: ${now.text}` : ""} · ${root.name} · shardmill`;
  const key = `${now.view} ${root.name}`;
  if (key !== opened) {
    open?.close();
    head(root);
    open = VIEWS[now.view][1](root);
    fill(main, open.element);
    opened = key;
    if (before) scrollTo(0, 0);
  }
  open.update(now);
  sheet.update(now, before);
}

async function start() {
  try {
    ({roots} = await ask("roots"));
    if (!roots.length) {
      fill(main, notice({title: "No run is served", text: "Start it with a root: shardmill serve ROOT"}));
      return;
    }
    update(state(), null);
    onState((now, before) => {
      update(now, before);
      if (before.root !== now.root) updateTray();
    });
  } catch (error) {
    fill(main, failure(error, start));
  }
}

// Links that only change the state stay on the page.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-link]");
  if (!link || event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  event.preventDefault();
  const given = Object.fromEntries(new URLSearchParams(new URL(link.href).search));
  const none = Object.fromEntries(Object.keys(state()).map((name) => [name, null]));
  go({...none, ...given});
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  const typing = event.target.closest("input, textarea, select");
  if (event.key === "Escape" && typing) event.target.blur();
  if (typing) return;
  if (event.key === "/") {
    event.preventDefault();
    open?.focus();
  } else if (event.key === "?") {
    help();
  } else if (["ArrowDown", "ArrowRight"].includes(event.key) && [document.body, main].includes(document.activeElement)) {
    const first = document.querySelector('.grid .tile[tabindex="0"]');
    if (first) { event.preventDefault(); first.focus(); }
  }
});

const KEYS = [["/", "to the search"], ["← → ↑ ↓", "from sample to sample; on the map: move it"], ["Enter", "open the sample"], ["x", "select it"],
              ["l", "more like it"], ["+ − 0", "on the map: nearer, farther, all of it"], ["Shift and drag", "on the map: lasso"], ["Escape", "close, or leave a field"], ["?", "this help"]];
function help() {
  const dialog = h("dialog.sheet", {"aria-labelledby": "help-title", onclose: () => dialog.remove(), onclick: (event) => event.target === dialog && dialog.close()},
    h("div.body", {}, h("header", {}, h("h2", {id: "help-title"}, "Keys"), h("button.icon", {type: "button", "aria-label": "Close", onclick: () => dialog.close()}, sign("close"))),
      h("dl.keys", {}, KEYS.map(([key, text]) => h("div", {}, h("dt", {}, h("kbd", {}, key)), h("dd", {}, text)))),
      h("p.muted", {}, "A picture may be dropped or pasted anywhere. It stays in this tab; the service gets a copy of 512 pixels. "
        + "Words in the field “without” are taken away from the query, as vectors. The address of the page says all that is shown: share it.")));
  document.body.append(dialog);
  dialog.showModal();
}

// Pictures from outside.
const drop = document.getElementById("drop");
let inside = 0;
const isFile = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
addEventListener("dragenter", (event) => { if (isFile(event)) { event.preventDefault(); inside += 1; drop.hidden = false; } });
addEventListener("dragleave", (event) => { if (isFile(event)) { inside = Math.max(0, inside - 1); drop.hidden = inside === 0; } });
addEventListener("dragover", (event) => { if (isFile(event)) event.preventDefault(); });
addEventListener("drop", (event) => {
  if (!isFile(event)) return;
  event.preventDefault();
  inside = 0;
  drop.hidden = true;
  if (roots.length && event.dataTransfer.files.length) byPicture(event.dataTransfer.files[0]);
});
addEventListener("paste", (event) => {
  const file = [...(event.clipboardData?.files ?? [])][0];
  if (file && roots.length) { event.preventDefault(); byPicture(file); }
});

start();
