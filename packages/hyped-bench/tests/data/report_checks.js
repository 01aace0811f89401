// Checks that a test runs inside the report's page: what keys reach, what a screen reader needs, contrast of words.
window.checks = {
  // Marks everything that Tab should reach, in the order of the document; gives the beginning of each.
  tabStops() {
    const wanted = 'a[href], button:not(:disabled), input:not(:disabled), select, textarea, summary, [tabindex="0"]';
    const groups = new Set();
    const stops = [...document.querySelectorAll(wanted)].filter((e) => {
      if (e.tabIndex < 0 || !e.getClientRects().length) return false;
      const closed = e.closest("details:not([open])");
      if (closed && !(e.tagName === "SUMMARY" && e.parentElement === closed)) return false;
      if (e.type === "radio") {
        if (groups.has(e.name)) return false;
        groups.add(e.name);
      }
      return true;
    });
    return stops.map((e, k) => {
      e.dataset.order = k;
      return e.outerHTML.slice(0, 100);
    });
  },

  // Where the focus is: order, whether that is seen, whether it is on the screen, what it is.
  focused() {
    const e = document.activeElement;
    if (e === document.body) return null;
    const style = getComputedStyle(e), box = e.getBoundingClientRect();
    const ring = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none";
    const order = e.dataset.order === undefined ? null : Number(e.dataset.order);
    return [order, ring, box.bottom > 0 && box.top < innerHeight, e.outerHTML.slice(0, 120)];
  },

  problems() {
    const found = [], say = (what, e) => found.push(what + ": " + e.outerHTML.slice(0, 100));
    const all = (selector, inPlots) => [...document.querySelectorAll(selector)].filter((e) => inPlots || !e.closest(".plot"));
    const named = (e) => (e.getAttribute("aria-label") || "").trim() || (e.textContent || "").trim() ||
      (e.getAttribute("aria-labelledby") || "").split(" ").some((id) => id && document.getElementById(id));
    if (!document.documentElement.lang) found.push("no lang");
    if (!document.title.trim()) found.push("no title");
    for (const one of ["main", "h1"]) if (all(one).length !== 1) found.push("not one " + one);
    for (const e of all("nav")) if (!e.getAttribute("aria-label")) say("nameless nav", e);
    for (const e of all("img", true)) if (!e.hasAttribute("alt")) say("no alt", e);
    for (const e of all("canvas, [role=img]")) if (!named(e)) say("nameless picture", e);
    for (const e of all("input, select, textarea")) {
      if (e.type !== "hidden" && !e.labels.length && !named(e)) say("no label", e);
    }
    for (const e of all("button, a[href], summary")) if (!named(e)) say("nameless control", e);
    let level = 0;
    for (const e of all("h1, h2, h3, h4, h5, h6")) {
      const own = Number(e.tagName[1]);
      if (own > level + 1) say("heading skips a level", e);
      level = own;
    }
    const ids = all("[id]").map((e) => e.id), seen = new Set();
    for (const id of ids) {
      if (seen.has(id)) found.push("id twice: " + id);
      seen.add(id);
    }
    for (const name of ["aria-labelledby", "aria-describedby", "aria-controls", "for"]) {
      for (const e of all("[" + name + "]")) {
        for (const id of e.getAttribute(name).split(/\s+/)) if (id && !document.getElementById(id)) say("lost " + name, e);
      }
    }
    for (const e of all("ul, ol")) {
      if ([...e.children].some((c) => !["LI", "SCRIPT", "TEMPLATE"].includes(c.tagName))) say("list with more than li", e);
    }
    for (const e of all("table")) if (!e.querySelector("th") || !(e.caption || named(e))) say("table without headings", e);
    for (const e of all("fieldset")) if (!e.querySelector("legend")) say("no legend", e);
    return found;
  },

  // Words whose contrast with their ground is below WCAG 2 AA: 4.5, 3 for large ones.
  faint() {
    const parse = (text) => {
      const parts = (text.match(/[\d.]+/g) || []).map(Number), unit = text.startsWith("color(") ? 255 : 1;
      return [parts[0] * unit, parts[1] * unit, parts[2] * unit, parts.length > 3 ? parts[3] : 1];
    };
    const over = (top, below) => [0, 1, 2].map((k) => top[k] * top[3] + below[k] * (1 - top[3])).concat(1);
    const dark = matchMedia("(prefers-color-scheme: dark)").matches, grounds = new Map();
    const ground = (e) => {
      if (!e) return dark ? [18, 18, 18, 1] : [255, 255, 255, 1];
      if (!grounds.has(e)) grounds.set(e, over(parse(getComputedStyle(e).backgroundColor), ground(e.parentElement)));
      return grounds.get(e);
    };
    const linear = (v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    const light = (c) => 0.2126 * linear(c[0] / 255) + 0.7152 * linear(c[1] / 255) + 0.0722 * linear(c[2] / 255);
    const found = new Map();
    for (const e of document.querySelectorAll("body *")) {
      if (e.closest(".plot, canvas, script, style, noscript, :disabled, label:has(:disabled)")) continue;
      if (![...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) || !e.getClientRects().length) continue;
      const style = getComputedStyle(e), below = ground(e), ink = parse(style.color), size = parseFloat(style.fontSize);
      ink[3] *= Number(style.opacity);
      const a = light(over(ink, below)), b = light(below), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (large ? 3 : 4.5)) {
        found.set(e.tagName + "." + e.className + " " + style.color, ratio.toFixed(2) + " " + e.textContent.trim().slice(0, 50));
      }
    }
    return [...found];
  },

  // Elements that reach beyond the sides of the window, but for what scrolls inside its own frame.
  outside(within) {
    return [...document.querySelectorAll(within + " *")].filter((e) => {
      const box = e.getBoundingClientRect();
      return box.width > 1 && (box.right > innerWidth + 1 || box.left < -1) && !e.closest(".scroll, nav, .hidden, .skip");
    }).map((e) => e.outerHTML.slice(0, 100));
  },
};
