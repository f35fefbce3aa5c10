(() => {
  // A click enlarges a figure; Escape, or another click, closes it.
  const dialog = document.createElement("dialog");
  dialog.className = "large";
  dialog.setAttribute("aria-label", "Enlarged figure");
  document.querySelector("main").append(dialog);
  dialog.addEventListener("click", () => dialog.close());
  for (const button of document.querySelectorAll("button.enlarge")) {
    button.addEventListener("click", () => {
      dialog.replaceChildren(button.querySelector("img").cloneNode());
      dialog.showModal();
    });
  }
  // What scrolls within itself must be reachable by keyboard.
  const reach = () => {
    for (const table of document.querySelectorAll("table")) {
      const scrolls = table.scrollWidth > table.clientWidth || table.scrollHeight > table.clientHeight;
      if (scrolls) table.tabIndex = 0;
      else table.removeAttribute("tabindex");
    }
  };
  reach();
  addEventListener("resize", reach);
})();
