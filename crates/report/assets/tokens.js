// What the explorers share: lists of tokens, and numbers that are packed in the page.
function decode(base64) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(base64);
  const text = atob(base64), bytes = new Uint8Array(text.length);
  for (let k = 0; k < text.length; k++) bytes[k] = text.charCodeAt(k);
  return bytes;
}
/// The bytes of an element that holds them compressed, in base64.
async function inflated(element) {
  const stream = new Blob([decode(element.textContent)]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}
const option = (text, value) => Object.assign(document.createElement("option"), { textContent: text, value });

/// Fills an element with tokens as spans, and says which one the pointer or the keyboard is on.
function tokenList(element, on) {
  let spans = [], cursor = -1, locked = false;
  const mark = (k, byHand) => {
    if (cursor >= 0 && spans[cursor]) spans[cursor].classList.remove("cursor", "locked");
    cursor = k;
    if (k >= 0) {
      spans[k].classList.add("cursor");
      spans[k].classList.toggle("locked", locked);
      element.setAttribute("aria-activedescendant", spans[k].id);
      if (byHand) spans[k].scrollIntoView({ block: "nearest" });
    } else element.removeAttribute("aria-activedescendant");
    on.at(k);
  };
  const indexOf = (target) => (target.dataset && target.dataset.k !== undefined ? +target.dataset.k : -1);
  element.addEventListener("pointerover", (event) => {
    const k = indexOf(event.target);
    if (k >= 0 && !locked && event.pointerType !== "touch") mark(k);
  });
  element.addEventListener("pointerleave", () => { if (!locked) mark(-1); });
  element.addEventListener("click", (event) => {
    const k = indexOf(event.target);
    if (k >= 0) press(k);
  });
  const press = (k) => {
    if (on.press) { mark(k); on.press(k); return; }
    locked = !(locked && k === cursor);
    mark(k);
  };
  element.addEventListener("keydown", (event) => {
    const last = spans.length - 1;
    const to = { ArrowRight: Math.min(cursor + 1, last), ArrowLeft: Math.max(cursor - 1, 0), Home: 0, End: last }[event.key];
    if (to !== undefined) mark(to, true);
    else if ((event.key === "Enter" || event.key === " ") && cursor >= 0) press(cursor);
    else if (event.key === "Escape") { locked = false; mark(-1); }
    else return;
    event.preventDefault();
  });
  return {
    set(tokens, label) {
      locked = false;
      cursor = -1;
      element.setAttribute("aria-label", label);
      spans = tokens.map((token, k) => {
        const span = Object.assign(document.createElement("span"), { className: "token", id: `${element.id}-${k}` });
        span.dataset.k = k;
        span.setAttribute("role", "option");
        span.textContent = token.replaceAll("\n", "↵\n").replaceAll("\t", "⇥\t");
        if (!token.trim() && !token.includes("\n")) span.classList.add("blank");
        return span;
      });
      element.replaceChildren(...spans);
    },
    paint(styles) { spans.forEach((span, k) => { span.style.background = styles[k].background || ""; span.style.boxShadow = styles[k].line || ""; }); },
    span: (k) => spans[k],
    move: (k, hold) => { locked = hold; mark(k); },
    get cursor() { return cursor; },
  };
}
