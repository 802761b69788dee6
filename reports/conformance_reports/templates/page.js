"use strict";
// The filter: cases whose line, folder or adapter has every word. Without it, everything shows.
(() => {
  const field = document.getElementById("filter-text");
  if (!field) return;
  const count = document.getElementById("filter-count");
  const folders = [...document.querySelectorAll("#cases .folder")].map((section) => ({
    section,
    cells: [...section.querySelectorAll(".cell")].map((cell) => ({
      cell,
      cases: [...cell.querySelectorAll("details.case")].map((details) => ({
        details,
        text: [section.firstElementChild, cell.firstElementChild, details.firstElementChild]
          .map((part) => part.textContent).join(" ").toLowerCase(),
      })),
    })),
  }));
  const apply = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const { section, cells } of folders) {
      let inFolder = 0;
      for (const { cell, cases } of cells) {
        let inCell = 0;
        for (const { details, text } of cases) {
          const fits = words.every((word) => text.includes(word));
          details.hidden = !fits;
          inCell += fits;
        }
        cell.hidden = !inCell;
        inFolder += inCell;
      }
      section.hidden = !inFolder;
      shown += inFolder;
    }
    count.textContent = words.length ? `${shown} ${shown === 1 ? "case" : "cases"}` : "";
  };
  field.addEventListener("input", apply);
  // A link into a case that the filter hides shows it again.
  window.addEventListener("hashchange", () => {
    const target = document.getElementById(location.hash.slice(1));
    if (!target?.closest("[hidden]")) return;
    field.value = "";
    apply();
    target.scrollIntoView();
  });
  document.getElementById("filter").hidden = false;
  apply();
})();
