// Draws every chart from the JSON beside it, in the colours of the page, light or dark.
(function () {
  "use strict";
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const themed = () => {
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line") };
    const change = { "font.color": colour("--ink") };
    for (const name of ["xaxis", "yaxis"]) {
      for (const key of Object.keys(axis)) change[name + "." + key] = axis[key];
    }
    return change;
  };
  const plots = [];
  for (const source of document.querySelectorAll("script[data-plot]")) {
    const place = document.getElementById(source.dataset.plot);
    const figure = JSON.parse(source.textContent);
    place.style.minHeight = "";
    Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false })
      .then(() => Plotly.relayout(place, themed()));
    plots.push(place);
  }
  const redraw = () => { for (const place of plots) Plotly.relayout(place, themed()); };
  if (scheme.addEventListener) scheme.addEventListener("change", redraw);
  for (const details of document.querySelectorAll("details")) {
    details.addEventListener("toggle", () => {
      for (const place of details.querySelectorAll(".plot")) Plotly.Plots.resize(place);
    });
  }
  document.documentElement.dataset.ready = "true";
})();
