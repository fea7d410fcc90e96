"use strict";
// A query is {file} of the user or {row, match} of the gallery; the history of the browser holds its place in `queries`.
const $ = (id) => document.getElementById(id);
const queries = [];
let gallery = null;
let matches = [];
let running = null;
let token = sessionStorage.getItem("token") || "";

async function ask(path, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The service does not answer. Is it running?");
  }
  if (answer.status === 401) {
    await signIn();
    return ask(path, options);
  }
  if (!answer.ok) {
    const reason = await answer.json().then((body) => body.detail, () => `The service answers ${answer.status}`);
    throw new Error(String(reason).replace(/^./, (first) => first.toUpperCase()));
  }
  return answer;
}

let signingIn = null;
function signIn() {
  signingIn ??= new Promise((resolve) => {
    $("sign-in-error").textContent = token ? "This token is not the right one." : "";
    $("token").value = "";
    $("sign-in").addEventListener("cancel", (event) => event.preventDefault());
    $("sign-in").addEventListener("close", () => {
      token = $("token").value.trim();
      sessionStorage.setItem("token", token);
      signingIn = null;
      resolve();
    }, { once: true });
    $("sign-in").showModal();
  });
  return signingIn;
}

function complain(message) {
  $("error").textContent = message;
  $("error").hidden = !message;
}

async function showPicture(image, row) {
  const address = `/images/${row}?v=${gallery.version}`; // another gallery, another address: the browser keeps pictures
  image.onerror = () => { image.hidden = true; image.parentElement.classList.add("empty"); };
  if (!token) {
    image.src = address;
    return;
  }
  try { // an <img> cannot bring a token
    const url = URL.createObjectURL(await (await ask(address)).blob());
    image.onload = () => URL.revokeObjectURL(url);
    image.src = url;
  } catch { image.onerror(); }
}

// --- the query

function searchFor(query) {
  queries.push(query);
  scrollTo({ top: 0 });
  history.pushState(queries.length - 1, "");
  return run(query);
}

function searchForFile(file) {
  if (!file) return;
  if (gallery && file.size > gallery.upload_bytes) {
    complain(`${file.name} is too large: at most ${Number((gallery.upload_bytes / 2 ** 20).toFixed(1))} MB`);
    return;
  }
  searchFor({ file });
}

function showQuery(query) {
  const picture = $("query-picture");
  picture.hidden = false;
  picture.onerror = () => { picture.hidden = true; };
  if (query.file) {
    const url = URL.createObjectURL(query.file);
    picture.onload = () => URL.revokeObjectURL(url);
    picture.src = url;
  } else {
    picture.onload = null;
    showPicture(picture, query.row);
  }
  $("query-text").textContent = query.file ? query.file.name || "A pasted photo" : labelsOf(query.match).join(", ");
  $("choose-text").textContent = "Choose another";
  $("others").hidden = !query.match || query.match.camera_id === null;
}

async function run(query) {
  running?.abort();
  running = new AbortController();
  const { signal } = running;
  const focusInGrid = document.activeElement?.closest(".grid") !== null && document.activeElement !== document.body;
  complain("");
  showQuery(query);
  $("welcome").hidden = true;
  $("status").textContent = "Searching…";
  for (const list of [$("near"), $("far")]) list.setAttribute("aria-busy", "true");
  const fields = new URLSearchParams({ k: $("number").value });
  for (const box of $("camera-list").querySelectorAll(":checked")) fields.append("camera", box.value);
  if (query.match && query.match.camera_id !== null && $("other-cameras").checked) fields.append("exclude_camera", query.match.camera_id);
  let body = null;
  if (query.file) {
    body = new FormData();
    body.append("image", query.file);
  } else {
    fields.append("row", query.row);
  }
  try {
    matches = (await (await ask(`/search?${fields}`, { method: "POST", body, signal })).json()).matches;
  } catch (error) {
    if (error.name === "AbortError") return;
    matches = [];
    complain(error.message);
  }
  fitSlider();
  showMatches();
  if (focusInGrid) document.querySelector(".grid button")?.focus();
}

function again() {
  const cameras = [...$("camera-list").querySelectorAll(":checked")].map((box) => box.value);
  $("cameras-text").textContent = cameras.join(", ") || "all";
  if (queries.length && history.state !== null) run(queries[history.state]);
}

// --- the matches

function labelsOf(match) {
  const name = match.path.split(/[\\/]/).pop();
  const labels = [match.person_id === null ? name : match.person_id ? `Person ${match.person_id}` : "Person unknown"];
  if (match.camera_id !== null) labels.push(`camera ${match.camera_id}`);
  return labels;
}

function cardOf(match, rank = 0) {
  const card = $("card").content.cloneNode(true);
  const [who, where] = labelsOf(match);
  const button = card.querySelector("button");
  const [before, after] = rank ? [`Match ${rank}: `, `, distance ${match.distance.toFixed(3)}`] : ["", ""];
  card.querySelector(".distance").textContent = match.distance.toFixed(3);
  card.querySelector(".distance").hidden = !rank; // an example
  card.querySelector(".who").textContent = who;
  card.querySelector(".where").textContent = where ? where[0].toUpperCase() + where.slice(1) : "";
  button.title = match.path;
  button.setAttribute("aria-label", `${before}${labelsOf(match).join(", ")}${after}. Find this one`);
  button.addEventListener("click", () => searchFor({ row: match.row, match }));
  showPicture(card.querySelector("img"), match.row);
  return card;
}

