"use strict";
// The filter: cases that have every word, and one of the chosen values of each field. Without it, everything shows.
(() => {
  const field = document.getElementById("filter-text");
  if (!field) return;
  const filter = document.getElementById("filter");
  const count = document.getElementById("filter-count");
  const clear = document.getElementById("filter-clear");
  const note = document.getElementById("cases-filtered");
  const heads = [...document.querySelectorAll(".matrix thead th")].map((th) => th.textContent);
  const rows = [...document.querySelectorAll(".matrix tbody tr")].map((tr) => {
    const name = [...tr.querySelectorAll("th")].map((th) => th.textContent).join(" ");
    const cells = [...tr.querySelectorAll("td[data-cell]")].map((td) => {
      const box = document.getElementById(td.dataset.cell)?.parentElement;
      const run = [...box?.querySelectorAll("details.case") ?? []].map((details) => ({
        ...details.dataset, details, text: details.firstElementChild.textContent,
      }));
      const cases = [...run, ...JSON.parse(td.dataset.left)];
      for (const each of cases) each.text = `${name} ${heads[td.cellIndex]} ${each.text}`.toLowerCase();
      return { td, box, cases };
    });
    return { tr, section: cells.find(({ box }) => box)?.box.parentElement, cells };
  });
  const total = rows.flatMap(({ cells }) => cells).reduce((sum, { cases }) => sum + cases.length, 0);

  const apply = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const chosen = [...filter.querySelectorAll("fieldset")]
      .map((group) => [group.name, [...group.querySelectorAll(":checked")].map((box) => box.value)])
      .filter(([, values]) => values.length);
    let shown = 0;
    for (const { tr, section, cells } of rows) {
      let inRow = 0, runInRow = 0;
      for (const { td, box, cases } of cells) {
        let inCell = 0, runInCell = 0;
        for (const each of cases) {
          const fits = chosen.every(([name, values]) => values.includes(each[name]))
            && words.every((word) => each.text.includes(word));
          inCell += fits;
          if (!each.details) continue;
          each.details.hidden = !fits;
          runInCell += fits;
        }
        td.classList.toggle("out", !inCell);
        if (box) box.hidden = !runInCell;
        inRow += inCell;
        runInRow += runInCell;
      }
      tr.hidden = !inRow;
      if (section) section.hidden = !runInRow;
      shown += inRow;
    }
    const all = !words.length && !chosen.length;
    clear.hidden = note.hidden = all;
    count.textContent = all ? `all ${total} cases` : `${shown} of ${total} cases`;
  };
  const showAll = () => {
    field.value = "";
    for (const box of filter.querySelectorAll(":checked")) box.checked = false;
    apply();
  };
  filter.addEventListener("input", apply);
  clear.addEventListener("click", () => { showAll(); field.focus(); });
  // A link to what the filter hides shows it again.
  addEventListener("reveal", ({ detail }) => { if (detail.closest("[hidden]")) showAll(); });
  filter.hidden = false;
})();

// What an address leads to is shown: every part that it lies in is opened.
(() => {
  const reveal = (hash) => {
    const target = hash.length > 1 && document.getElementById(hash.slice(1));
    if (!target) return;
    dispatchEvent(new CustomEvent("reveal", { detail: target }));
    for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
    return target;
  };
  addEventListener("click", (event) => {
    const link = event.target.closest?.('a[href^="#"]');
    if (link) reveal(link.hash);
  });
  addEventListener("hashchange", () => reveal(location.hash)?.scrollIntoView());
  reveal(location.hash)?.scrollIntoView();

  const buttons = document.getElementById("all-cases");
  if (!buttons) return;
  buttons.addEventListener("click", ({ target }) => {
    if (!target.matches("button")) return;
    for (const details of document.querySelectorAll("#cases details.case:not([hidden])"))
      details.open = target.value === "open";
  });
  buttons.hidden = false;
})();
