// Points on a canvas: drawn, moved, found and lassoed.
//
// The pixels are written one by one: a drawing by the GPU needs a GPU (or a browser that still pretends to have one), and the
// libraries that do it (regl) make code at run time, which the page's policy forbids.

const ZOOM = [0.8, 200];

export class Scatter {
  /** A canvas that fills its place; `on` has what it calls: over(point or -1, x, y), pick(point), lasso(points), view(). */
  constructor(canvas, on) {
    Object.assign(this, {canvas, on, context: canvas.getContext("2d"), x: new Float32Array(0), y: new Float32Array(0),
                         colours: new Uint32Array(0), faint: null, lassoing: false, path: [], pending: false, ring: -1});
    this.home();
    new ResizeObserver(() => this.sized()).observe(canvas);
    for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel", "pointerleave"]) {
      canvas.addEventListener(kind, (event) => this[kind](event));
    }
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), event.offsetX, event.offsetY);
    }, {passive: false});
    this.fingers = new Map();
  }

  /** Places f32 [n] within -1..1. */
  setPoints(x, y) {
    Object.assign(this, {x, y});
    this.draw();
  }

  /** Colours u32 [n], 0xBBGGRR; `faint`, u8 [n] or null: 1 where a point steps back. */
  setColours(colours, faint = null) {
    Object.assign(this, {colours, faint});
    this.draw();
  }

  sized() {
    const ratio = Math.min(devicePixelRatio || 1, 2), {clientWidth, clientHeight} = this.canvas;
    if (!clientWidth || !clientHeight) return;
    Object.assign(this, {width: clientWidth, height: clientHeight, ratio});
    this.canvas.width = Math.round(clientWidth * ratio);
    this.canvas.height = Math.round(clientHeight * ratio);
    this.pixels = this.context.createImageData(this.canvas.width, this.canvas.height);
    this.draw(true);
  }

  home() {
    Object.assign(this, {scale: 1, centre: [0, 0]});
    this.draw();
  }

  /** CSS pixels of a place in the plane, and back. */
  get unit() { return 0.46 * Math.min(this.width, this.height) * this.scale; }
  across(x) { return this.width / 2 + (x - this.centre[0]) * this.unit; }
  down(y) { return this.height / 2 - (y - this.centre[1]) * this.unit; }

  zoom(factor, left = this.width / 2, top = this.height / 2) {
    const scale = Math.min(Math.max(this.scale * factor, ZOOM[0]), ZOOM[1]), change = scale / this.scale;
    const x = this.centre[0] + (left - this.width / 2) / this.unit, y = this.centre[1] - (top - this.height / 2) / this.unit;
    this.scale = scale;
    this.centre = [x + (this.centre[0] - x) / change, y + (this.centre[1] - y) / change];
    this.draw();
  }

  pan(right, down) {
    this.centre = [this.centre[0] - right / this.unit, this.centre[1] + down / this.unit].map((at) => Math.min(Math.max(at, -1.2), 1.2));
    this.draw();
  }

  /** Shows these points, as large as they go. */
  frame(points) {
    if (!points.length) return this.home();
    const sorted = (values) => Float32Array.from(points, (point) => values[point]).sort();
    const [xs, ys] = [sorted(this.x), sorted(this.y)], cut = Math.floor(points.length * 0.05), end = points.length - 1 - cut;
    this.centre = [(xs[cut] + xs[end]) / 2, (ys[cut] + ys[end]) / 2];
    const reach = Math.max((xs[end] - xs[cut]) / Math.max(this.width, 1), (ys[end] - ys[cut]) / Math.max(this.height, 1)) * Math.min(this.width, this.height);
    this.scale = Math.min(Math.max(1.4 / Math.max(reach, 0.02), ZOOM[0]), 12);
    this.draw();
  }

  draw(now = false) {
    if (!this.pixels) return;
    if (now) {
      this.paint();
    } else if (!this.pending) {
      this.pending = true;
      requestAnimationFrame(() => { this.pending = false; this.paint(); });
    }
  }

  /** A point's radius in CSS pixels: smaller where there are many, larger where one looks closely. */
  get radius() {
    return Math.min(Math.max(16 / (this.x.length + 1) ** 0.25, 1.1) * this.scale ** 0.28, 7);
  }

  paint() {
    const {pixels, ratio, x, y, colours, faint} = this, {width, height, data} = pixels;
    data.fill(0);
    const stamp = disc(this.radius * ratio), unit = this.unit * ratio, [cx, cy] = this.centre;
    for (const back of faint ? [1, 0] : [0]) {
      const strength = back ? 0.13 : 0.86;
      for (let i = 0; i < x.length; i += 1) {
        if (faint && faint[i] !== back) continue;
        const left = Math.round(width / 2 + (x[i] - cx) * unit), top = Math.round(height / 2 - (y[i] - cy) * unit);
        if (left < -9 || top < -9 || left > width + 9 || top > height + 9) continue;
        stamped(data, width, height, left, top, stamp, colours[i], strength);
      }
    }
    this.context.putImageData(pixels, 0, 0);
    this.over();
    this.on.view(this);
  }

  /** The lasso and the ring around a point, over the pixels. */
  over() {
    const {context, ratio} = this;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.strokeStyle = this.ink ?? "#000";
    context.lineWidth = 1.5;
    if (this.ring >= 0) {
      context.beginPath();
      context.arc(this.across(this.x[this.ring]), this.down(this.y[this.ring]), this.radius + 3.5, 0, 7);
      context.stroke();
    }
    if (this.path.length > 1) {
      context.beginPath();
      for (const [px, py] of this.path) context.lineTo(this.across(px), this.down(py));
      context.closePath();
      context.setLineDash([5, 4]);
      context.stroke();
      context.setLineDash([]);
    }
    context.setTransform(1, 0, 0, 1, 0, 0);
  }

  /** The point under a place, -1 for none. */
  at(left, top) {
    let best = -1, nearest = (this.radius + 5) ** 2;
    for (let i = 0; i < this.x.length; i += 1) {
      const dx = this.across(this.x[i]) - left;
      if (dx > 20 || dx < -20 || (this.faint && this.faint[i])) continue;
      const distance = dx * dx + (this.down(this.y[i]) - top) ** 2;
      if (distance < nearest) [best, nearest] = [i, distance];
    }
    return best;
  }

  pointerdown(event) {
    if (event.button) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    this.moved = 0;
    this.drawing = this.fingers.size === 1 && (this.lassoing || event.shiftKey);
    if (this.drawing) this.path = [this.place(event)];
  }

  place(event) {
    return [this.centre[0] + (event.offsetX - this.width / 2) / this.unit, this.centre[1] - (event.offsetY - this.height / 2) / this.unit];
  }

  pointermove(event) {
    const before = this.fingers.get(event.pointerId);
    if (!before) {
      if (event.pointerType === "mouse") this.hover(this.at(event.offsetX, event.offsetY), event.offsetX, event.offsetY);
      return;
    }
    const [dx, dy] = [event.offsetX - before[0], event.offsetY - before[1]];
    this.moved += Math.abs(dx) + Math.abs(dy);
    const spread = () => { const [a, b] = [...this.fingers.values()]; return Math.hypot(a[0] - b[0], a[1] - b[1]) || 1; };
    const wide = this.fingers.size > 1 ? spread() : 0;
    this.fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.drawing) {
      this.path.push(this.place(event));
      this.draw();
    } else if (this.fingers.size > 1) {
      const all = [...this.fingers.values()], middle = [0, 1].map((axis) => (all[0][axis] + all[1][axis]) / 2);
      this.zoom(spread() / wide, ...middle);
      this.pan(dx / 2, dy / 2);
    } else {
      this.pan(dx, dy);
    }
  }

  pointerup(event) {
    if (!this.fingers.delete(event.pointerId)) return;
    if (this.drawing) {
      this.drawing = false;
      const found = this.path.length > 4 && this.moved > 12 ? this.within(this.path) : [];
      if (!found.length) this.path = [];
      this.on.lasso(found);
      this.draw();
    } else if (this.moved < 5) {
      const point = this.at(event.offsetX, event.offsetY);
      if (point >= 0) this.on.pick(point);
    }
  }

  pointercancel(event) {
    this.fingers.delete(event.pointerId);
    this.drawing = false;
  }

  pointerleave() { this.hover(-1); }

  hover(point, left = 0, top = 0) {
    if (point !== this.ring) {
      this.ring = point;
      this.draw();
    }
    this.on.over(point, left, top);
  }

  /** Points inside a closed path in the plane: those that a ray to the right crosses it from an odd number of times. */
  within(path) {
    const xs = path.map(([px]) => px), ys = path.map(([, py]) => py);
    const [left, right, low, high] = [Math.min(...xs), Math.max(...xs), Math.min(...ys), Math.max(...ys)], found = [];
    for (let i = 0; i < this.x.length; i += 1) {
      const px = this.x[i], py = this.y[i];
      if (px < left || px > right || py < low || py > high || (this.faint && this.faint[i])) continue;
      let inside = false;
      for (let a = 0, b = path.length - 1; a < path.length; b = a, a += 1) {
        if (ys[a] > py !== ys[b] > py && px < ((xs[b] - xs[a]) * (py - ys[a])) / (ys[b] - ys[a]) + xs[a]) inside = !inside;
      }
      if (inside) found.push(i);
    }
    return found;
  }
}

