"use strict";
const touch = matchMedia("(pointer: coarse)").matches;
const settings = { responsive: true, displaylogo: false, modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"] };
if (touch) settings.displayModeBar = true;

const template = JSON.parse(document.getElementById("template").textContent);

// The library and the curves are kept compressed in the page, a third of their size, and unpacked when they are asked for.
async function unpack(element) {
  const packed = Uint8Array.from(atob(element.textContent), (c) => c.charCodeAt(0));
  return new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
}

function once(make) {
  const made = new Map();
  return (key) => made.get(key) ?? made.set(key, make(key)).get(key);
}

const plotly = once(async () => {
  const script = document.createElement("script"); // of the page, which runs as any other
  script.textContent = await unpack(document.getElementById("plotly"));
  document.head.append(script);
});

const curves = once(async (group) => {
  try {
    const [text] = await Promise.all([unpack(group.querySelector(".curves")), plotly()]);
    const figures = JSON.parse(text);
    group.querySelectorAll(".plot").forEach((plot, i) => { plot.figure = figures[i]; });
  } catch (error) {
    group.append("This browser is too old to draw them.");
    throw error;
  }
});

// Which traces show the quantity, and what the vertical axis then is; a panel that lacks it is hidden.
function choose(plot, traces) {
  const quantity = plot.closest(".plots").dataset.quantity;
  const shown = traces.find((trace) => trace.meta.quantity === quantity);
  plot.closest("figure").hidden = !shown;
  return shown && { visible: traces.map((trace) => trace.meta.quantity === quantity), ...shown.meta };
}

async function draw(plot) {
  await curves(plot.closest(".plots"));
  if (plot.data) return;
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

// Plots are drawn when they come near the screen: all at once would take a phone half a minute.
const near = new IntersectionObserver((entries) => {
  entries.filter((entry) => entry.isIntersecting).forEach((entry) => draw(entry.target).catch(console.warn));
}, { rootMargin: "600px" });
document.querySelectorAll(".plot").forEach((plot) => near.observe(plot));

document.querySelectorAll(".plots select").forEach((select) => {
  select.addEventListener("change", () => {
    const group = select.closest(".plots");
    group.dataset.quantity = select.value;
    group.querySelectorAll(".plot").forEach(redraw);
  });
});

document.querySelectorAll(".picture").forEach((button) => {
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", button.getAttribute("aria-pressed") !== "true");
  });
});

// Filters: a figure is shown if all of them let it; a claim or part, if any figure in it is.
const form = document.getElementById("filter");
const figures = [...document.querySelectorAll("article.figure")];
const { words, topic, preset } = form.elements;

const text = once((figure) => {
  const claim = figure.closest(".claim")?.querySelector(".searched");
  return [claim, ...figure.querySelectorAll(".searched")].map((part) => part?.textContent ?? "").join(" ").toLowerCase();
});

function filter() {
  const verdicts = [...form.querySelectorAll("[name=verdict]:checked")].map((box) => box.value);
  const wanted = words.value.toLowerCase().split(/\s+/).filter(Boolean);
  figures.forEach((figure) => {
    const { verdict, topics, preset: made } = figure.dataset;
    figure.hidden = !(verdicts.includes(verdict) && (!topic.value || topics.split(" ").includes(topic.value))
      && (!preset.value || made === preset.value) && wanted.every((word) => text(figure).includes(word)));
  });
  document.querySelectorAll(".claim, .part").forEach((part) => {
    part.hidden = !part.querySelector("article.figure:not([hidden])");
  });
  const shown = figures.filter((figure) => !figure.hidden).length;
  form.querySelector("output").textContent = `${shown || "None"} of ${figures.length} figures`;
}

form.hidden = false;
for (const kind of ["input", "change"]) form.addEventListener(kind, filter); // a select may send but one
form.addEventListener("reset", () => setTimeout(filter)); // when the fields are reset
form.addEventListener("submit", (event) => event.preventDefault());
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.matches("input, select, textarea")) return;
  event.preventDefault();
  words.focus();
});

// A link to what a filter hides shows all.
addEventListener("hashchange", () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target?.closest("[hidden]")) return;
  form.reset();
  filter();
  target.scrollIntoView();
});
filter(); // a browser that goes back keeps the fields
