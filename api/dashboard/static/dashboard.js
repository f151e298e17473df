/* The pages work without this. With it they keep themselves fresh, are walked through by keyboard, and copy commands. */
(() => {
"use strict";
const doc = document, root = doc.documentElement, $ = (id) => doc.getElementById(id);
const all = (query, from = doc) => [...from.querySelectorAll(query)];
const STREAM = "/api/v1/events/stream?kpi=0", LEAST_MS = 400;
const kept = {
  get: (name) => { try { return localStorage.getItem("remit." + name); } catch { return null; } },
  set: (name, value) => { try { localStorage.setItem("remit." + name, value); } catch { /* it is not kept */ } },
};
const theme = kept.get("theme");
if (theme === "light" || theme === "dark") root.dataset.theme = theme;
root.classList.add("js");

/* The one place where text becomes a document: it is what our own server rendered, with everything escaped. */
const policy = window.trustedTypes
  ? trustedTypes.createPolicy("remit", { createHTML: (text) => text }) : { createHTML: (text) => text };
const parse = (text) => new DOMParser().parseFromString(policy.createHTML(text), "text/html");

/* Saying things to people. */
let saidAt = -1e9, saying = 0;
const say = (text, soon = false) => {
  clearTimeout(saying);
  const wait = soon ? 0 : Math.max(0, 10000 - (performance.now() - saidAt));
  saying = setTimeout(() => { saidAt = performance.now(); $("say").textContent = text; }, wait);
};

/* Time goes on between two looks. */
let offset = 0;
const span = (seconds) => {
  const s = Math.floor(Math.abs(seconds)), m = Math.floor(s / 60), h = Math.floor(m / 60);
  if (s < 60) return s + "s";
  if (m < 60) return m + "m";
  if (h < 24) return m % 60 && h < 10 ? `${h}h ${m % 60}m` : h + "h";
  return Math.floor(h / 24) + "d";
};
const tick = () => {
  const now = Date.now() + offset;
  for (const time of all("time:not([data-clock])")) {
    const s = (now - Date.parse(time.dateTime)) / 1000;
    const text = Math.abs(s) < 1 ? "now" : s > 0 ? span(s) + " ago" : "in " + span(s);
    if (time.textContent !== text) time.textContent = text;
  }
};

/* Bringing what stands here to what the server says, node by node: focus, scroll and folds stay. */
const OWN = { DETAILS: ["open"], TR: ["aria-expanded", "hidden", "tabindex"] };
const differ = (a, b) => a.nodeType !== b.nodeType || a.nodeName !== b.nodeName || (a.id || "") !== (b.id || "");
let held = false;
const morph = (a, b) => {
  if (a.nodeType !== 1) { if (a.nodeValue !== b.nodeValue) a.nodeValue = b.nodeValue; return; }
  if (a.isEqualNode(b)) return;
  if (a.nodeName === "TIME" && a.dateTime === b.dateTime) return;
  if (a.dataset && "hold" in a.dataset && a.matches(":hover")) { held = true; return; }
  const own = OWN[a.nodeName] || [];
  for (const { name } of [...a.attributes]) if (!b.hasAttribute(name) && !own.includes(name) && name !== "class") a.removeAttribute(name);
  for (const { name, value } of b.attributes) if (!own.includes(name) && a.getAttribute(name) !== value) a.setAttribute(name, value);
  if (!b.hasAttribute("class") && a.hasAttribute("class")) a.removeAttribute("class");
  if (a.nodeName === "INPUT" || a.nodeName === "SELECT") return;
  children(a, b);
};
const children = (a, b) => {
  const byId = new Map();
  for (const child of a.children) if (child.id) byId.set(child.id, child);
  let at = a.firstChild;
  for (const wanted of [...b.childNodes]) {
    const same = wanted.id && byId.get(wanted.id);
    if (same && same !== at) { a.insertBefore(same, at); at = same; }
    if (at && !differ(at, wanted)) {
      const before = at.id && !at.isEqualNode(wanted) ? at.textContent : null;
      morph(at, wanted);
      if (before !== null && before !== at.textContent) flash(at);
      at = at.nextSibling;
    } else {
      const fresh = doc.importNode(wanted, true);
      a.insertBefore(fresh, at);
      if (fresh.id) flash(fresh);
    }
  }
  while (at) { const next = at.nextSibling; at.remove(); at = next; }
};
const flash = (node) => {
  if (!/^(TR|LI|A)$/.test(node.nodeName)) return;
  node.classList.remove("flash"); void node.offsetWidth; node.classList.add("flash");
  setTimeout(() => node.classList.remove("flash"), 1300);
};

/* Looking again: twice at once where need be, and as often as LEAST_MS says in the long run. */
let busy = false, again = false, tag = "", lookedAt = -Infinity, lookedBefore = -Infinity, timer = 0, paused = false, missed = 0, live = false, since = 0;
const look = async () => {
  clearTimeout(timer); timer = 0;
  if (busy) { again = true; return; }
  busy = true; again = false;
  try {
    const answer = await fetch(location.pathname + location.search, { cache: "no-store", headers: tag ? { "If-None-Match": tag } : {} });
    if (answer.status !== 304) {
      const text = await answer.text();
      if (!answer.headers.get("content-type")?.startsWith("text/html")) throw new Error("not a page");
      if (!paused) { take(parse(text)); tag = answer.headers.get("etag") || ""; }
    }
    root.classList.remove("stale"); since = 0;
  } catch { stale(); }
  lookedBefore = lookedAt; lookedAt = performance.now(); busy = false;
  if (again) soon();
};
const soon = () => {
  if (paused || timer || doc.hidden) { again = true; return; }
  if (busy) { again = true; return; }
  timer = setTimeout(look, Math.max(0, 2 * LEAST_MS - (performance.now() - lookedBefore)));
};
const take = (fresh) => {
  const focus = doc.activeElement, before = waiting(), at = focus && focus.id;
  held = false;
  for (const part of all("[data-live]")) {
    const wanted = fresh.getElementById(part.id);
    if (wanted) morph(part, wanted);
  }
  root.dataset.seq = fresh.documentElement.dataset.seq;
  root.dataset.now = fresh.documentElement.dataset.now;
  settle(); doc.title = fresh.title;
  if (at && doc.activeElement !== focus && $(at)) $(at).focus({ preventScroll: true });
  const now = waiting();
  if (now > before) say(`${now} wait for you`);
};
const waiting = () => Number((/^\((\d+)\)/.exec(doc.title) || [0, 0])[1]);
doc.addEventListener("pointerout", (event) => {
  if (held && event.target.closest?.("[data-hold]")) { held = false; tag = ""; soon(); }
});
doc.addEventListener("visibilitychange", () => { if (!doc.hidden && again) soon(); });
const settle = () => {
  offset = Date.parse(root.dataset.now) - Date.now();
  tick(); fold(); mine(); unread();
};
const stale = () => {
  since = since || Date.now(); root.classList.add("stale"); show();
};

/* One stream for all tabs of this browser: one of them leads, the others listen. */
const channel = window.BroadcastChannel ? new BroadcastChannel("remit:" + location.host) : null;
let source = null;
/* What stands around every page, whatever it is narrowed to. */
const AROUND = ["ApprovalRequest", "Alert", "Hold", "Budget", "Source"];
const hear = (message) => {
  if (message.type === "state") { live = message.live; if (live && root.classList.contains("stale")) soon(); show(); return; }
  if (message.type === "who") { if (source) tell({ type: "state", live }); return; }
  if (message.type === "hello" && message.seq === Number(root.dataset.seq)) return;
  if (message.type === "resync") { tag = ""; if (!paused) { soon(); return; } }
  if (message.type === "log" && root.dataset.ns && message.ns && message.ns !== root.dataset.ns && !message.stuck && !AROUND.includes(message.kind)) return;
  if (paused) { missed += 1; show(); return; }
  soon();
};
const tell = (message) => { channel?.postMessage(message); };
const both = (message) => { hear(message); tell(message); };
const lead = () => new Promise(() => {
  source = new EventSource(STREAM);
  source.addEventListener("open", () => both({ type: "state", live: true }));
  source.addEventListener("error", () => both({ type: "state", live: false }));
  source.addEventListener("hello", (event) => both({ type: "hello", seq: JSON.parse(event.data).seq }));
  source.addEventListener("log", (event) => {
    const row = JSON.parse(event.data), on = row.involvedObject || {}, moved = row.remit?.data || {};
    both({ type: "log", kind: on.kind, ns: on.namespace, stuck: moved.to === "Blocked" || moved.from === "Blocked" });
  });
  source.addEventListener("resync", () => both({ type: "resync" }));
});
const follow = () => {
  if (!window.EventSource) return;
  if (channel) channel.onmessage = (event) => hear(event.data);
  if (channel && navigator.locks) { navigator.locks.request("remit:stream", lead); tell({ type: "who" }); } else lead();
};
const show = () => {
  const place = $("state"), stands = root.classList.contains("stale");
  const [tone, glyph, text] = paused ? ["warn", "pause", missed ? `Paused, ${missed} new` : "Paused"]
    : stands ? ["bad", "warn", `No answer for ${span((Date.now() - since) / 1000)}`]
    : live ? ["good", "tick", "Live"] : ["warn", "drift", "Connecting"];
  place.className = "mark " + tone;
  const word = place.querySelector(".t"), use = place.querySelector("use"), base = use.getAttribute("href").split("#")[0];
  if (word.textContent !== text) word.textContent = text;
  use.setAttribute("href", base + "#" + glyph);
};
const pause = () => {
  paused = !paused; $("pause").setAttribute("aria-pressed", String(paused));
  $("pause").textContent = paused ? "Go on" : "Pause";
  if (!paused) { missed = 0; tag = ""; look(); }
  show();
};

/* The tree. */
const closed = new Map();
const fold = () => {
  const rows = all("#tree tbody tr"); let hide = 99;
  for (const row of rows) {
    const level = Number(row.ariaLevel || row.getAttribute("aria-level"));
    if (level <= hide) hide = 99;
    row.hidden = level > hide;
    if (!row.dataset.open) continue;
    const open = closed.has(row.id) ? !closed.get(row.id) : row.dataset.open === "1";
    row.setAttribute("aria-expanded", String(open));
    row.querySelector(".fold").textContent = open ? "▾" : "▸";
    if (!open && hide === 99) hide = level;
  }
};
const toggle = (row, open) => { closed.set(row.id, !open); fold(); };
const step = (rows, from, by) => {
  const seen = rows.filter((row) => !row.hidden), at = seen.indexOf(from);
  const next = seen[Math.max(0, Math.min(seen.length - 1, at + by))];
  if (next) { from?.setAttribute("tabindex", "-1"); next.setAttribute("tabindex", "0"); next.focus(); next.scrollIntoView({ block: "nearest" }); }
};
const inTree = (event, row) => {
  const rows = all("#tree tbody tr"), open = row.getAttribute("aria-expanded"), level = Number(row.getAttribute("aria-level"));
  const keys = {
    ArrowDown: () => step(rows, row, 1), ArrowUp: () => step(rows, row, -1), Home: () => step(rows, row, -9999), End: () => step(rows, row, 9999),
    ArrowRight: () => { if (open === "false") toggle(row, true); else if (open === "true") step(rows, row, 1); },
    ArrowLeft: () => {
      if (open === "true") { toggle(row, false); return; }
      const up = rows.slice(0, rows.indexOf(row)).reverse().find((r) => Number(r.getAttribute("aria-level")) < level);
      if (up) { row.setAttribute("tabindex", "-1"); up.setAttribute("tabindex", "0"); up.focus(); }
    },
    Enter: () => row.querySelector("a").click(),
  };
  if (!keys[event.key]) return false;
  keys[event.key](); event.preventDefault(); return true;
};

/* Copying. */
const copy = async (id) => {
  const code = $(id), text = code.textContent;
  try { await navigator.clipboard.writeText(text); say("Copied: " + text, true); } catch {
    const range = doc.createRange(); range.selectNodeContents(code);
    getSelection().removeAllRanges(); getSelection().addRange(range); code.focus();
    say("Selected: copy it with the keyboard", true);
  }
};

/* What was seen before. */
const unread = () => {
  const told = Number($("bell")?.dataset.told || 0), seen = Number(kept.get("seen") || 0);
  if (location.pathname === "/notifications") kept.set("seen", String(told));
  else if ($("unread")) $("unread").textContent = told > seen ? " There is something new." : "";
  $("bell")?.classList.toggle("warn", told > seen && location.pathname !== "/notifications");
};
const mine = () => {
  const id = decodeURIComponent(location.hash.slice(1));
  if (!id) return;
  const place = $(id), box = place && place.closest("details");
  if (box && !box.dataset.opened) { box.open = true; box.dataset.opened = "1"; place.scrollIntoView({ block: "center" }); }
};

/* Dialogs are made here, so that the page is whole without them. */
const make = (name, set = {}, ...inside) => {
  const node = doc.createElement(name);
  for (const [key, value] of Object.entries(set)) node.setAttribute(key, value);
  node.append(...inside); return node;
};
const dialog = (label, ...inside) => {
  const node = make("dialog", { "aria-label": label }, ...inside);
  node.addEventListener("close", () => node.remove());
  doc.body.append(node); node.showModal(); return node;
};
const HELP = [["Ctrl K", "go to anything"], ["/", "search"], ["g and a letter", "go to a page"], ["j, k", "next, previous row"],
  ["Enter", "open it"], ["c", "copy the first command"], ["[, ]", "previous, next view"], ["x", "pause, go on"], ["?", "this list"]];
const help = () => {
  const list = make("dl");
  for (const [key, text] of HELP) list.append(make("dt", {}, make("kbd", {}, key)), make("dd", {}, text));
  for (const a of all("#nav a[data-key]")) list.append(make("dt", {}, make("kbd", {}, "g " + a.dataset.key)), make("dd", {}, a.title));
  const box = make("input", { type: "checkbox", id: "keys" }), shut = make("button", {}, "Close");
  box.checked = kept.get("keys") !== "off";
  box.addEventListener("change", () => kept.set("keys", box.checked ? "on" : "off"));
  const open = dialog("Keys", make("h2", {}, "Keys"), list, make("label", { for: "keys" }, box, " Single keys do something"), make("p", {}, shut));
  shut.addEventListener("click", () => open.close()); shut.focus();
};
const palette = () => {
  const input = make("input", { type: "search", "aria-label": "Go to", placeholder: "Go to a page, or search", maxlength: "200" });
  const list = make("ul"), pages = all("#nav a").map((a) => [a.title, a.getAttribute("href")]);
  let at = 0;
  const fill = () => {
    const text = input.value.trim().toLowerCase();
    const found = pages.filter(([title]) => title.toLowerCase().includes(text)).slice(0, 8);
    if (text) found.push([`Search for ${input.value.trim()}`, "/search?q=" + encodeURIComponent(input.value.trim())]);
    at = Math.max(0, Math.min(at, found.length - 1));
    list.replaceChildren(...found.map(([title, href], i) => make("li", i === at ? { class: "at" } : {}, make("a", { href }, title))));
  };
  input.addEventListener("input", () => { at = 0; fill(); });
  input.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" || event.key === "ArrowUp") { at += event.key === "ArrowDown" ? 1 : -1; fill(); event.preventDefault(); }
    if (event.key === "Enter") { list.querySelector("li.at a")?.click(); event.preventDefault(); }
  });
  dialog("Go to", input, list); fill(); input.focus();
};

