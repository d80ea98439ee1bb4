"use strict";
// Charts: unpack the library, draw every figure in the colours of the page's style, and again when those change.
(() => {
  const source = document.getElementById("figures");
  if (!source) return;
  const figures = JSON.parse(source.textContent);
  const probe = document.body.appendChild(document.createElement("i"));
  probe.hidden = true;

  const resolved = (value) => {
    if (typeof value === "string" && value.startsWith("var(--")) {
      probe.style.color = value;
      return getComputedStyle(probe).color;
    }
    if (Array.isArray(value)) return value.map(resolved);
    if (value && typeof value === "object") {
      return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, resolved(inner)]));
    }
    return value;
  };

  const draw = (width) => {
    const narrow = (width || document.body.clientWidth) < 640;
    for (const [id, figure] of Object.entries(figures)) {
      const { data, layout } = resolved(figure);
      const all = { ...layout, width: width || undefined, autosize: !width };
      if (narrow) all.margin = { ...all.margin, l: 8, r: 8 };
      all.dragmode = matchMedia("(pointer: coarse)").matches ? false : "zoom";
      Plotly.react(id, data, all, { responsive: true, displaylogo: false, displayModeBar: false });
    }
  };

  const unpack = async () => {
    const text = atob(document.getElementById("plotly").textContent);
    const bytes = Uint8Array.from(text, (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = await new Response(stream).text();
    document.head.append(script);
  };

  const failed = () => {
    for (const id of Object.keys(figures)) {
      document.getElementById(id).textContent = "This browser cannot draw the chart; the tables have its figures.";
    }
  };

  unpack().then(() => {
    draw();
    document.documentElement.dataset.charts = "drawn";
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => draw());
    addEventListener("beforeprint", () => draw(680));
    addEventListener("afterprint", () => draw());
  }, failed);
})();

// On paper: light, and with all that is folded away opened.
(() => {
  let opened = [];
  // Before the charts are drawn for it: this listener must see the event first.
  addEventListener("beforeprint", () => {
    document.documentElement.dataset.print = "";
    opened = [...document.querySelectorAll("details:not([open])")];
    for (const part of opened) part.open = true;
  }, { capture: true });
  addEventListener("afterprint", () => {
    delete document.documentElement.dataset.print;
    for (const part of opened) part.open = false;
  }, { capture: true });
})();

// Tables that sort by a click on a column's name.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const key = (row, column) => {
    const cell = row.cells[column];
    const plain = cell.querySelector("data");
    if (!plain) return cell.textContent;
    return plain.value === "" ? -Infinity : Number(plain.value);
  };
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    if (!head.textContent) return;
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") !== "descending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (a, b) => (typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true }));
      const rows = [...body.rows].sort((a, b) => order(key(a, column), key(b, column)));
      body.append(...(down ? rows.reverse() : rows));
    });
  });
}

// The graph: zoom by buttons, keys, wheel with Ctrl and two fingers; moving is the browser's own scrolling.
for (const view of document.querySelectorAll(".graph-view")) {
  const frame = view.querySelector(".graph-frame");
  const svg = frame.querySelector("svg");
  const tip = view.querySelector(".graph-tip");
  const { width, height } = svg.viewBox.baseVal;
  const nodes = [...svg.querySelectorAll(".node")];
  let scale = 1;

  const zoom = (wanted, x = frame.clientWidth / 2, y = frame.clientHeight / 2) => {
    const next = Math.min(3, Math.max(0.05, wanted));
    const left = (frame.scrollLeft + x) / scale, top = (frame.scrollTop + y) / scale;
    scale = next;
    svg.setAttribute("width", width * scale);
    svg.setAttribute("height", height * scale);
    frame.scrollLeft = left * scale - x;
    frame.scrollTop = top * scale - y;
  };
  const whole = () => zoom(Math.min(frame.clientWidth / width, frame.clientHeight / height));

  for (const button of view.querySelectorAll("[data-zoom]")) {
    const by = button.dataset.zoom;
    button.addEventListener("click", () => (by === "fit" ? whole() : zoom(by === "1" ? 1 : scale * Number(by))));
  }
  frame.addEventListener("keydown", (event) => {
    if (event.key === "+" || event.key === "=") zoom(scale * 1.3);
    else if (event.key === "-") zoom(scale / 1.3);
    else return;
    event.preventDefault();
  });
  frame.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    const box = frame.getBoundingClientRect();
    zoom(scale * Math.exp(-event.deltaY / 300), event.clientX - box.left, event.clientY - box.top);
  }, { passive: false });

  const apart = ({ touches: [a, b] }) => Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
  let pinch = 0;
  frame.addEventListener("touchstart", (event) => { pinch = event.touches.length === 2 ? apart(event) / scale : 0; });
  frame.addEventListener("touchmove", (event) => {
    if (!pinch || event.touches.length !== 2) return;
    event.preventDefault();
    zoom(apart(event) / pinch);
  }, { passive: false });

  const show = (node) => {
    const mine = new Set(node.dataset.groups.split(" ").filter(Boolean));
    for (const other of nodes) {
      other.classList.toggle("same", other.dataset.groups.split(" ").some((group) => mine.has(group)));
    }
    tip.textContent = node.querySelector("title").textContent;
  };
  svg.addEventListener("click", (event) => {
    const node = event.target.closest(".node");
    if (node) show(node);
  });
  svg.addEventListener("pointerover", (event) => {
    const node = event.target.closest(".node");
    if (node && event.pointerType === "mouse") tip.textContent = node.querySelector("title").textContent;
  });

  view.querySelector("[data-find]").addEventListener("input", (event) => {
    const wanted = event.target.value.trim().toLowerCase();
    const found = nodes.filter((node) => {
      const hit = wanted !== "" && node.querySelector("title").textContent.toLowerCase().includes(wanted);
      node.classList.toggle("found", hit);
      return hit;
    });
    if (!found.length) {
      if (wanted) tip.textContent = `No node is called ${event.target.value}.`;
      return;
    }
    const box = found[0].getBBox();
    if (scale < 0.6) zoom(1);
    frame.scrollTo(
      (box.x + box.width / 2) * scale - frame.clientWidth / 2, (box.y + box.height / 2) * scale - frame.clientHeight / 2);
    show(found[0]);
    tip.textContent = `${found.length} found. ${tip.textContent}`;
  });

  const precisions = [...new Set(nodes.map((node) => node.dataset.precision).filter(Boolean))].sort();
  const paints = ["#9cc4ff", "#f5c98b", "#93ded3", "#e9b4f2"];
  const longest = Math.max(...nodes.map((node) => Number(node.dataset.share || 0)), 1e-9);
  view.querySelector("[data-colour]").addEventListener("change", (event) => {
    const by = event.target.value;
    for (const node of nodes) {
      const { precision, share } = node.dataset;
      let paint = "#dddddd";
      if (by === "precision" && precision) paint = paints[precisions.indexOf(precision) % paints.length];
      if (by === "time" && share) paint = `hsl(28 90% ${96 - (45 * Number(share)) / longest}%)`;
      for (const rect of node.querySelectorAll("rect:not(.edge)")) rect.style.fill = by === "group" ? "" : paint;
    }
    if (by === "precision") tip.textContent = precisions.map((p, k) => `${p}: ${["blue", "orange", "green", "violet"][k % 4]}`).join(", ");
    if (by === "time") tip.textContent = "The darker, the more of the whole time; grey where no time is known.";
  });

  if (width > frame.clientWidth) zoom(Math.max(0.35, frame.clientWidth / width), 0, 0);
}
