// Loads a growing page again, more rarely the older it is, and keeps what the reader looks at where it was.
const age = document.getElementById("age");
const seconds = () => Date.now() / 1000 - Number(age.dataset.written);
const marks = () => [...document.querySelectorAll("figure[id], h2[id]")];
const key = "scorescope " + location.pathname;
const kept = (() => { try { return sessionStorage; } catch { return null; } })();

const place = JSON.parse(kept?.getItem(key) || "null");
if (place) {
  history.scrollRestoration = "manual";
  const mark = place.id && document.getElementById(place.id);
  const top = mark ? scrollY + mark.getBoundingClientRect().top - place.top : place.top;
  scrollTo({ top, behavior: "instant" });
}

function keep() {
  const mark = marks().filter(one => one.getBoundingClientRect().top <= innerHeight / 3).pop();
  const found = mark ? { id: mark.id, top: mark.getBoundingClientRect().top } : { top: scrollY };
  kept?.setItem(key, JSON.stringify(found));
  history.scrollRestoration = "auto"; // the finished page has no script
}

function look() {
  const old = seconds();
  age.textContent = old < 90 ? "" : `; it was written ${Math.round(old / 60)} min ago`;
  const reading = String(getSelection()) !== "";
  if (!reading && !document.hidden) { keep(); location.reload(); }
  else setTimeout(look, 2000);
}
setTimeout(look, 1000 * Math.min(60, Math.max(2, seconds() / 10)));
