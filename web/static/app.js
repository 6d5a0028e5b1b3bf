// What a page does by itself: asks for news while somebody looks, counts seconds between two answers, asks before a cut.
(() => {
  "use strict";
  const NEWS_MS = 1500;
  const SLOW_NEWS_MS = 10000;
  const CLOCK_MS = 250;
  const SOON_MS = 30000;

  // News. A hidden tab asks for nothing.
  const ask = (name) => {
    if (!document.hidden) htmx.trigger(document.body, name);
  };
  setInterval(() => ask("tick"), NEWS_MS);
  setInterval(() => ask("slowtick"), SLOW_NEWS_MS);
  document.addEventListener("visibilitychange", () => {
    ask("tick");
    ask("slowtick");
  });

  // A table that has stopped renewing itself must say so: an old screen is worse than none.
  const stale = document.getElementById("stale");
  const fail = () => { stale.hidden = false; };
  for (const name of ["htmx:sendError", "htmx:timeout", "htmx:responseError"]) {
    document.body.addEventListener(name, fail);
  }
  document.body.addEventListener("htmx:afterRequest", (event) => {
    if (event.detail.successful) stale.hidden = true;
  });

  // Clocks run on the server's time, whatever this machine's clock says.
  let offset = 0;
  const tell = (ms) => {
    const seconds = Math.max(0, Math.floor(ms / 1000));
    const two = (number) => String(number).padStart(2, "0");
    const [h, m, s] = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
    return h ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
  };
  const write = (element, text) => {
    if (element.textContent !== text) element.textContent = text;
  };
  const turn = () => {
    const now = Date.now() + offset;
    for (const element of document.querySelectorAll("[data-since-ms]")) {
      write(element, tell(now - Number(element.dataset.sinceMs)));
    }
    for (const element of document.querySelectorAll("[data-until-ms]")) {
      const left = Number(element.dataset.untilMs) - now;
      write(element, tell(left));
      element.classList.toggle("is-soon", left < SOON_MS && element.classList.contains("is-short"));
    }
  };
  const setClock = () => {
    const board = document.querySelector("[data-now-ms]");
    if (board) offset = Number(board.dataset.nowMs) - Date.now();
    turn();
  };
  document.body.addEventListener("htmx:afterSwap", setClock);
  setInterval(turn, CLOCK_MS);
  setClock();

  // Asking before a cut. The form may be swapped away while the question stands, so its fields are copied.
  const dialog = document.getElementById("confirm");
  const question = dialog.querySelector("form");
  const fields = document.getElementById("confirm-fields");
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (!form.dataset.confirm) return;
    event.preventDefault();
    document.getElementById("confirm-title").textContent = form.dataset.confirm;
    document.getElementById("confirm-text").textContent = form.dataset.confirmText;
    document.getElementById("confirm-yes").textContent = form.dataset.confirmYes;
    question.action = form.getAttribute("action");
    fields.replaceChildren(...[...new FormData(form)].map(([name, value]) => {
      const input = document.createElement("input");
      Object.assign(input, { type: "hidden", name, value });
      return input;
    }));
    dialog.showModal();
  });
  document.getElementById("confirm-no").addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });

  // A choice shows the fields that belong to it; what is hidden is not sent.
  for (const choice of document.querySelectorAll("select[data-chooses]")) {
    const choose = () => {
      for (const part of choice.form.querySelectorAll("[data-only]")) {
        part.hidden = !part.dataset.only.split(" ").includes(choice.value);
        for (const input of part.querySelectorAll("input, select, textarea")) input.disabled = part.hidden;
      }
    };
    choice.addEventListener("change", choose);
    choose();
  }

  // A form is sent once: a second click waits for the first. (The server would not book it twice either.)
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.hasAttribute("hx-post")) return;
    const form = event.target;
    if (form.dataset.sent) {
      event.preventDefault();
      return;
    }
    form.dataset.sent = "yes";
  });
  addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });
})();
