// Names for what the theme's script adds without any, and the keyboard for what scrolls.
function complete() {
  document.querySelectorAll(".md-code__nav:not([aria-label])").forEach((nav, number) => {
    nav.setAttribute("aria-label", `Code block ${nav.closest("pre")?.querySelector("code")?.id || number + 1}`);
  });
  document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])").forEach((table) => {
    table.tabIndex = 0;
  });
  document.querySelectorAll("label[id^=__nav_]:not([aria-label])").forEach((label) => {
    const name = label.textContent.trim() || label.previousElementSibling?.textContent.trim();
    if (name) label.setAttribute("aria-label", name);
  });
}

complete();
new MutationObserver(complete).observe(document.body, { childList: true, subtree: true });
