"use strict";
// Plots are drawn when they come near the screen: all at once would take a phone half a minute.
const touch = matchMedia("(pointer: coarse)").matches;
const settings = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
if (touch) settings.displayModeBar = true;

// Which traces show the quantity, and what the vertical axis then is; a panel that lacks it is hidden.
function choose(plot, traces) {
  const quantity = plot.closest(".plots").dataset.quantity;
  const shown = traces.find((trace) => trace.meta.quantity === quantity);
  plot.closest("figure").hidden = !shown;
  return shown && { visible: traces.map((trace) => trace.meta.quantity === quantity), ...shown.meta };
}

function draw(plot) {
  const { data, layout } = JSON.parse(plot.querySelector("script").textContent);
  const chosen = choose(plot, data);
  if (!chosen) return;
  near.unobserve(plot);
  data.forEach((trace, i) => { trace.visible = chosen.visible[i]; });
  Object.assign(layout.yaxis, { title: { text: chosen.title }, type: chosen.scale });
  // A finger that moves over a plot scrolls the page; the buttons zoom.
  if (touch) layout.dragmode = false;
  plot.replaceChildren();
  Plotly.newPlot(plot, data, layout, settings);
}

function redraw(plot) {
  if (!plot.data) {
    plot.closest("figure").hidden = false; // and drawn when it is near
    return;
  }
  const chosen = choose(plot, plot.data);
  if (!chosen) return;
  const axis = { "yaxis.title.text": chosen.title, "yaxis.type": chosen.scale, "yaxis.autorange": true };
  Plotly.update(plot, { visible: chosen.visible }, axis).then(() => Plotly.Plots.resize(plot));
}

const near = new IntersectionObserver((entries) => {
  entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target));
}, { rootMargin: "600px" });
document.querySelectorAll(".plot").forEach((plot) => near.observe(plot));

document.querySelectorAll(".plots select").forEach((select) => {
  select.addEventListener("change", () => {
    const group = select.closest(".plots");
    group.dataset.quantity = select.value;
    group.querySelectorAll(".plot").forEach(redraw);
  });
});
