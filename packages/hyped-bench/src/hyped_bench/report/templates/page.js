// Draws every chart from the JSON beside it in the colours of the page, switches light and dark, hands out tables as
// files, and opens what a link leads to. A chart inside a fold is drawn when the fold is opened, or to be printed.
(function () {
  "use strict";
  const root = document.documentElement;
  const scheme = window.matchMedia("(prefers-color-scheme: dark)");
  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const themed = (place) => {
    const axis = { gridcolor: colour("--line"), linecolor: colour("--line"), tickcolor: colour("--line") };
    const change = { "font.color": colour("--ink") };
    for (const name of ["xaxis", "yaxis"]) {
      for (const key of Object.keys(axis)) change[name + "." + key] = axis[key];
    }
    // a rule's name stands on the chart's own ground, over the lines that lead to names above it
    (place.layout.annotations || []).forEach((note, i) => {
      if (note.showarrow) change["annotations[" + i + "].bgcolor"] = colour("--card");
    });
    return change;
  };

  // charts
  const plots = [];
  const draw = (source) => {
    const place = document.getElementById(source.dataset.plot);
    if (place.dataset.drawn) return;
    place.dataset.drawn = "true";
    const figure = JSON.parse(source.textContent);
    place.style.minHeight = "";
    Plotly.newPlot(place, figure.data, figure.layout, { responsive: true, displaylogo: false, displayModeBar: false })
      .then(() => Plotly.relayout(place, themed(place)));
    plots.push(place);
  };
  const sources = [...document.querySelectorAll("script[data-plot]")];
  for (const source of sources) if (!source.closest("details")) draw(source);
  const drawIn = (folded) => {
    for (const source of folded.querySelectorAll("script[data-plot]")) {
      const closed = source.parentElement.closest("details:not([open])");
      if (!closed) draw(source);
    }
  };
  const redraw = () => { for (const place of plots) Plotly.relayout(place, themed(place)); };

  // light and dark: the system's choice until the button is used
  const button = document.getElementById("theme");
  const keep = (value) => { try { localStorage.setItem("hyped-theme", value); } catch (e) { /* kept nowhere, then */ } };
  const kept = () => { try { return localStorage.getItem("hyped-theme"); } catch (e) { return null; } };
  const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : scheme.matches);
  const say = () => {
    button.setAttribute("aria-pressed", String(dark()));
    button.textContent = dark() ? "Light page" : "Dark page";
    redraw();
  };
  if (kept() === "dark" || kept() === "light") root.dataset.theme = kept();
  button.hidden = false;
  button.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    keep(root.dataset.theme);
    say();
  });
  if (scheme.addEventListener) scheme.addEventListener("change", say);
  say();

  // tables as files, from the page itself: it may have been moved away from its folder
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest("a[data-csv]");
    if (!link) return;
    event.preventDefault();
    const text = JSON.parse(document.getElementById(link.dataset.csv).textContent);
    const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
    const anchor = document.createElement("a");
    anchor.href = url;
    anchor.download = link.getAttribute("href").split("/").pop();
    anchor.hidden = true;
    document.body.append(anchor);
    anchor.click();
    anchor.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  });

  // what a link leads to is opened
  const open = () => {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    let folded = target.closest("details");
    const any = Boolean(folded);
    for (; folded; folded = folded.parentElement.closest("details")) folded.open = true;
    if (any) target.scrollIntoView();
  };
  window.addEventListener("hashchange", open);
  document.addEventListener("click", (event) => {
    const link = event.target.closest && event.target.closest('a[href^="#"]');
    if (link && link.getAttribute("href") === location.hash) open();
  });
  for (const details of document.querySelectorAll("details")) {
    details.addEventListener("toggle", () => { if (details.open) drawIn(details); });
  }
  window.addEventListener("beforeprint", () => { for (const source of sources) draw(source); });
  open();

  // where in the contents the reader is
  const links = new Map([...document.querySelectorAll("nav a")].map((a) => [a.getAttribute("href").slice(1), a]));
  if ("IntersectionObserver" in window) {
    const seen = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const link = links.get(entry.target.id);
        if (!link) continue;
        if (entry.isIntersecting) link.setAttribute("aria-current", "true"); else link.removeAttribute("aria-current");
      }
    }, { rootMargin: "-20% 0px -70% 0px" });
    for (const section of document.querySelectorAll("main > section")) seen.observe(section);
  }
  root.dataset.ready = "true";
})();