function showMatches() {
  const limit = limitOfUser();
  const threshold = gallery?.max_distance ?? null;
  const visible = matches.filter((match) => match.distance <= limit);
  const far = threshold === null ? [] : visible.filter((match) => match.distance > threshold);
  const near = visible.slice(0, visible.length - far.length);
  $("near").replaceChildren(...near.map((match, place) => cardOf(match, place + 1)));
  $("far").replaceChildren(...far.map((match, place) => cardOf(match, near.length + place + 1)));
  for (const list of [$("near"), $("far")]) list.removeAttribute("aria-busy");
  $("near-title").hidden = threshold === null || !near.length;
  $("far-title").hidden = !far.length;
  const hidden = matches.length - visible.length;
  const count = `${visible.length} ${visible.length === 1 ? "match" : "matches"}`;
  const within = threshold === null ? "" : `, ${near.length} within the threshold`;
  $("status").textContent = $("error").hidden ? `${count}${within}${hidden ? `; ${hidden} farther away` : ""}` : "";
}

// --- the filters

function limitOfUser() { // at its end the slider stands for any distance
  const { value, max } = $("distance");
  return Number(value) < Number(max) ? Number(value) : Infinity;
}

function fitSlider() {
  const slider = $("distance");
  const any = limitOfUser() === Infinity;
  const threshold = gallery?.max_distance ?? 0;
  const most = Math.max(0.1, threshold * 1.25, ...matches.map((match) => match.distance));
  slider.max = (Math.ceil(most * 20 + 0.01) / 20).toFixed(2);
  if (any) slider.value = slider.max;
  $("threshold").style.setProperty("--at", threshold / Number(slider.max));
  showLimit();
}

function showLimit() {
  const limit = limitOfUser();
  const text = limit === Infinity ? "any" : `up to ${Number(limit.toFixed(3))}`;
  $("distance-text").textContent = text;
  $("distance").setAttribute("aria-valuetext", text);
}

async function begin() {
  gallery = await (await ask("/gallery")).json();
  const images = `${gallery.images.toLocaleString("en")} images`;
  const cameras = gallery.cameras.length;
  $("about").textContent = cameras ? `${images} · ${cameras} ${cameras === 1 ? "camera" : "cameras"}` : images;
  for (const camera of gallery.cameras) {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", value: camera });
    box.setAttribute("aria-label", `Camera ${camera}`);
    label.append(box, Object.assign(document.createElement("span"), { textContent: camera }));
    $("camera-list").append(label);
  }
  $("cameras").hidden = cameras < 2;
  if (gallery.max_distance !== null) {
    $("threshold").textContent = `threshold ${Number(gallery.max_distance.toFixed(3))}`;
    $("threshold").setAttribute("aria-label", `Show matches up to the threshold ${gallery.max_distance}`);
    $("threshold").hidden = false;
  }
  fitSlider();
  $("examples").replaceChildren(...(await (await ask("/gallery/examples?k=12")).json()).matches.map((match) => cardOf(match)));
  $("examples-title").hidden = !$("examples").children.length;
}

// --- events

$("choose").addEventListener("click", () => $("file").click());
$("file").addEventListener("change", () => { searchForFile($("file").files[0]); $("file").value = ""; });
$("cameras").addEventListener("change", again);
$("number").addEventListener("change", again);
$("distance").addEventListener("input", () => { showLimit(); showMatches(); });
$("threshold").addEventListener("click", () => {
  $("distance").value = gallery.max_distance;
  showLimit();
  showMatches();
});
document.addEventListener("paste", (event) => {
  if (event.clipboardData?.files.length) searchForFile(event.clipboardData.files[0]);
});
let dragDepth = 0; // dragenter and dragleave come for each element on the way
document.addEventListener("dragenter", () => { dragDepth += 1; $("curtain").hidden = false; });
document.addEventListener("dragleave", () => { dragDepth -= 1; $("curtain").hidden = dragDepth <= 0; });
document.addEventListener("dragover", (event) => event.preventDefault());
document.addEventListener("drop", (event) => {
  event.preventDefault();
  dragDepth = 0;
  $("curtain").hidden = true;
  searchForFile(event.dataTransfer?.files[0]);
});
$("results").addEventListener("keydown", (event) => {
  const cards = [...document.querySelectorAll(".grid button")];
  const place = cards.indexOf(document.activeElement);
  if (place < 0) return;
  const top = cards[place].offsetTop;
  const inRow = Math.max(1, cards.filter((card) => card.offsetTop === top && card.closest(".grid") === cards[place].closest(".grid")).length);
  const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: inRow, ArrowUp: -inRow }[event.key];
  if (!step) return;
  event.preventDefault();
  cards[Math.min(cards.length - 1, Math.max(0, place + step))].focus();
});
window.addEventListener("popstate", (event) => {
  if (event.state === null) location.reload(); // back at the beginning
  else if (queries[event.state]) run(queries[event.state]);
});
history.replaceState(null, "");
if (matchMedia("(max-width: 45rem)").matches) $("filters").open = false;
begin().catch((error) => complain(error.message));
