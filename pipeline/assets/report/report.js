"use strict";
// Sorts tables by the heads of their columns and filters rows, cards and pictures by their text. It only moves and hides what is
// there: no text of the page becomes code, an attribute or an address.
(function () {
  function key(row, column) {
    const cell = row.cells[column], text = cell ? (cell.dataset.sort || cell.textContent).trim() : "";
    const number = Number(text.replace(/[,%×<>\s]/g, ""));
    return { text, number: text !== "" && Number.isFinite(number) ? number : null };
  }
  function order(a, b, down) {
    if ((a.number === null) !== (b.number === null)) return a.number === null ? 1 : -1;   // what has no number comes last
    const sign = a.number === null ? a.text.localeCompare(b.text) : a.number - b.number;
    return down ? -sign : sign;
  }
  function sort(table, column, head) {
    const body = table.tBodies[0], rows = Array.from(body.rows, (row) => ({ row, key: key(row, column) }));
    const sorted = head.getAttribute("aria-sort"), numbers = rows.some((one) => one.key.number !== null);
    const down = sorted ? sorted === "ascending" : numbers;   // the largest number first, then the other way round
    for (const other of head.parentNode.cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    rows.sort((a, b) => order(a.key, b.key, down));
    body.append(...rows.map((one) => one.row));
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    let column = 0;
    for (const head of table.tHead.rows[0].cells) {
      const place = column + head.colSpan - 1;   // the picture of an entity stands before its name
      column += head.colSpan;
      if (head.tagName !== "TH") continue;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...head.childNodes);
      button.addEventListener("click", () => sort(table, place, head));
      head.append(button);
    }
  }
  const box = document.getElementById("search"), found = document.getElementById("found");
  const places = Array.from(document.querySelectorAll("ul.grid > li, ul.pairs > li, article.class, table.sortable > tbody > tr"));
  const texts = places.map((place) => place.textContent.toLowerCase());
  const opened = new Set();
  function search() {
    const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    places.forEach((place, i) => {
      const match = words.every((word) => texts[i].includes(word));
      place.hidden = !match;
      count += match;
      const group = place.closest("details.group, details.rest");
      if (group && words.length && match && !group.open) { group.open = true; opened.add(group); }
    });
    if (!words.length) { opened.forEach((group) => { group.open = false; }); opened.clear(); }
    found.textContent = words.length ? count + " found" : "";
  }
  // A picture that was clicked has the focus and is shown large (report.css); another click, or Escape, makes it small again.
  const large = () => (document.activeElement.matches("img.thumb") ? document.activeElement : null);
  document.addEventListener("mousedown", (event) => {
    const picture = large();
    if (picture && event.target === picture) { event.preventDefault(); picture.blur(); }
  });
  document.addEventListener("keydown", (event) => { if (event.key === "Escape" && large()) large().blur(); });
  box.addEventListener("input", search);
  box.parentNode.hidden = false;
})();