/** The pixels of a disc around (0, 0): offsets and how much of each it covers, [dx, dy, 0..1]. */
function disc(radius) {
  const reach = Math.ceil(radius + 0.5), pixels = [];
  for (let dy = -reach; dy <= reach; dy += 1) {
    for (let dx = -reach; dx <= reach; dx += 1) {
      const covered = Math.min(Math.max(radius + 0.5 - Math.hypot(dx, dy), 0), 1);
      if (covered > 0) pixels.push(dx, dy, covered);
    }
  }
  return pixels;
}

/** Lays a disc of a colour over what is there (source over, not premultiplied). */
function stamped(data, width, height, left, top, stamp, colour, strength) {
  const red = colour & 255, green = (colour >> 8) & 255, blue = (colour >> 16) & 255;
  for (let at = 0; at < stamp.length; at += 3) {
    const px = left + stamp[at], py = top + stamp[at + 1];
    if (px < 0 || py < 0 || px >= width || py >= height) continue;
    const place = (py * width + px) * 4, own = stamp[at + 2] * strength, under = (data[place + 3] / 255) * (1 - own), all = own + under;
    data[place] = (red * own + data[place] * under) / all;
    data[place + 1] = (green * own + data[place + 1] * under) / all;
    data[place + 2] = (blue * own + data[place + 2] * under) / all;
    data[place + 3] = all * 255;
  }
}
