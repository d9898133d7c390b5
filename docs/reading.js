for (const math of document.querySelectorAll(".arithmatex")) {
  const tex = math.textContent.slice(2, -2); // without \( \) or \[ \]
  katex.render(tex, math, {displayMode: math.tagName === "DIV", throwOnError: false});
  const after = math.nextSibling;
  const marks = /^[.,;:!?)]+/.exec(after?.data);
  if (marks) { // into the unbreakable end of the formula, so that no line begins with a comma
    math.querySelector(".katex-html").lastChild.append(marks[0]);
    after.data = after.data.slice(marks[0].length);
  }
}

const pane = document.querySelector(".reading pre");
const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
let pinned = null; // the key of what was clicked, or of where the keyboard is

// Lights up what has this key, and nothing else.
function light(key) {
  for (const lit of document.querySelectorAll(".lit")) lit.classList.remove("lit");
  for (const tied of document.querySelectorAll(`[data-key="${key}"]`)) tied.classList.add("lit");
}

// Scrolls the pane so that a line stands a third down.
function scrollPane(line, behavior) {
  const distance = line.getBoundingClientRect().top - pane.getBoundingClientRect().top;
  pane.scrollTo({top: pane.scrollTop + distance - pane.clientHeight / 3, behavior});
}

// Shows the other side of what was pointed at. The side where the reader is stays where it is.
function showOther(from) {
  const behavior = calm ? "auto" : "smooth";
  if (from.matches(".equation")) {
    const line = pane.querySelector(".line.lit");
    if (line) scrollPane(line, behavior);
  } else {
    document.querySelector(".equation.lit")?.scrollIntoView({block: "center", behavior});
  }
}

function tied(event) {
  return event.target.closest?.("[data-key]");
}

if (pane) {
  const lines = [...pane.querySelectorAll(".line")];
  const algorithm = lines.find(line => line.textContent.startsWith("# ── 5"));
  if (algorithm) scrollPane(algorithm, "instant");

  document.addEventListener("pointerover", event => {
    if (event.pointerType !== "mouse") return;
    const element = tied(event);
    light(element ? element.dataset.key : pinned);
    if (element?.matches(".equation")) showOther(element);
  });

  document.addEventListener("focusin", event => {
    const element = tied(event);
    if (!element) return;
    pinned = element.dataset.key;
    light(pinned);
    if (element.matches(".equation")) showOther(element);
  });

  document.addEventListener("click", event => {
    if (event.target.closest("a[href]:not([href^='#'])")) return;
    const element = tied(event);
    pinned = element ? element.dataset.key : null;
    light(pinned);
    if (element) {
      showOther(element);
      event.preventDefault();
    }
  });

  document.addEventListener("keydown", event => {
    if (event.key !== "Escape") return;
    pinned = null;
    light(null);
  });
}
