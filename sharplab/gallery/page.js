"use strict";
// Plots are drawn when they come near the screen: all at once would take a phone half a minute.
const touch = matchMedia("(pointer: coarse)").matches;
const settings = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
if (touch) settings.displayModeBar = true;

const template = JSON.parse(document.getElementById("template").textContent);

// The library and the curves are kept compressed in the page, a third of their size.
async function unpack(element) {
  const packed = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

async function unpackPlotly() {
  const script = document.createElement("script"); // of the page, which runs as any other
  script.textContent = await unpack(document.getElementById("plotly"));
  document.head.append(script);
}

async function unpackCurves(group) {
  const figures = JSON.parse(await unpack(group.querySelector(".curves")));
  group.querySelectorAll(".plot").forEach((plot, i) => { plot.figure = figures[i]; });
}

// Which traces show the quantity, and what the vertical axis then is; a panel that lacks it is hidden.
function choose(plot, traces) {
  const quantity = plot.closest(".plots").dataset.quantity;
  const shown = traces.find((trace) => trace.meta.quantity === quantity);
  plot.closest("figure").hidden = !shown;
  return shown && { visible: traces.map((trace) => trace.meta.quantity === quantity), ...shown.meta };
}

function draw(plot) {
  const { data, layout } = plot.figure;
  const chosen = choose(plot, data);
  if (!chosen) return;
  near.unobserve(plot);
  data.forEach((trace, i) => { trace.visible = chosen.visible[i]; });
  layout.template = template;
  Object.assign(layout.yaxis, { title: { text: chosen.title }, type: chosen.scale });
  // A finger that moves over a plot scrolls the page; the buttons zoom.
  if (touch) layout.dragmode = false;
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
Promise.all([unpackPlotly(), ...[...document.querySelectorAll(".plots")].map(unpackCurves)]).then(
  () => document.querySelectorAll(".plot").forEach((plot) => near.observe(plot)),
  () => document.querySelectorAll(".plots").forEach((group) => group.append("This browser is too old to draw them.")),
);

document.querySelectorAll(".plots select").forEach((select) => {
  select.addEventListener("change", () => {
    const group = select.closest(".plots");
    group.dataset.quantity = select.value;
    group.querySelectorAll(".plot").forEach(redraw);
  });
});
