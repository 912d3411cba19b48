"use strict";
// Every two seconds: the same document again, and what differs is put in place, node by node, so
// that focus, selection and scroll positions stay.
const EVERY_MS = 2000, TIMEOUT_MS = 5000;
const lost = document.getElementById("lost");

function same(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName;
}

function update(old, fresh) {
  if (old.nodeType === Node.TEXT_NODE) {
    if (old.data !== fresh.data) old.data = fresh.data;
    return;
  }
  for (const { name } of [...old.attributes])
    if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes)
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  const wanted = [...fresh.childNodes];
  while (old.childNodes.length > wanted.length) old.lastChild.remove();
  wanted.forEach((node, n) => {
    const there = old.childNodes[n];
    if (!there) old.append(document.importNode(node, true));
    else if (same(there, node)) update(there, node);
    else there.replaceWith(document.importNode(node, true));
  });
}

async function refresh() {
  try {
    const answer = await fetch("/", { cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) throw new Error(answer.status);
    const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
    update(document.querySelector("main"), fresh.querySelector("main"));
    document.title = fresh.title;
    lost.hidden = true;
  } catch {
    if (lost.hidden) {
      const asOf = document.querySelector("time").textContent;
      lost.textContent = `The process does not answer. This page is from ${asOf} UTC.`;
      document.title = "No answer · Payments";
      lost.hidden = false;
    }
  }
}

(async function () {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
    if (!document.hidden) await refresh();
  }
})();
