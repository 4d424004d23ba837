// The page: one WebSocket, a card for each camera, events, and a watch on the service itself.
import {colourOf, draw, Heat} from "/draw.js";

const SILENT = 2.2; // Seconds without a word of the service, after which nothing on the page is true any more.
const GIVE_UP = 8; // Seconds of silence after which a connection is made anew.
const WAITS = [0.3, 0.6, 1, 2, 3]; // Seconds between attempts to connect; the last is kept to.
const MOST_EVENTS = 200;
const MOST_IDS = 12;

// Marks differ in shape, not in colour only.
const STATES = {
  live: {level: "fine", mark: "●", text: "live"},
  starting: {level: "waiting", mark: "…", text: "starting"},
  black: {level: "trouble", mark: "■", text: "black image"},
  frozen: {level: "trouble", mark: "❚❚", text: "frozen"},
  away: {level: "trouble", mark: "✕", text: "away"},
  parked: {level: "trouble", mark: "P", text: "parked"},
  ended: {level: "over", mark: "–", text: "ended"},
  stopped: {level: "over", mark: "–", text: "stopped"},
  silent: {level: "trouble", mark: "✕", text: "no answer"},
};

const byId = (id) => document.getElementById(id);
const cameras = new Map(); // Name to Camera, in the order of the configuration.
const hub = {socket: null, attempt: 0, heard: -Infinity, tried: 0, clock: 0, status: null, skeleton: null, images: false, full: false};
const now = () => performance.now() / 1000;

class Camera {
  constructor(name) {
    this.name = name;
    this.scene = {size: null, people: [], edges: [], picture: null, heat: null, joint: null};
    this.waiting = null; // A frame whose picture is on its way.
    this.status = null;
    this.dirty = true;
    this.card = byId("camera").content.firstElementChild.cloneNode(true);
    this.card.dataset.camera = name;
    this.card.querySelector("h2").textContent = name;
    this.canvas = this.card.querySelector("canvas");
    new ResizeObserver(() => this.changed()).observe(this.canvas);
  }

  part(selector) {
    return this.card.querySelector(selector);
  }

  changed() {
    this.dirty = true;
    schedule();
  }

  frame(message) {
    if (message.pictured) {
      this.waiting = message;
      return;
    }
    this.scene.picture?.close();
    this.scene.picture = null;
    this.show(message);
  }

  async picture(number, jpeg) {
    const message = this.waiting;
    if (!message || message.frame % 2 ** 32 !== number) return;
    const picture = await createImageBitmap(jpeg);
    if (this.waiting !== message) { // A newer one has come meanwhile.
      picture.close();
      return;
    }
    this.waiting = null;
    this.scene.picture?.close();
    this.scene.picture = picture;
    this.show(message);
  }

  show({size, people, age}) {
    const scene = this.scene;
    const joints = hub.skeleton?.joints.length ?? 0;
    const [width, height] = size;
    if (joints && (!scene.heat || scene.size?.[0] !== width || scene.size?.[1] !== height)) scene.heat = new Heat(size, joints);
    scene.size = size;
    scene.people = people;
    scene.edges = hub.skeleton?.edges ?? [];
    scene.heat?.add(people);
    this.age = age;
    this.changed();
  }

  draw() {
    this.dirty = false;
    draw(this.canvas, this.scene);
  }

  state() {
    return isSilent() ? "silent" : this.status?.state ?? "starting";
  }