/* Keys. */
let going = 0, row = null;
const lines = () => all("main tbody tr:not([hidden]), main .card, main .needs li").filter((node) => node.querySelector("a"));
const walk = (by) => {
  const found = lines(), at = found.indexOf(row);
  row?.classList.remove("at");
  row = found[Math.max(0, Math.min(found.length - 1, at + by))] || null;
  if (!row) return;
  row.classList.add("at"); row.querySelector("a").focus(); row.scrollIntoView({ block: "nearest" });
};
const view = (by) => {
  const found = all(".tabs a"), at = found.findIndex((a) => a.hasAttribute("aria-current"));
  found[(at + by + found.length) % found.length]?.click();
};
const KEYS = {
  "/": () => $("find").focus(), "?": help, x: pause, j: () => walk(1), k: () => walk(-1), "[": () => view(-1), "]": () => view(1),
  c: () => { const code = (row && row.querySelector("code[data-command]")) || doc.querySelector("main code[data-command]"); if (code) copy(code.id); },
};
doc.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key.toLowerCase() === "k") { event.preventDefault(); if (!doc.querySelector("dialog")) palette(); return; }
  const target = event.target;
  if (event.ctrlKey || event.metaKey || event.altKey || target.closest?.("input, select, textarea, dialog")) return;
  const leaf = target.closest?.("#tree tbody tr");
  if (leaf && target === leaf && inTree(event, leaf)) return;
  if (kept.get("keys") === "off") return;
  if (going && Date.now() - going < 1500) {
    going = 0;
    const to = doc.querySelector(`#nav a[data-key="${CSS.escape(event.key)}"]`);
    if (to) { event.preventDefault(); to.click(); }
    return;
  }
  if (event.key === "g") { going = Date.now(); return; }
  if (KEYS[event.key]) { event.preventDefault(); KEYS[event.key](); }
});
doc.addEventListener("click", (event) => {
  const button = event.target.closest?.("[data-copy]");
  if (button) { copy(button.dataset.copy); return; }
  const leaf = event.target.closest?.("#tree tr[data-open] td:first-child");
  if (leaf) toggle(leaf.parentNode, leaf.parentNode.getAttribute("aria-expanded") === "false");
});

doc.addEventListener("DOMContentLoaded", () => {
  settle(); setInterval(tick, 5000); setInterval(() => { if (since) show(); }, 5000);
  setInterval(() => { if (root.classList.contains("stale")) look(); }, 10000);
  $("pause").addEventListener("click", pause);
  $("theme").addEventListener("click", () => {
    const dark = getComputedStyle(root).colorScheme === "dark" || (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
    root.dataset.theme = dark ? "light" : "dark"; kept.set("theme", root.dataset.theme);
  });
  for (const select of all(".head select")) select.addEventListener("change", () => select.form.requestSubmit());
  show(); follow();
});
})();
