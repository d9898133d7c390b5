for (const math of document.querySelectorAll(".arithmatex")) {
  katex.render(math.textContent.slice(2, -2), math, {displayMode: math.tagName === "DIV", throwOnError: false});
  const text = math.nextSibling, mark = /^[.,;:!?)]+/.exec(text?.data)?.[0];
  if (mark) {  // into the unbreakable end of the formula, so that no line begins with a comma
    math.querySelector(".katex-html").lastChild.append(mark);
    text.data = text.data.slice(mark.length);
  }
}

const pane = document.querySelector(".reading pre");
const behavior = matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth";
let pinned = null;

function light(key) {  // what has this key, and nothing else
  for (const lit of document.querySelectorAll(".lit")) lit.classList.remove("lit");
  for (const tied of document.querySelectorAll(`[data-key="${key}"]`)) tied.classList.add("lit");
}

function show(from, key) {  // the other side of what was pointed at; the side where the reader is stays where it is
  if (from.matches(".equation")) {
    const line = pane.querySelector(".line.lit"), [top, bottom] = [pane, line].map(e => e?.getBoundingClientRect());
    if (line) pane.scrollTo({top: pane.scrollTop + bottom.top - top.top - pane.clientHeight / 3, behavior});
  } else
    document.querySelector(".equation.lit")?.scrollIntoView({block: "center", behavior});
}

function listen(event, act) {
  document.addEventListener(event, e => act(e.target.closest?.("[data-key]"), e));
}

if (pane) {
  listen("pointerover", (at, e) => {
    if (e.pointerType !== "mouse") return;
    light(at?.dataset.key ?? pinned);
    if (at?.matches(".equation")) show(at, at.dataset.key);
  });
  listen("focusin", at => {
    if (!at) return;
    light(pinned = at.dataset.key);
    if (at.matches(".equation")) show(at, pinned);
  });
  listen("click", (at, e) => {
    if (e.target.closest("a[href]:not([href^='#'])")) return;
    light(pinned = at?.dataset.key ?? null);
    if (at) show(at, pinned), e.preventDefault();
  });
  document.addEventListener("keydown", e => { if (e.key === "Escape") light(pinned = null); });
}