  describe() {
    const {status, card} = this;
    const state = this.state();
    const {level, mark, text} = STATES[state] ?? STATES.away;
    const since = sinceOf(this, state);
    card.dataset.level = level;
    card.dataset.state = state;
    write(this.part(".state .mark"), mark);
    write(this.part(".state-text"), level === "trouble" ? `${text} ${since}` : text);
    this.describeTrouble(level, mark, text, since, state);
    if (!status) return;
    const live = level === "fine" || state === "black" || state === "frozen";
    if (!live && this.scene.people.length) {
      this.scene.people = [];
      this.changed();
    }
    this.describePeople(live);
    const figures = {
      rate: live ? `${status.frames_per_second.toFixed(1)} / s` : "–",
      age: live && status.last_age !== null ? seconds(status.last_age) : "–",
      ages: live && status.age_p50 !== null ? both(status.age_p50, status.age_p99) : "–",
      skipped: count(status.skipped),
    };
    for (const [name, value] of Object.entries(figures)) write(this.part(`[data-of=${name}]`), value);
    const problems = Object.entries(status.outputs).filter(([, output]) => output.problem).map(([name, output]) => `${name}: ${output.problem}`);
    write(this.part(".problem"), problems.join(" · "));
    this.part(".problem").hidden = !problems.length;
    const seen = live ? `${people(this.scene.people.length)}` : text;
    if (this.canvas.ariaLabel !== `${this.name}: ${seen}`) this.canvas.ariaLabel = `${this.name}: ${seen}`;
  }

  describeTrouble(level, mark, text, since, state) {
    const box = this.part(".trouble");
    box.hidden = level === "fine";
    write(this.part(".trouble-mark"), mark);
    write(this.part(".trouble-title"), level === "trouble" ? `${text} for ${since}` : text);
    write(this.part(".trouble-why"), state === "silent" ? "the service does not answer" : this.status?.why ?? "");
  }

  describePeople(live) {
    const here = live ? this.scene.people : [];
    write(this.part(".count b"), live ? String(here.length) : "–");
    write(this.part(".count span"), here.length === 1 ? "person" : "people");
    const ids = here.map((person) => person.id).filter(Boolean).sort((a, b) => a - b);
    const shown = ids.slice(0, MOST_IDS);
    const list = this.part(".ids");
    const key = `${shown.join()} ${ids.length}`;
    if (list.dataset.key === key) return;
    list.dataset.key = key;
    list.replaceChildren(...shown.map((id) => {
      const item = document.createElement("li");
      item.textContent = id;
      item.style.setProperty("--colour", colourOf(id));
      return item;
    }));
    if (ids.length > shown.length) list.append(Object.assign(document.createElement("li"), {textContent: `+${ids.length - shown.length}`, className: "more"}));
  }
}

// Words

function write(element, text) { // Only what differs: screen readers and the layout are left in peace.
  if (element.textContent !== text) element.textContent = text;
}

function seconds(value) {
  return value < 1 ? `${Math.round(value * 1000)} ms` : `${value.toFixed(1)} s`;
}

function both(low, high) {
  return high < 1 ? `${Math.round(low * 1000)} / ${seconds(high)}` : `${seconds(low)} / ${seconds(high)}`;
}

function span(value) {
  const whole = Math.max(0, Math.round(value));
  if (whole < 120) return `${whole} s`;
  if (whole < 7200) return `${Math.floor(whole / 60)} min`;
  if (whole < 172800) return `${Math.floor(whole / 3600)} h`;
  return `${Math.floor(whole / 86400)} d`;
}

function count(value) {
  return value < 10000 ? String(value) : `${(value / 1000).toFixed(value < 1e5 ? 1 : 0)}k`;
}

function people(number) {
  return number === 1 ? "1 person" : `${number} people`;
}

function isSilent() {
  return hub.status !== null && now() - hub.heard > SILENT;
}

function sinceOf(camera, state) {
  if (state === "silent") return span(now() - hub.heard);
  return camera.status ? span(hub.clock + now() - camera.status.since) : "";
}

// The strip on top, and what is said aloud when it changes.

let announced = null;

