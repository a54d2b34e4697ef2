"use strict";
// Keeps what bears data-live fresh while the page is visible: the server renders, this only puts in place.
(() => {
  const PERIOD = 2000;
  const pulse = document.getElementById("pulse");
  const say = (text, lost) => {
    if (pulse.textContent !== text) pulse.textContent = text;
    pulse.classList.toggle("lost", lost);
  };
  // The address bar may hold the password (http://gokrazy:…@host/), and fetch refuses to inherit it from there.
  const here = (path) => location.origin + path;
  const fetchPage = async (path) => {
    const options = { headers: { Accept: "text/html" }, cache: "no-store", signal: AbortSignal.timeout(8000) };
    const answer = await fetch(here(path), options);
    if (!answer.ok) throw new Error(String(answer.status));
    return new DOMParser().parseFromString(await answer.text(), "text/html");
  };

  // Replaces what differs, as deep down as possible, so that focus, selection and scrolling survive.
  const settle = (old, fresh) => {
    if (old.isEqualNode(fresh)) return;
    const alike = old.nodeType === 1 && fresh.nodeType === 1 && old.tagName === fresh.tagName
      && old.children.length === fresh.children.length && old.children.length > 0
      && old.childNodes.length === fresh.childNodes.length;
    if (!alike) { old.replaceWith(document.importNode(fresh, true)); return; }
    for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
    const after = [...fresh.childNodes];
    [...old.childNodes].forEach((node, index) => settle(node, after[index]));
  };

  let timer = 0;
  const refresh = async () => {
    clearTimeout(timer);
    if (document.hidden) return;
    try {
      const page = await fetchPage(location.pathname + location.search);
      for (const old of document.querySelectorAll("[data-live][id]")) {
        const fresh = page.getElementById(old.id);
        if (fresh) settle(old, fresh);
      }
      say("live", false);
      follow();
    } catch {
      say("no answer", true);
    }
    if (!document.hidden) timer = setTimeout(refresh, PERIOD);
  };

  // A service's output, followed while the page is visible.
  const log = document.querySelector("[data-follow]");
  let source = null;
  const follow = () => {
    if (!log) return;
    if (document.hidden) { source?.close(); source = null; return; }
    if (source) return;
    const stream = new EventSource(here(log.dataset.follow));
    source = stream;
    stream.onopen = () => log.replaceChildren();
    // The browser would give up for good on some errors; the next refresh that succeeds follows anew.
    stream.onerror = () => { stream.close(); if (source === stream) source = null; };
    const add = (stream) => (event) => {
      const end = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
      const line = document.createElement("span");
      line.className = stream;
      line.textContent = event.data + "\n";
      log.append(line);
      while (log.childElementCount > 1000) log.firstElementChild.remove();
      if (end) log.scrollTop = log.scrollHeight;
    };
    stream.addEventListener("stdout", add("stdout"));
    stream.addEventListener("stderr", add("stderr"));
  };

  // After a reboot was asked for: back to the overview once the device answers again after it was gone.
  const wait = async (gone) => {
    try {
      await fetchPage("/");
      if (gone) { location.replace(here("/")); return; }
    } catch { gone = true; }
    say(gone ? "waiting for the device" : "stopping services", false);
    setTimeout(wait, PERIOD, gone);
  };

  document.addEventListener("submit", (event) => {
    const question = event.submitter?.dataset.confirm;
    if (question && !confirm(question)) event.preventDefault();
  });
  if (document.querySelector("[data-wait]")) { wait(false); return; }
  document.addEventListener("visibilitychange", () => { refresh(); follow(); });
  if (document.querySelector("[data-live]")) timer = setTimeout(refresh, PERIOD);
  follow();
})();
