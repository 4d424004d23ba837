// What is drawn on a camera's canvas: the picture if there is one, a heat map if one is chosen, the people.

// As in the overlay of `stm-skeletons run`: told apart without red or green cones too; black reads well on each.
const PALETTE = ["#99ff77", "#9955ff", "#00eeff", "#ee2277", "#ddaa22", "#11ffbb",
  "#dd33bb", "#eeee00", "#77aaff", "#ff8877", "#88aa33", "#ee88bb"];
const UNCONFIRMED = "#d7d7d7";
const OUTLINE = "#141414";
const GROUND = "#10161d";
const FLOOR = "#1a232d";
const LONG_SIDE = 96; // Cells of a heat map.
const HEAT = [[0, 0, 0, 0], [66, 10, 104, 140], [147, 38, 103, 190], [221, 81, 58, 215], [252, 165, 10, 230], [252, 255, 164, 245]];

export function colourOf(id) {
  return id ? PALETTE[(id - 1) % PALETTE.length] : UNCONFIRMED;
}

// Where a picture of that size lies on a canvas.
function placed(canvas, [width, height]) {
  const scale = Math.min(canvas.width / width, canvas.height / height);
  return {scale, left: (canvas.width - width * scale) / 2, top: (canvas.height - height * scale) / 2};
}

// `scene`: {size, people, edges, picture or null, heat or null, joint or null}.
export function draw(canvas, scene) {
  const pen = canvas.getContext("2d");
  const ratio = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * ratio);
  const height = Math.round(canvas.clientHeight * ratio);
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  pen.setTransform(1, 0, 0, 1, 0, 0);
  pen.fillStyle = GROUND;
  pen.fillRect(0, 0, width, height);
  if (!scene.size || !width || !height) return;
  const {scale, left, top} = placed(canvas, scene.size);
  const [wide, high] = scene.size.map((side) => side * scale);
  if (scene.picture) {
    pen.drawImage(scene.picture, left, top, wide, high);
  } else {
    pen.fillStyle = FLOOR;
    pen.fillRect(left, top, wide, high);
  }
  if (scene.heat && scene.joint !== null) pen.drawImage(scene.heat.picture(scene.joint), left, top, wide, high);
  pen.save();
  pen.beginPath();
  pen.rect(left, top, wide, high);
  pen.clip();
  const at = ([x, y]) => [left + x * scale, top + y * scale];
  for (const person of [...scene.people].reverse()) drawPerson(pen, person, scene.edges, at, ratio);
  for (const person of [...scene.people].reverse()) if (person.id) drawNumber(pen, person, at, ratio, left + wide);
  pen.restore();
}

function drawPerson(pen, person, edges, at, ratio) {
  const joints = person.keypoints;
  const known = joints.map((joint) => joint[2] > 0);
  const found = known.map((is, joint) => is && !person.predicted.includes(joint));
  const points = joints.map(at);
  const line = Math.max(1.5, Math.min(3.5, extent(points, known) / 45 / ratio)) * ratio;
  const colour = colourOf(person.id);
  pen.lineCap = "round";
  const stroke = (which, width, style) => {
    pen.beginPath();
    for (const [a, b] of edges) {
      if (!which(a, b)) continue;
      pen.moveTo(...points[a]);
      pen.lineTo(...points[b]);
    }
    pen.lineWidth = width;
    pen.strokeStyle = style;
    pen.stroke();
  };
  const seen = (a, b) => found[a] && found[b];
  stroke((a, b) => known[a] && known[b] && !seen(a, b), Math.max(1, line / 3), colour);
  stroke(seen, line + 2 * ratio, OUTLINE);
  stroke(seen, line, colour);
  points.forEach(([x, y], joint) => {
    if (!found[joint]) return;
    pen.beginPath();
    pen.arc(x, y, line * 0.95, 0, 2 * Math.PI);
    pen.fillStyle = colour;
    pen.fill();
    if (line < 2 * ratio) return; // An outline would hide the joint.
    pen.lineWidth = ratio;
    pen.strokeStyle = OUTLINE;
    pen.stroke();
  });
}