function describeService() {
  const all = [...cameras.values()];
  const live = all.filter((camera) => camera.state() === "live");
  const troubled = all.filter((camera) => STATES[camera.state()]?.level === "trouble");
  const silent = isSilent();
  const level = !hub.status ? "unknown" : silent || troubled.length || hub.status.stuck ? "trouble" : live.length === all.length ? "fine" : "waiting";
  let text = hub.full ? "Too many open pages (web.clients in the configuration); retrying" : "Connecting";
  if (silent) text = `No answer from the service for ${span(now() - hub.heard)}; reconnecting`;
  else if (hub.status) {
    const named = troubled.slice(0, 3).map((camera) => `${camera.name}: ${STATES[camera.state()].text} ${sinceOf(camera, camera.state())}`);
    if (troubled.length > 3) named.push(`and ${troubled.length - 3} more`);
    text = [`${live.length} of ${all.length} ${all.length === 1 ? "camera" : "cameras"} live`, ...(hub.status.stuck ? ["the service is stuck: no frame is finished"] : []), ...named].join(" · ");
  }
  byId("summary").dataset.level = level;
  write(byId("summary").querySelector(".mark"), {fine: "●", trouble: "✕"}[level] ?? "…");
  write(byId("summary-text"), text);
  document.title = `${level === "trouble" ? "✕ " : ""}${silent ? "No answer" : hub.status ? `${live.length}/${all.length} live` : "Cameras"} · STM-skeletons`;
  announce(silent, troubled);
}

function announce(silent, troubled) {
  if (!hub.status) return;
  const key = silent ? "the service does not answer" : troubled.map((camera) => `${camera.name} ${STATES[camera.state()].text}`).join(", ");
  if (announced === key) return;
  if (announced !== null || key) write(byId("announce"), key || "all camera faults are over");
  announced = key;
}

function describeFooter() {
  const {status} = hub;
  if (!status) return;
  const model = status.model ? `${status.model.bundle}, ${status.model.precision}, ${status.model.backend} on ${status.model.provider}` : "loading the model";
  const parts = [`Memory ${(status.memory_bytes / 2 ** 20).toFixed(0)} MiB`, `up ${span(status.uptime)}`, model, `version ${status.version}`];
  if (status.rebuilds) parts.splice(3, 0, `model reloads: ${status.rebuilds}`);
  write(byId("service"), parts.join(" · "));
}

// Drawing: once for each picture of the screen at most, and not at all where nobody looks.

let scheduled = false;

function schedule() {
  if (scheduled || document.hidden) return;
  scheduled = true;
  requestAnimationFrame(() => {
    scheduled = false;
    for (const camera of cameras.values()) if (camera.dirty) camera.draw();
  });
}

function tick() { // Also while nothing comes: that is when it matters.
  for (const camera of cameras.values()) camera.describe();
  describeService();
  describeFooter();
}

// Messages

function onStatus({status, now: clock}) {
  hub.heard = now();
  hub.clock = clock - now();
  hub.status = status;
  const names = status.cameras.map((camera) => camera.name);
  if (names.join() !== [...cameras.keys()].join()) arrange(names);
  for (const each of status.cameras) cameras.get(each.name).status = each;
  tick();
}

function arrange(names) {
  const before = new Map(cameras);
  cameras.clear();
  for (const name of names) cameras.set(name, before.get(name) ?? new Camera(name));
  const grid = byId("cameras");
  grid.replaceChildren(...[...cameras.values()].map((camera) => camera.card));
  grid.dataset.columns = names.length > 9 ? "many" : Math.ceil(Math.sqrt(names.length));
  chooseJoint();
}

function onHello({skeleton, images, login}) {
  byId("logout").hidden = !login;
  hub.images = images;
  hub.skeleton = skeleton;
  byId("picture-choice").hidden = !images;
  if (!skeleton) return;
  const choice = byId("joint");
  if (choice.options.length - 1 !== skeleton.joints.length) {
    choice.replaceChildren(choice.options[0], ...skeleton.joints.map((joint, i) => new Option(joint.replace("_", " "), i)));
  }
  wish();
}

