// Keeps the page up to date: the server sends its changing part over a websocket, ages are counted on here.
// Without this script the page reads the same and is reloaded by hand.
"use strict";

const live = document.getElementById("live");
const said = document.getElementById("said");
let countedFrom = performance.now();
let pause = 1000;

/** The same words as `span` in wording.py. */
function span(seconds) {
  if (seconds > 0 && seconds < 1) return `${Math.max(Math.round(seconds * 1000), 1)} ms`;
  if (seconds < 10) return `${Math.max(seconds, 0).toFixed(1)} s`;
  const whole = Math.round(seconds);
  for (const [unitS, unit, belowS, below] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= unitS) {
      const rest = Math.floor((whole % unitS) / belowS);
      return `${Math.floor(whole / unitS)} ${unit}${rest ? ` ${rest} ${below}` : ""}`;
    }
  }
  return `${whole} s`;
}

function states() {
  return new Map([...live.querySelectorAll("[data-job]")].map((row) => [row.dataset.job, row.dataset.state]));
}

/** What the keyboard is on, to find it again in the new content. */
function focused() {
  const element = document.activeElement;
  if (!live.contains(element)) return null;
  if (element.value) return `button[value="${CSS.escape(element.value)}"]`;
  const address = element.getAttribute("href");
  return address ? `a[href="${CSS.escape(address)}"]` : null;
}

function show(html) {
  const before = states();
  const focus = focused();
  const scrolls = [...live.querySelectorAll(".scroll")].map((box) => box.scrollLeft);
  live.innerHTML = html; // the server's own, escaped there
  countedFrom = performance.now();
  live.querySelectorAll(".scroll").forEach((box, place) => { box.scrollLeft = scrolls[place] ?? 0; });
  if (focus) (live.querySelector(focus) ?? live.querySelector("a"))?.focus({ preventScroll: true });
  const news = [...states()].filter(([job, state]) => before.get(job) !== state);
  if (news.length) said.textContent = news.slice(0, 3).map(([job, state]) => `Job ${job.slice(0, 8)}: ${state}.`).join(" ");
}

function follow() {
  const socket = new WebSocket(new URL(live.dataset.live, location.href.replace(/^http/, "ws")));
  socket.onmessage = (message) => { pause = 1000; show(message.data); };
  socket.onclose = (end) => {
    if (end.code === 4401) { location.reload(); return; } // logged out: the page asks for the login
    setTimeout(follow, pause);
    pause = Math.min(pause * 2, 30000);
  };
}

function countOn() {
  const passed = (performance.now() - countedFrom) / 1000;
  for (const age of document.querySelectorAll("[data-age]")) age.textContent = span(Number(age.dataset.age) + passed);
}

if (live?.dataset.live) {
  follow();
  setInterval(countOn, 1000);
}
