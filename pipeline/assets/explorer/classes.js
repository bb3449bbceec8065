// The classes of a run: by level, the largest first, with their exemplars.

import {cosine, count, counted, failure, fill, h, notice, say, sign} from "./dom.js";
import {fresh, picture} from "./grid.js";
import {address, ask, go, state} from "./store.js";

const PAGE = 48, EXEMPLARS = 6;

export function classes(root) {
  const levels = [...root.levels].sort((a, b) => b - a);
  const list = h("div.class-list"), path = h("p.path"), head = h("p.muted.tally");
  const name = h("input", {type: "search", placeholder: "Find a class", "aria-label": "Find a class", autocomplete: "off", oninput: typed});
  const tabs = levels.length > 1 && h("div.tabs", {role: "group", "aria-label": "Level of classes"}, levels.map((level) =>
    h("button", {type: "button", data: {level}, onclick: () => go({level, parent: null})}, level === 0 ? "Fine" : level === levels[0] && levels.length > 2
      ? "Coarsest" : levels.length > 2 ? `Level ${level}` : "Coarse")));
  const element = h("div.classes", {}, h("div.bar-row", {}, h("h1", {}, "Classes"), head, h("span.grow"), tabs,
    h("label.field.small", {}, sign("search"), name)), path, list);
  let running = null, last = null, timer = null;

  function typed() {
    clearTimeout(timer);
    timer = setTimeout(() => go({name: name.value.trim() || null}, {replace: true}), 200);
  }

  async function load(now) {
    running?.abort();
    const own = running = new AbortController();
    list.setAttribute("aria-busy", "true");
    if (last === null) fill(list, skeleton());
    try {
      const cards = [];
      const page = await ask("classes", {query: {level: now.level, parent: now.parent, q: now.name, limit: PAGE}, signal: own.signal});
      if (own.signal.aborted) return;
      head.textContent = counted(page.total, "class", "classes");
      say(head.textContent);
      if (!page.classes.length) {
        fill(list, notice({title: "No such class", text: now.name ? "No name has these letters." : "There is none at this level.",
                           actions: [h("button.button", {type: "button", onclick: () => go({name: null, parent: null})}, "Show all")]}));
        list.removeAttribute("aria-busy");
        return;
      }
      cards.push(...page.classes.map(card));
      const grid = h("ul.cards", {}, cards);
      fill(list, grid, page.total > page.classes.length
        ? h("p.muted.more", {}, `The ${count(page.classes.length)} largest of ${count(page.total)}: the search finds the others.`) : null);
    } catch (error) {
      if (error.name === "AbortError") return;
      fill(list, failure(error, () => load(state())));
    }
    list.removeAttribute("aria-busy");
  }

  function card(one) {
    const inside = one.level > 0;
    const to = inside ? address({level: one.level - 1, parent: one.class_id, name: null}) : address(fresh({class: one.class_id}));
    const pictures = h("span.mosaic", {}, Array.from({length: EXEMPLARS}, (_, at) => {
      const exemplar = one.exemplars[at];
      return exemplar?.uid ? picture(exemplar, 128) : h("span.frame");
    }));
    if (inside) borrowed(one, pictures);
    return h("li.card", {}, h("a", {href: to, "data-link": true}, pictures, h("span.card-name", {}, one.name),
      h("span.facts", {}, h("span", {}, counted(one.size, "sample")),
        one.mean_similarity === null ? null : h("span", {title: "mean cosine of its samples to its centre"}, `tightness ${cosine(one.mean_similarity)}`))),
      one.entities.length ? h("p.entities", {}, one.entities.slice(0, 4).map((entity) =>
        h("a.tag", {href: address(fresh({about: entity.id})), "data-link": true, title: `${entity.lift.toFixed(1)} times as frequent here as in the run`},
          entity.name))) : h("p.entities.muted", {}, one.named ? "" : "no entity stands out"),
      h("div.row", {}, inside ? h("span.muted", {}, "open to see its finer classes") : [
        h("a.plain", {href: address(fresh({near: one.class_id})), "data-link": true}, "Nearest to its middle"),
        h("a.plain", {href: address({view: "map", color: "class", class: one.class_id}), "data-link": true}, "On the map")]));
  }

  /** A coarse class shows one exemplar of each of its largest classes, when it comes into sight. */
  function borrowed(one, place) {
    const watch = new IntersectionObserver(async (seen) => {
      if (!seen.some((entry) => entry.isIntersecting)) return;
      watch.disconnect();
      const page = await ask("classes", {query: {level: one.level - 1, parent: one.class_id, limit: EXEMPLARS}}).catch(() => ({classes: []}));
      const exemplars = page.classes.map((child) => child.exemplars[0]).filter((exemplar) => exemplar?.uid);
      exemplars.forEach((exemplar, at) => place.children[at]?.replaceWith(picture(exemplar, 128)));
    });
    watch.observe(place);
  }

  function trail(now) {
    if (now.parent === "") return [];
    return [h("a", {href: address({level: levels[0], parent: null}), "data-link": true}, "All classes"),
            h("span.muted", {}, ` › the finer classes of class ${now.parent}`)];
  }

  return {
    element,
    update(now) {
      if (tabs) for (const tab of tabs.children) tab.setAttribute("aria-pressed", String(tab.dataset.level === now.level));
      if (document.activeElement !== name) name.value = now.name;
      fill(path, trail(now));
      if (!root.classes) {
        fill(list, notice({title: "This run has no classes", text: "Give its recipe a section `classes`, and run it again: the columns are there, only the clustering is new."}));
        return;
      }
      const key = JSON.stringify([now.level, now.parent, now.name, now.root]);
      if (key !== last) load(now);
      last = key;
    },
    focus: () => name.focus(),
    close: () => running?.abort(),
  };
}

const skeleton = () => h("ul.cards.waiting", {"aria-hidden": "true"}, Array.from({length: 12}, () =>
  h("li.card", {}, h("span.mosaic", {}, Array.from({length: EXEMPLARS}, () => h("span.frame"))), h("span.bar"), h("span.bar.short"))));