function onEvents(list) {
  const items = list.map((event) => {
    const item = document.createElement("li");
    const time = document.createElement("time");
    const at = new Date(event.time * 1000);
    time.dateTime = at.toISOString();
    time.textContent = at.toLocaleTimeString([], {hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23"});
    const what = document.createElement("span");
    what.append(Object.assign(document.createElement("b"), {textContent: event.camera}), ` ${event.rule}: ${event.what}`);
    if (event.id !== null) what.append(` (id ${event.id})`);
    if (event.count !== null) what.append(` · ${event.count} ${event.kind === "region" ? "inside" : "so far"}`);
    item.append(time, what);
    if (event.clip) item.append(Object.assign(document.createElement("span"), {textContent: event.clip, className: "clip"}));
    return item;
  });
  const log = byId("events");
  log.prepend(...items.reverse());
  while (log.children.length > MOST_EVENTS) log.lastElementChild.remove();
  byId("no-events").hidden = log.children.length > 0;
}

function onPicture(buffer) {
  const view = new DataView(buffer);
  const length = view.getUint8(0);
  const name = new TextDecoder().decode(new Uint8Array(buffer, 1, length));
  cameras.get(name)?.picture(view.getUint32(1 + length), new Blob([new Uint8Array(buffer, 5 + length)], {type: "image/jpeg"}));
}

function onMessage({data}) {
  if (typeof data !== "string") return onPicture(data);
  const message = JSON.parse(data);
  if (message.type === "status") onStatus(message);
  else if (message.type === "frame") cameras.get(message.camera)?.frame(message);
  else if (message.type === "events") onEvents(message.events);
  else if (message.type === "hello") onHello(message);
}

// The connection

function wish() { // A page that nobody looks at is sent no frames.
  if (hub.socket?.readyState !== WebSocket.OPEN) return;
  hub.socket.send(JSON.stringify({cameras: document.hidden ? [] : null, images: hub.images && byId("pictures").checked}));
}

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/ws`);
  hub.socket = socket;
  hub.tried = now();
  socket.binaryType = "arraybuffer";
  let opened = false;
  socket.onopen = () => {
    opened = true;
    byId("events").replaceChildren(); // All that are kept are sent again.
    wish();
  };
  socket.onmessage = (message) => {
    hub.attempt = 0;
    onMessage(message);
  };
  socket.onclose = ({code}) => {
    if (hub.socket !== socket) return;
    hub.socket = null;
    hub.full = code === 1013;
    const wait = hub.full ? WAITS.at(-1) : WAITS[Math.min(hub.attempt++, WAITS.length - 1)];
    if (!opened) askForToken();
    setTimeout(connect, wait * 1000);
  };
}

async function askForToken() { // A refused WebSocket does not say why.
  try {
    if ((await fetch("/healthz")).status === 401) location.assign("/login");
  } catch { /* The service is not there. */ }
}

function watch() { // A connection that died without being closed is given up.
  const last = Math.max(hub.heard, hub.tried);
  if (hub.socket && now() - last > GIVE_UP) {
    const dead = hub.socket;
    hub.socket = null;
    dead.close();
    connect();
  }
  tick();
}

// What the user chooses

function chooseJoint() {
  const value = byId("joint").value;
  byId("clear").hidden = value === "";
  for (const camera of cameras.values()) {
    camera.scene.joint = value === "" ? null : Number(value);
    camera.changed();
  }
}

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  write(byId("theme"), `◐ ${theme}`);
  byId("theme").ariaLabel = `Theme: ${theme}`;
  try {
    localStorage.setItem("theme", theme);
  } catch { /* This browser keeps nothing; the theme holds until the page is left. */ }
}

function savedTheme() {
  try {
    const theme = localStorage.getItem("theme");
    return THEMES.includes(theme) ? theme : "auto";
  } catch {
    return "auto";
  }
}

byId("joint").addEventListener("change", chooseJoint);
byId("clear").addEventListener("click", () => {
  for (const camera of cameras.values()) {
    if (camera.scene.size && hub.skeleton) camera.scene.heat = new Heat(camera.scene.size, hub.skeleton.joints.length);
    camera.changed();
  }
});
byId("pictures").addEventListener("change", wish);
byId("theme").addEventListener("click", () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % THEMES.length]));
document.addEventListener("visibilitychange", () => {
  wish();
  schedule();
});
setTheme(savedTheme());
setInterval(watch, 250);
connect();
