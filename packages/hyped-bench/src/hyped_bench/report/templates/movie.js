// The movie player: draws one frame from the sheets beside it, its channels added up, outlines and tracks over it.
(function () {
  "use strict";
  const root = document.getElementById("movie");
  if (!root) return;
  const TRAIL_H = 4, TRAIL_FRAMES = 12, PLAY_MS = 120, SHOWN = 900;
  const part = (name) => document.getElementById("movie-" + name);
  const canvas = part("canvas"), slider = part("slider"), play = part("play"), hour = part("hour"), says = part("says");
  const pen = canvas.getContext("2d");
  const composite = document.createElement("canvas"), tint = document.createElement("canvas");
  const switches = [...root.querySelectorAll("[data-channel]")], overs = [...root.querySelectorAll("[data-over]")];
  const wanted = new Map(overs.map((box) => [box, true])), movies = new Map();
  let movie = null, at = 0, timer = 0, asked = 0;

  // -------- what there is to draw
  const load = (number) => {
    if (!movies.has(number)) {
      const made = JSON.parse(root.querySelector('script[data-movie="' + number + '"]').textContent);
      made.images = new Map(made.channels.map((channel) => [channel.name, channel.sheets.map(() => null)]));
      movies.set(number, made);
    }
    return movies.get(number);
  };
  const sheet = (from, channel, number) => {
    const found = from.images.get(channel.name);
    if (!found[number]) {
      const image = new Image();
      image.src = channel.sheets[number];
      found[number] = image.decode().then(() => image);
    }
    return found[number];
  };
  const position = (frame) => {
    const within = frame % movie.per_sheet;
    return [Math.floor(frame / movie.per_sheet), within % movie.columns, Math.floor(within / movie.columns)];
  };

  // -------- drawing
  const draw = async () => {
    const mine = ++asked, now = movie, frame = at, [number, column, row] = position(frame);
    const on = switches.filter((box) => box.checked && !box.disabled);
    const layers = on.map((box) => [box, now.channels.find((channel) => channel.name === box.dataset.channel)]);
    const images = await Promise.all(layers.map(([, channel]) => sheet(now, channel, number)));
    if (mine !== asked) return;
    const { width, height } = now, light = composite.getContext("2d"), single = tint.getContext("2d");
    light.globalCompositeOperation = "source-over";
    light.globalAlpha = 1;
    light.fillStyle = "#000";
    light.fillRect(0, 0, width, height);
    light.globalCompositeOperation = "lighter";
    layers.forEach(([box, channel], k) => {
      const w = Math.floor(width / channel.shrink), h = Math.floor(height / channel.shrink);
      single.globalCompositeOperation = "source-over";
      single.drawImage(images[k], column * w, row * h, w, h, 0, 0, width, height);
      single.globalCompositeOperation = "multiply";
      single.fillStyle = box.dataset.colour;
      single.fillRect(0, 0, width, height);
      light.globalAlpha = layers.length > 1 ? Number(box.dataset.strength) : 1;
      light.drawImage(tint, 0, 0);
    });
    const scale = canvas.width / width;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.imageSmoothingQuality = "high";
    pen.drawImage(composite, 0, 0, canvas.width, canvas.height);
    pen.setTransform(scale / now.unit, 0, 0, scale / now.unit, 0, 0);
    pen.lineJoin = pen.lineCap = "round";
    const thin = 2.2 * now.unit / scale * Math.max(1, canvas.width / Math.max(canvas.clientWidth, 1) / 1.4);
    if (shown("tracks")) trails(now, frame, thin);
    if (shown("outlines")) outlines(now, frame, thin);
    bar(now, scale);
    canvas.dataset.frame = String(frame);
    canvas.dataset.drawn = String(Number(canvas.dataset.drawn || 0) + 1);
  };
  const shown = (name) => { const box = overs.find((one) => one.dataset.over === name); return box.checked && !box.disabled; };
  const colour = (now, nucleus) => (nucleus[1] < 0 ? now.unphased : now.phases[nucleus[1]][1]);
  const outlines = (now, frame, thin) => {
    pen.lineWidth = thin;
    for (const nucleus of now.nuclei[frame]) {
      let x = 0, y = 0;
      pen.beginPath();
      for (let k = 4; k < nucleus.length; k += 2) {
        x += nucleus[k];
        y += nucleus[k + 1];
        if (k === 4) pen.moveTo(x, y); else pen.lineTo(x, y);
      }
      pen.closePath();
      pen.strokeStyle = colour(now, nucleus);
      pen.stroke();
    }
  };
  const trails = (now, frame, thin) => {
    const recent = [];  // track -> [x, y] of each frame of the trail, the oldest first
    for (let k = frame; k >= 0; k--) {
      if (now.hours ? now.hours[frame] - now.hours[k] > TRAIL_H : frame - k > TRAIL_FRAMES) break;
      recent.unshift(new Map(now.nuclei[k].filter((n) => n[0] > 0).map((n) => [n[0], n])));
    }
    pen.lineWidth = thin * 0.8;
    for (const nucleus of now.nuclei[frame]) {
      if (!nucleus[0]) continue;
      let track = nucleus[0], met = 0;
      pen.beginPath();
      pen.moveTo(nucleus[2], nucleus[3]);
      for (let k = recent.length - 2; k >= 0; k--) {
        let place = recent[k].get(track);
        if (!place && now.parents[track] && met < 8) {
          place = recent[k].get(now.parents[track]);
          if (place) { track = now.parents[track]; met++; }
        }
        if (place) pen.lineTo(place[2], place[3]);
      }
      pen.strokeStyle = "rgba(255,255,255,.7)";
      pen.stroke();
      pen.beginPath();
      pen.arc(nucleus[2], nucleus[3], thin, 0, 7);
      pen.fillStyle = colour(now, nucleus);
      pen.fill();
    }
  };
  const bar = (now, scale) => {
    if (!now.pixel_um) return;
    const most = now.width * now.pixel_um / 4;
    const length = [5, 10, 20, 50, 100, 200, 500, 1000].filter((um) => um <= most).pop();
    if (!length) return;
    const size = Math.round(canvas.width / 40), end = canvas.width - size, wide = length / now.pixel_um * scale;
    pen.setTransform(1, 0, 0, 1, 0, 0);
    pen.font = "600 " + size + "px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.fillStyle = "rgba(0,0,0,.55)";
    pen.fillRect(end - wide - size * 0.5, canvas.height - size * 2.9, wide + size, size * 2.4);
    pen.fillStyle = "#fff";
    pen.fillRect(end - wide, canvas.height - size * 1.1, wide, size * 0.25);
    pen.fillText(length + " \u00b5m", end - wide / 2, canvas.height - size * 1.5);
  };

  // -------- controls
  const go = (frame) => {
    at = Math.max(0, Math.min(movie.frames.length - 1, frame));
    slider.value = String(at);
    slider.setAttribute("aria-valuetext", movie.times[at]);
    hour.value = movie.times[at];
    says.textContent = movie.says[at];
    part("back").disabled = at === 0;
    part("on").disabled = at === movie.frames.length - 1;
    return draw();
  };
  const stop = () => {
    clearTimeout(timer);
    timer = 0;
    play.textContent = "Play";
    play.setAttribute("aria-pressed", "false");
    says.setAttribute("aria-live", "polite");
  };
  const tick = async () => {
    if (!timer) return;
    await go(at === movie.frames.length - 1 ? 0 : at + 1);
    if (timer) timer = setTimeout(tick, PLAY_MS);
  };
  const toggle = () => {
    if (timer) { stop(); go(at); return; }
    if (play.disabled) return;
    play.textContent = "Pause";
    play.setAttribute("aria-pressed", "true");
    says.setAttribute("aria-live", "off");  // a reader's voice must not follow every frame
    timer = setTimeout(tick, PLAY_MS);
  };
  const reason = (box, text) => {
    box.disabled = Boolean(text);
    box.closest("label").querySelector(".movie-why").textContent = text;
  };
  const choose = (number) => {
    stop();
    const before = movie ? at / Math.max(1, movie.frames.length - 1) : 0;
    const when = movie && movie.hours ? movie.hours[at] : null;
    movie = load(number);
    for (const one of [composite, tint]) { one.width = movie.width; one.height = movie.height; }
    const scale = Math.max(1, Math.round(SHOWN / Math.max(movie.width, movie.height)));
    canvas.width = movie.width * scale;
    canvas.height = movie.height * scale;
    canvas.setAttribute("aria-label", "Movie of " + movie.condition + ", scene " + movie.scene);
    for (const box of switches) {
      reason(box, movie.channels.some((channel) => channel.name === box.dataset.channel) ? "" : "not in this movie");
    }
    for (const box of overs) {
      reason(box, movie[box.dataset.over]);
      box.checked = !box.disabled && wanted.get(box);
    }
    part("facts").textContent = movie.facts;
    slider.max = String(movie.frames.length - 1);
    slider.disabled = play.disabled = movie.frames.length < 2;
    play.title = play.disabled ? "There is one frame only" : "";
    legend();
    jumps();
    let frame = Math.round(before * (movie.frames.length - 1));
    if (when !== null && movie.hours) {  // the same hour in the other condition
      frame = movie.hours.reduce((best, h, k) => (Math.abs(h - when) < Math.abs(movie.hours[best] - when) ? k : best), 0);
    }
    return go(frame);
  };
  const legend = () => {
    const lines = movie.phases.slice();
    if (movie.nuclei.some((frame) => frame.some((nucleus) => nucleus[1] < 0))) lines.push(["phase not known", movie.unphased]);
    part("legend").replaceChildren(...lines.map(([name, shade]) => {
      const item = document.createElement("li"), dot = document.createElement("i");
      dot.style.background = shade;
      item.append(dot, name);
      return item;
    }));
    part("phases").hidden = !lines.length;
  };
  const jumps = () => {
    part("jumps").replaceChildren(...movie.events.map(([name, hours, frame]) => {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = name + " (" + hours + " h)";
      button.addEventListener("click", () => { stop(); go(frame); });
      return button;
    }));
    if (movie.events.length) part("jumps").prepend("Jump to");
    part("jumps").hidden = !movie.events.length;
  };

  // -------- wiring
  slider.addEventListener("input", () => { stop(); go(Number(slider.value)); });
  slider.addEventListener("keydown", (event) => { if (event.key === " ") { event.preventDefault(); toggle(); } });
  play.addEventListener("click", toggle);
  part("back").addEventListener("click", () => { stop(); go(at - 1); });
  part("on").addEventListener("click", () => { stop(); go(at + 1); });
  for (const box of switches) box.addEventListener("change", draw);
  for (const box of overs) box.addEventListener("change", () => { wanted.set(box, box.checked); draw(); });
  for (const radio of root.querySelectorAll("input[name=movie-condition]")) {
    radio.addEventListener("change", () => { if (radio.checked) choose(Number(radio.value)); });
  }
  const first = root.querySelector("input[name=movie-condition]:checked") || root.querySelector("input[name=movie-condition]");
  const begin = () => choose(Number(first.value)).then(() => { root.dataset.ready = "true"; });
  if ("IntersectionObserver" in window) {  // images are decoded when the player comes near
    const seen = new IntersectionObserver((entries) => {
      if (entries.some((entry) => entry.isIntersecting)) { seen.disconnect(); begin(); }
    }, { rootMargin: "600px" });
    seen.observe(root);
  } else begin();
})();
