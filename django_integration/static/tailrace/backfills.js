"use strict";
/* Keeps the page of a backfill up to date. All that it is told is put into the page as text. */
(() => {
  const ACTIVE_MS = 1000;
  const QUIET_MS = 4000; /* it does not run, but somebody may have it go on */
  const FAILING_MAX_MS = 15000;
  const page = document.querySelector(".tailrace-backfill");
  if (!page || "isOver" in page.dataset) return;

  const one = (selector) => page.querySelector(selector);
  const every = (selector) => page.querySelectorAll(selector);
  const log = one("[data-log]");
  const lost = one("[data-lost]");
  let logKey = page.dataset.logKey;
  let failures = 0;
  let timer = 0;
  let isAsking = false;

  const rowsOf = (body, rows, hasHead) => {
    body.replaceChildren(...rows.map((cells) => {
      const row = document.createElement("tr");
      cells.forEach((text, index) => {
        const isHead = hasHead && index === 0;
        const cell = document.createElement(isHead ? "th" : "td");
        if (isHead) cell.scope = "row";
        cell.textContent = text;
        row.append(cell);
      });
      return row;
    }));
  };

  const showLog = (told) => {
    logKey = told.log_key;
    if (told.log === null || told.log === log.textContent) return;
    const isAtEnd = log.scrollTop + log.clientHeight >= log.scrollHeight - 20;
    log.textContent = told.log;
    if (isAtEnd) log.scrollTop = log.scrollHeight;
  };

  const showButtons = (told) => {
    every("input[name=seen]").forEach((input) => { input.value = told.state; });
    every("[data-action]").forEach((part) => {
      part.hidden = !told.can.includes(part.dataset.action);
      if (part.hidden) part.open = false;
    });
  };

  const show = (told) => {
    const phase = one("[data-phase]");
    if (phase.textContent !== told.phase) {
      phase.textContent = told.phase;
      phase.className = `tailrace-state tailrace-state-${told.phase}`;
    }
    one("progress").value = told.fraction;
    every("[data-figure]").forEach((part) => {
      part.textContent = told.figures[part.dataset.figure];
    });
    one("[data-idle]").hidden = !told.idle;
    one("[data-idle-text]").textContent = told.idle;
    one("[data-failures]").hidden = told.failures.length === 0;
    rowsOf(one("[data-failure-rows]"), told.failures, false);
    one("[data-result]").hidden = told.result.length + told.notes.length === 0;
    rowsOf(one("[data-result-rows]"), told.result, true);
    one("[data-notes]").replaceChildren(...told.notes.map((text) => {
      const item = document.createElement("li");
      item.textContent = text;
      return item;
    }));
    showLog(told);
    showButtons(told);
  };

  const complain = (text) => {
    lost.textContent = text;
    lost.hidden = !text;
  };

  const ask = async () => {
    const url = new URL(page.dataset.statusUrl, location.href);
    url.searchParams.set("log", logKey);
    const answer = await fetch(url, { headers: { Accept: "application/json" } });
    const isJson = (answer.headers.get("Content-Type") || "").startsWith("application/json");
    if (answer.redirected || answer.status === 403) {
      complain("You are not logged in any more, or may not see this: reload the page.");
      return 0;
    }
    if (!answer.ok || !isJson) throw new Error(`the server answered ${answer.status}`);
    const told = await answer.json();
    failures = 0;
    complain("");
    show(told);
    return told.is_over ? 0 : told.state === "running" ? ACTIVE_MS : QUIET_MS;
  };

  const turn = async () => {
    if (isAsking) return;
    isAsking = true;
    clearTimeout(timer);
    let wait = 0;
    try {
      wait = await ask();
    } catch (error) {
      failures += 1;
      wait = Math.min(ACTIVE_MS * 2 ** failures, FAILING_MAX_MS);
      complain(`What you see may be old: ${error.message}. Trying again.`);
    }
    isAsking = false;
    if (wait && !document.hidden) timer = setTimeout(turn, wait);
    if (wait === 0) page.dataset.isOver = "";
  };

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden && !("isOver" in page.dataset)) turn();
  });
  one("[data-refresh]").hidden = true; /* the page does that by itself */
  log.scrollTop = log.scrollHeight;
  turn();
})();