function extent(points, known) {
  const xs = points.filter((_, joint) => known[joint]).map(([x]) => x);
  const ys = points.filter((_, joint) => known[joint]).map(([, y]) => y);
  return xs.length ? Math.max(Math.max(...xs) - Math.min(...xs), Math.max(...ys) - Math.min(...ys)) : 0;
}

// On a plate above the head.
function drawNumber(pen, person, at, ratio, right) {
  const points = person.keypoints.filter((joint) => joint[2] > 0).map(at);
  if (!points.length) return;
  const text = String(person.id);
  const size = 11 * ratio;
  pen.font = `600 ${size}px system-ui, sans-serif`;
  const width = pen.measureText(text).width + 8 * ratio;
  const height = size + 5 * ratio;
  const middle = (Math.min(...points.map(([x]) => x)) + Math.max(...points.map(([x]) => x))) / 2;
  const x = Math.max(0, Math.min(middle - width / 2, right - width));
  const y = Math.max(0, Math.min(...points.map(([, top]) => top)) - height - 7 * ratio);
  pen.fillStyle = colourOf(person.id);
  pen.strokeStyle = OUTLINE;
  pen.lineWidth = ratio;
  pen.beginPath();
  pen.roundRect(x, y, width, height, 3 * ratio);
  pen.fill();
  pen.stroke();
  pen.fillStyle = "#000";
  pen.textBaseline = "middle";
  pen.textAlign = "center";
  pen.fillText(text, x + width / 2, y + height / 2 + 0.5 * ratio);
}

// Where joints were since the page was opened, all of them, so that another can be chosen at any time.
export class Heat {
  constructor([width, height], joints) {
    const scale = LONG_SIDE / Math.max(width, height);
    this.width = Math.max(1, Math.round(width * scale));
    this.height = Math.max(1, Math.round(height * scale));
    this.scale = scale;
    this.counts = Array.from({length: joints}, () => new Float32Array(this.width * this.height));
    this.canvas = new OffscreenCanvas(this.width, this.height);
    this.painted = null;
  }

  add(people) {
    for (const {keypoints, predicted} of people) {
      keypoints.forEach(([x, y, score], joint) => {
        if (score > 0 && !predicted.includes(joint) && joint < this.counts.length) this.splat(joint, x * this.scale, y * this.scale);
      });
    }
    this.painted = null;
  }

  splat(joint, x, y) {
    const counts = this.counts[joint];
    for (let j = Math.floor(y) - 2; j <= y + 2; j++) {
      for (let i = Math.floor(x) - 2; i <= x + 2; i++) {
        if (i < 0 || j < 0 || i >= this.width || j >= this.height) continue;
        counts[j * this.width + i] += Math.exp(-((i + 0.5 - x) ** 2 + (j + 0.5 - y) ** 2) / 1.6);
      }
    }
  }

  // Logarithmic: a path that was taken once is to be seen beside a place where somebody waits.
  picture(joint) {
    if (this.painted === joint) return this.canvas;
    const counts = this.counts[joint];
    const most = Math.log1p(counts.reduce((a, b) => Math.max(a, b), 1));
    const pen = this.canvas.getContext("2d");
    const image = pen.createImageData(this.width, this.height);
    counts.forEach((count, cell) => image.data.set(heatColour(Math.log1p(count) / most), 4 * cell));
    pen.putImageData(image, 0, 0);
    this.painted = joint;
    return this.canvas;
  }
}

function heatColour(share) {
  const place = Math.min(share, 1) * (HEAT.length - 1);
  const low = Math.min(Math.floor(place), HEAT.length - 2);
  return HEAT[low].map((from, channel) => from + (HEAT[low + 1][channel] - from) * (place - low));
}
