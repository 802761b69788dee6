"use strict";
// A step's values: one slice at a time, chosen by the index of each axis. Without it, all slices show.
for (const view of document.querySelectorAll(".view")) {
  const picks = [...view.querySelectorAll(".pick")];
  const slices = [...view.querySelectorAll(".slice")];
  if (slices.length < 2) continue;
  const choices = picks.map((pick) => pick.querySelector("select"));
  // An axis with one index is not chosen; the slices tell it all the same.
  const chosen = slices[0].dataset.at.split(" ").map((_, axis) =>
    new Set(slices.map((slice) => slice.dataset.at.split(" ")[axis])).size > 1);
  const show = () => {
    const wanted = choices.map((choice) => choice.value).join(" ");
    for (const slice of slices) {
      const at = slice.dataset.at.split(" ").filter((_, axis) => chosen[axis]).join(" ");
      slice.hidden = at !== wanted;
    }
  };
  for (const choice of choices) choice.addEventListener("change", show);
  for (const pick of picks) pick.hidden = false;
  show();
}
