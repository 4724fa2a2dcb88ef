// The annotators' page. It shows what the server says, keeps what could not be sent, and says "saved" only once
// the server has. Texts become text nodes, never markup.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const work = $("work");
  const { owner, version } = work.dataset;
  const steps = Number(work.dataset.steps);
  let csrf = work.dataset.csrf;
  let view = JSON.parse(work.dataset.shown);

  // Milliseconds after an item appears in which no choice is taken: the second half of a double click, or a key
  // still held down, was meant for the item before.
  const SETTLE = 400;
  const RETRIES = [1000, 2000, 4000, 8000, 15000];
  const PATIENCE = 20000;

  let settled = false;  // whether a choice is taken yet
  let settling = 0;
  let shownAt = 0;      // since when the item has been seen without a break
  let watched = 0;      // milliseconds for which it was seen before that (another visit, a hidden tab)
  let sending = false;  // one request at a time, so that answers arrive in order
  let asking = false;   // an undo is on its way
  let attempts = 0;
  let timer = 0;
  let picked = null;    // a side whose strength is yet to be said
  let flag = null;

  // ---- what the browser keeps: a draft of the item, and answers that the server has not confirmed

  const memory = new Map();  // where the browser allows no storage
  const store = {
    get: (name) => {
      try { return localStorage.getItem(name) ?? memory.get(name) ?? null; } catch { return memory.get(name) ?? null; }
    },
    set: (name, value) => {
      try { localStorage.setItem(name, value); memory.delete(name); } catch { memory.set(name, value); }
    },
    drop: (name) => {
      memory.delete(name);
      try { localStorage.removeItem(name); } catch { /* nothing is stored then */ }
    },
    names: () => {
      try { return [...new Set([...Object.keys(localStorage), ...memory.keys()])]; } catch { return [...memory.keys()]; }
    },
  };
  const named = (what) => `align.${owner}.${what}`;
  const read = (name) => {
    try { return JSON.parse(store.get(name)); } catch { return null; }
  };
  // each answer under a name of its own, so that two tabs never overwrite each other's; sorted names are in order
  const waiting = () => store.names().filter((name) => name.startsWith(named("out."))).sort();
  const keep = (answer) => store.set(named(`out.${String(Date.now()).padStart(15, "0")}.${answer.key}`), JSON.stringify(answer));

  const newKey = () => [...crypto.getRandomValues(new Uint8Array(16))].map((b) => b.toString(16).padStart(2, "0")).join("");

  // ---- showing

  function element(tag, className, text) {
    const made = document.createElement(tag);
    if (className) made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  }

  function say(text, working = false) {
    $("said").classList.toggle("working", working);
    $("said").textContent = text;
  }
  const complain = (text) => { $("trouble").textContent = text; };

  function show(next, before = "") {
    view = next;
    picked = null;
    flag = null;
    $("item").hidden = view.state !== "item";
    $("end").hidden = view.state === "item";
    $("bar").max = Math.max(view.total, 1);
    $("bar").value = view.done;
    $("bar").setAttribute("aria-valuetext", `${view.done} of ${view.total} done`);
    if (view.state === "item") showItem(before); else showEnd();
    send();
  }

  function showItem(before) {
    const { item } = view;
    const title = `Item ${item.number} of ${Math.max(view.total, item.number)}`;
    document.title = title;
    $("title").textContent = title;
    const names = { user: "User", assistant: "Assistant", system: "System" };
    $("talk").replaceChildren(...item.prompt.map((turn) => {
      const part = element("article", `turn ${turn.role}`);
      const text = element("div", "text", turn.text);
      text.dir = "auto";
      part.append(element("h2", "", names[turn.role] ?? turn.role), text);
      return part;
    }));
    for (const side of ["left", "right"]) {
      $(`${side}-text`).textContent = item[side];
      $(`${side}-text`).scrollTop = 0;
    }
    settled = false;
    clearTimeout(settling);
    $("item").classList.add("new");
    settling = setTimeout(() => { settled = true; $("item").classList.remove("new"); }, SETTLE);
    restore(item.id);
    mark(null, null);
    $("undo").disabled = !view.can_undo;
    shownAt = performance.now();
    complain("");
    say(before);
    $("title").focus({ preventScroll: true });
    scrollTo(0, 0);
    $("talk").scrollTop = $("talk").scrollHeight;
  }

  function showEnd() {
    const finished = view.state === "finished";
    const title = finished ? "That was all. Thank you." : "A pause";
    document.title = title;
    $("title").textContent = finished ? "Done" : "Paused";
    $("end-title").textContent = title;
    $("end-text").textContent = finished
      ? `Everything that you chose is saved (${view.done} item${view.done === 1 ? "" : "s"}).`
      : view.reason;
    $("end-code").hidden = !(finished && view.code);
    $("code").textContent = view.code ?? "";
    if ($("end-link")) $("end-link").hidden = !finished;
    $("end-undo").hidden = !(finished && view.done > 0);
    $("again").hidden = finished;
    $("end-title").focus({ preventScroll: true });
  }

  function mark(choice, strength) {
    for (const side of ["left", "right"]) {
      $(side).classList.toggle("chosen", choice === side);
      const group = document.querySelector(`div.side[data-side="${side}"]`);
      if (group) group.classList.toggle("picked", choice === side && strength === null);
    }
    for (const button of document.querySelectorAll("[data-choice]")) {
      const same = button.dataset.choice === choice;
      const pressed = same && (button.dataset.strength ? Number(button.dataset.strength) === strength : true);
      button.setAttribute("aria-pressed", String(pressed));
    }
  }

  // ---- the draft: a reload shows the same item with what was typed

  const criteria = () => [...document.querySelectorAll(".criterion")];
  const answered = (set) => set.querySelector("input:checked")?.value;

  function draft() {
    const said = criteria().map((set) => [set.dataset.name, answered(set)]).filter(([, value]) => value);
    return {
      item: view.item.id,
      reason: $("reason")?.value ?? "",
      criteria: Object.fromEntries(said),
      flag,
      seen: watched + (document.hidden ? 0 : performance.now() - shownAt),
    };
  }

  function save() {
    if (view.state === "item") store.set(named("draft"), JSON.stringify(draft()));
  }

  function restore(id) {
    const kept = [read(named("draft")), read(named("last"))].find((one) => one?.item === id) ?? {};
    if ($("reason")) $("reason").value = kept.reason ?? "";
    for (const set of criteria()) {
      const said = kept.criteria?.[set.dataset.name];
      for (const input of set.querySelectorAll("input")) input.checked = input.value === said;
      set.classList.remove("asked");
    }
    watched = kept.seen ?? 0;
    setFlag(kept.flag ?? null);
  }

  function setFlag(text) {
    flag = text;
    $("flagged").hidden = !text;
    $("flagged-text").textContent = text ? `Flagged: ${text}` : "";
  }

  // ---- choosing

  const busy = () => sending || asking || waiting().length > 0;

  function choose(choice, strength = null) {
    if (view.state !== "item" || busy() || !settled) return;
    const sided = choice === "left" || choice === "right";
    if (choice !== "skip") {
      const missing = criteria().find((set) => !answered(set));
      if (missing) { ask(missing); return; }
    }
    if (sided && steps && strength === null) { pick(choice); return; }
    const { item, reason, criteria: said, seen } = draft();
    const answer = {
      assignment: item,
      key: newKey(),
      choice,
      strength: sided && steps ? strength : null,
      criteria: choice === "skip" ? {} : said,
      reason,
      flag,
      seconds: Math.round(seen) / 1000,
    };
    store.set(named("last"), JSON.stringify(draft()));
    keep(answer);
    send();
  }

  function pick(side) {
    picked = side;
    mark(side, null);
    const number = side === "left" ? 1 : 2;
    say(`Reply ${number} is better: how much? ${steps === 2 ? "1 slightly, 2 clearly" : "1 slightly, 2 clearly, 3 by far"}`, true);
    document.querySelector(`[data-choice="${side}"][data-strength="1"]`).focus();
  }

  function ask(set) {
    for (const one of criteria()) one.classList.toggle("asked", one === set);
    complain(`First: ${set.dataset.name}?`);
    (set.querySelector("input:checked") ?? set.querySelector("input")).focus();
  }

  function answerCriterion(set, value) {
    set.querySelector(`input[value="${value}"]`).checked = true;
    set.classList.remove("asked");
    complain("");
    save();
    const next = criteria().find((one) => !answered(one));
    if (next) next.querySelector("input").focus(); else $("choices").focus({ preventScroll: true });
  }

  // ---- sending

  async function request(path, body) {
    const options = { credentials: "same-origin", signal: AbortSignal.timeout(PATIENCE) };
    if (body !== undefined) {
      options.method = "POST";
      options.headers = { "Content-Type": "application/json", "X-CSRF-Token": csrf };
      options.body = JSON.stringify(body);
    }
    try {
      const reply = await fetch(path, options);
      const text = await reply.json();
      return { status: reply.status, body: text };
    } catch {
      return { status: 0, body: {} };
    }
  }

  // Another session (the link was opened again) has another token: fetched once, then tried once more.
  async function post(path, body) {
    const reply = await request(path, body);
    if (reply.status !== 403) return reply;
    const fresh = await request("/api/task");
    if (fresh.status !== 200) return fresh;
    csrf = fresh.body.csrf;
    return request(path, body);
  }

  const lost = (status) => status === 0 || status === 429 || status >= 500;

  async function send() {
    if (sending) return;
    clearTimeout(timer);
    const name = waiting()[0];
    if (name === undefined) { work.removeAttribute("data-waiting"); return; }
    const answer = read(name);
    if (!answer) { store.drop(name); send(); return; }
    sending = true;
    work.dataset.waiting = "";
    if (view.state === "item" && answer.assignment === view.item.id) mark(answer.choice, answer.strength);
    if (attempts === 0) say("Saving", true);
    const reply = await post("/api/answer", answer);
    sending = false;
    if (lost(reply.status)) { later(); return; }
    if (reply.status === 401) { outside(); return; }
    attempts = 0;
    store.drop(name);
    if (reply.status === 200) arrived(reply.body.next, "Saved"); else await refused(reply);
  }

  function arrived(next, text) {
    work.removeAttribute("data-waiting");
    store.drop(named("draft"));
    show(next, text);
  }

  function later() {
    const delay = RETRIES[Math.min(attempts, RETRIES.length - 1)];
    attempts += 1;
    say("");
    complain("Not saved yet: no connection. Your choice is kept in this browser and sent as soon as the server answers.");
    timer = setTimeout(send, delay);
  }

  function outside() {
    attempts += 1;
    say("");
    complain("Not saved yet: you are logged out. Open your personal link again in this browser; your choice is kept and sent then.");
    timer = setTimeout(send, RETRIES.at(-1));
  }

  // The server has looked at the answer and will not have it: the item that it has for us now, and why.
  async function refused(reply) {
    const fresh = await request("/api/task");
    work.removeAttribute("data-waiting");
    if (fresh.status === 200) {
      csrf = fresh.body.csrf;
      show(fresh.body.next);
    } else {
      mark(null, null);
    }
    say("");
    complain(`Not saved: ${reply.body.error ?? `error ${reply.status}`}.`);
  }

  async function undo() {
    if (busy() || view.state === "paused" || (view.state === "item" && !view.can_undo)) return;
    asking = true;
    say("Taking it back", true);
    const reply = await post("/api/undo", { item: view.item?.id ?? null });
    asking = false;
    if (reply.status === 200) {
      arrived(reply.body.next, "Taken back: choose again");
      return;
    }
    say("");
    complain(lost(reply.status) ? "No connection: nothing was taken back." : `Not taken back: ${reply.body.error}.`);
  }

  async function again() {
    const reply = await request("/api/task");
    if (reply.status === 200) { csrf = reply.body.csrf; show(reply.body.next); } else location.reload();
  }

  // ---- keys, clicks, dialogs

  const open = (name) => { const dialog = $(name); if (dialog && !dialog.open) { save(); dialog.showModal(); dialog.querySelector("[data-first]")?.focus(); } };
  const shortcuts = () => $("shortcuts").checked;

  const KEYS = {
    1: () => number("left", 1),
    2: () => number("right", 2),
    3: () => number(null, 3),
    0: () => offered("tie"),
    b: () => offered("both_bad"),
    s: () => offered("skip"),
    u: undo,
    f: () => view.state === "item" && open("flag"),
    g: () => open("guidelines"),
    r: () => view.state === "item" && $("reason")?.focus(),
    c: () => criteria()[0]?.querySelector("input").focus(),
    "?": () => open("help"),
  };
  const offered = (choice) => { if (document.querySelector(`[data-choice="${choice}"]`)) choose(choice); };

  function number(side, value) {
    if (picked) { if (value <= steps) choose(picked, value); } else if (side) choose(side);
  }

  addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.repeat || event.ctrlKey || event.metaKey || event.altKey) return;
    if (document.querySelector("dialog[open]")) return;
    const target = event.target;
    const typing = target.matches?.("textarea, select, input:not([type=radio], [type=checkbox])");
    if (event.key === "Escape") {
      if (typing) $("choices").focus({ preventScroll: true });
      else if (picked && !busy()) { picked = null; mark(null, null); say(""); $("title").focus(); }
      return;
    }
    if (typing || !shortcuts()) return;
    const key = event.key.toLowerCase();
    const set = target.closest?.(".criterion");
    const value = { 1: "left", 2: "right", 0: "tie" }[key];
    if (set && value) { event.preventDefault(); answerCriterion(set, value); return; }
    if (Object.hasOwn(KEYS, key)) { event.preventDefault(); KEYS[key](); }
  });

  addEventListener("click", (event) => {
    const button = event.target.closest?.("button");
    if (!button) return;
    if (button.dataset.open) open(button.dataset.open);
    if ("close" in button.dataset) button.closest("dialog").close();
    // the second click of a double click is no second choice
    if (button.dataset.choice && event.detail < 2) {
      choose(button.dataset.choice, button.dataset.strength ? Number(button.dataset.strength) : null);
    }
  });

  $("choices").addEventListener("submit", (event) => event.preventDefault());
  $("more")?.addEventListener("input", () => { for (const set of criteria()) if (answered(set)) set.classList.remove("asked"); save(); });
  $("undo").addEventListener("click", undo);
  $("end-undo").addEventListener("click", undo);
  $("again").addEventListener("click", again);
  $("unflag").addEventListener("click", () => { setFlag(null); save(); $("choices").focus({ preventScroll: true }); });
  $("copy").addEventListener("click", async () => {
    try { await navigator.clipboard.writeText(view.code); $("copy").textContent = "Copied"; } catch { getSelection().selectAllChildren($("code")); }
  });
  $("flag-form").addEventListener("submit", (event) => {
    const name = new FormData($("flag-form")).get("flag");
    const note = $("flag-note").value.trim();
    setFlag(note ? `${name}: ${note}` : name);
    $("flag-note").value = "";
    save();
    if (event.submitter?.value === "skip") choose("skip");
  });

  $("shortcuts").checked = store.get(named("shortcuts")) !== "off";
  $("shortcuts").addEventListener("change", () => store.set(named("shortcuts"), $("shortcuts").checked ? "on" : "off"));

  // Time counts while the page is seen.
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) { watched += performance.now() - shownAt; save(); } else { shownAt = performance.now(); send(); }
  });
  addEventListener("pagehide", save);
  addEventListener("online", () => { if (waiting().length) { attempts = 0; send(); } });

  show(view);
  if (version && view.state === "item" && store.get(named("guidelines")) !== version) {
    open("guidelines");
    $("guidelines").addEventListener("close", () => { store.set(named("guidelines"), version); $("title").focus(); }, { once: true });
  }
})();
