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

// The theme searches for every word as a beginning of words, "a" and "the" too, so that a question finds
// pages by its smallest words. Here only the last word, which may not be finished, is a beginning.
const SMALL = new Set(
  ("a an and are as at be by can do does for from has have how i if in into is it its my of on or so than that " +
    "the their there these this to was we what when where which who why will with you your").split(" "),
);
const QUERY = 2; // the type of the theme's message to its search

function question(text) {
  const words = text.trim().split(/\s+/);
  if (words.length < 3 || /["+~^*:]/.test(text)) return text;
  const large = words.filter((word) => !SMALL.has(word.toLowerCase()));
  return large.map((word, number) => (number < large.length - 1 ? `${word}^1` : word)).join(" ");
}

const send = Worker.prototype.postMessage;
Worker.prototype.postMessage = function (message, ...others) {
  const asks = message?.type === QUERY && typeof message.data === "string";
  send.call(this, asks ? { ...message, data: question(message.data) } : message, ...others);
};
