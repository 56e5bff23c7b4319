"use strict";
// Plots are drawn when they come near the screen: all at once would take a phone half a minute.
const touch = matchMedia("(pointer: coarse)").matches;
const settings = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
if (touch) settings.displayModeBar = true;

const template = JSON.parse(document.getElementById("template").textContent);

// The library is kept compressed in the page, a third of its size; as a script of the page it then runs as any other.
async function unpackPlotly() {
  const packed = Uint8Array.from(atob(document.getElementById("plotly").textContent), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const script = document.createElement("script");
  script.textContent = await new Response(stream).text();
  document.head.append(script);
}

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
  layout.template = template;
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
unpackPlotly().then(
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
