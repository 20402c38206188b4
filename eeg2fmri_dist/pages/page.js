"use strict";
// Strips of frames lie side by side; a slider moves them behind a window that is one frame wide.
for (const slicer of document.querySelectorAll(".slicer")) {
  const slider = slicer.querySelector("input[type=range]");
  const said = slicer.querySelector("output");
  const labels = JSON.parse(slicer.dataset.frames);
  const show = () => {
    const frame = Number(slider.value);
    for (const strip of slicer.querySelectorAll(".window img")) {
      strip.style.transform = `translateX(${-100 * frame / labels.length}%)`;
    }
    said.textContent = labels[frame];
    slider.setAttribute("aria-valuetext", labels[frame]);
  };
  const choose = name => {
    for (const plane of slicer.querySelectorAll(".plane")) {
      plane.hidden = plane.dataset.plane !== name;
    }
  };
  slider.addEventListener("input", show);
  for (const choice of slicer.querySelectorAll("input[type=radio]")) {
    choice.addEventListener("change", () => choose(choice.value));
  }
  show();
}
