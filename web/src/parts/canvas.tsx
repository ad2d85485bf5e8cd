/** A picture to paint on: masks in layers, and colour. Works by mouse, pen (pressure), two fingers, and keyboard. */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { t, type Key } from "../i18n";
import { say } from "../toasts";

export const TOOLS = ["brush", "eraser", "lasso", "colour"] as const;
export type Tool = (typeof TOOLS)[number];
export interface Layer { name: string; canvas: HTMLCanvasElement; on: boolean }
interface Step { canvas: HTMLCanvasElement; before: ImageData }

export const tool = signal<Tool>("brush");
export const size = signal(28);
export const colour = signal("#e0483e");
export const base = signal<HTMLCanvasElement | null>(null);
export const layers = signal<Layer[]>([]);
export const active = signal(0);
const undone = signal<Step[]>([]), done = signal<Step[]>([]);
const view = signal({ zoom: 1, x: 0, y: 0 });
const MASK = "#b14fff", UNDO = 40;

function blank(width: number, height: number, fill?: string): HTMLCanvasElement {
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  if (fill) { const paint = canvas.getContext("2d")!; paint.fillStyle = fill; paint.fillRect(0, 0, width, height); }
  return canvas;
}

/** Begins anew with a picture, or with an empty sheet. */
export async function start(from: Blob | { width: number; height: number }): Promise<void> {
  if (from instanceof Blob) {
    const image = await createImageBitmap(from), canvas = blank(image.width, image.height, "#fff");
    canvas.getContext("2d")!.drawImage(image, 0, 0);
    base.value = canvas;
  } else base.value = blank(from.width, from.height, "#fff");
  done.value = undone.value = [];
  layers.value = [];
  view.value = { zoom: 1, x: 0, y: 0 };
  addLayer();
}

export function addLayer(): void {
  const sheet = base.value!;
  layers.value = [...layers.value, { name: String(layers.value.length + 1), canvas: blank(sheet.width, sheet.height), on: true }];
  active.value = layers.value.length - 1;
}

export const toggleLayer = (k: number): void => { layers.value = layers.value.map((one, j) => j === k ? { ...one, on: !one.on } : one); };
export const canUndo = (): boolean => done.value.length > 0;
export const canRedo = (): boolean => undone.value.length > 0;

function remember(canvas: HTMLCanvasElement): void {
  const before = canvas.getContext("2d")!.getImageData(0, 0, canvas.width, canvas.height);
  done.value = [...done.value.slice(1 - UNDO), { canvas, before }];
  undone.value = [];
}

function swap(from: typeof done, to: typeof done): void {
  const last = from.value.at(-1);
  if (!last) return;
  const paint = last.canvas.getContext("2d")!, now = paint.getImageData(0, 0, last.canvas.width, last.canvas.height);
  paint.putImageData(last.before, 0, 0);
  from.value = from.value.slice(0, -1);
  to.value = [...to.value, { canvas: last.canvas, before: now }];
}
export const undo = (): void => swap(done, undone);
export const redo = (): void => swap(undone, done);

/** Fills the mask, empties it, or makes it its opposite. */
export function whole(how: "fill" | "clear" | "invert"): void {
  const { canvas } = layers.value[active.value]!, paint = canvas.getContext("2d")!;
  remember(canvas);
  if (how === "invert") {
    paint.globalCompositeOperation = "xor";
    paint.fillStyle = MASK;
    paint.fillRect(0, 0, canvas.width, canvas.height);
    paint.globalCompositeOperation = "source-over";
  } else {
    paint.clearRect(0, 0, canvas.width, canvas.height);
    paint.fillStyle = MASK;
    if (how === "fill") paint.fillRect(0, 0, canvas.width, canvas.height);
  }
}

const blobOf = (canvas: HTMLCanvasElement): Promise<Blob> => new Promise((resolve) => canvas.toBlob((blob) => resolve(blob!), "image/png"));
export const pictureBlob = (): Promise<Blob> => blobOf(base.value!);

/** White where something is painted on a layer that counts; null where nothing is. */
export async function maskBlob(): Promise<Blob | null> {
  const { width, height } = base.value!, mask = blank(width, height), paint = mask.getContext("2d")!;
  for (const one of layers.value) if (one.on) paint.drawImage(one.canvas, 0, 0);
  const pixels = paint.getImageData(0, 0, width, height), { data } = pixels;
  let any = false;
  for (let k = 0; k < data.length; k += 4) {
    const alpha = data[k + 3]!;
    any ||= alpha > 0;
    data[k] = data[k + 1] = data[k + 2] = alpha;
    data[k + 3] = 255;
  }
  paint.putImageData(pixels, 0, 0);
  return any ? blobOf(mask) : null;
}

type Point = { x: number; y: number };

/** Paints from one point to another, `share` of the size wide. */
function stroke(from: Point, to: Point, share = 1): void {
  const paint = target().getContext("2d")!;
  paint.globalCompositeOperation = tool.value === "eraser" ? "destination-out" : "source-over";
  paint.strokeStyle = tool.value === "colour" ? colour.value : MASK;
  paint.lineWidth = Math.max(1, size.value * share);
  paint.lineCap = paint.lineJoin = "round";
  paint.beginPath();
  paint.moveTo(from.x, from.y);
  paint.lineTo(to.x + 0.01, to.y);
  paint.stroke();
  paint.globalCompositeOperation = "source-over";
}

function fill(points: Point[]): void {
  const paint = target().getContext("2d")!;
  paint.fillStyle = MASK;
  paint.beginPath();
  for (const one of points) paint.lineTo(one.x, one.y);
  paint.fill();
}

const target = (): HTMLCanvasElement => tool.value === "colour" ? base.value! : layers.value[active.value]!.canvas;

export function Canvas() {
  const box = useRef<HTMLDivElement>(null), sheet = useRef<HTMLDivElement>(null), cross = useRef<HTMLDivElement>(null);
  const state = useRef({ fingers: new Map<number, Point>(), last: null as Point | null, lasso: [] as Point[], pen: false,
    at: { x: base.value!.width / 2, y: base.value!.height / 2 }, pinch: 0 });
  useEffect(() => {
    sheet.current!.replaceChildren(base.value!, ...layers.value.filter((one) => one.on).map((one) => one.canvas));
  }, [base.value, layers.value]);
  const { width, height } = base.value!, { zoom, x, y } = view.value;
  const place = (event: PointerEvent): Point => {
    const rect = sheet.current!.getBoundingClientRect();
    return { x: (event.clientX - rect.left) * width / rect.width, y: (event.clientY - rect.top) * height / rect.height };
  };
  const spread = (): number => {
    const [a, b] = [...state.current.fingers.values()] as [Point, Point];
    return Math.hypot(a.x - b.x, a.y - b.y);
  };
  const down = (event: PointerEvent): void => {
    const one = state.current;
    box.current!.setPointerCapture(event.pointerId);
    one.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (one.fingers.size === 2) { one.pinch = spread() / zoom; if (one.last) { undo(); one.last = null; } return; }
    if (one.fingers.size > 2) return;
    remember(target());
    one.last = place(event);
    one.lasso = [one.last];
    if (tool.value !== "lasso") stroke(one.last, one.last, pressure(event));
  };
  const move = (event: PointerEvent): void => {
    const one = state.current, before = one.fingers.get(event.pointerId);
    if (!before) return;
    one.fingers.set(event.pointerId, { x: event.clientX, y: event.clientY });
    if (one.fingers.size === 2) {
      const next = Math.min(6, Math.max(0.5, spread() / one.pinch));
      view.value = { zoom: next, x: view.value.x + (event.clientX - before.x) / 2, y: view.value.y + (event.clientY - before.y) / 2 };
    } else if (one.last) {
      for (const each of event.getCoalescedEvents?.() ?? [event]) {
        const to = place(each);
        if (tool.value === "lasso") one.lasso.push(to);
        else stroke(one.last, to, pressure(each));
        one.last = to;
      }
    }
  };
  const up = (event: PointerEvent): void => {
    const one = state.current;
    one.fingers.delete(event.pointerId);
    if (one.last && tool.value === "lasso") fill(one.lasso);
    one.last = null;
  };
  const key = (event: KeyboardEvent): void => {
    const one = state.current, by = event.shiftKey ? 32 : 8;
    const way = { ArrowLeft: [-by, 0], ArrowRight: [by, 0], ArrowUp: [0, -by], ArrowDown: [0, by] }[event.key];
    if (way) {
      const to = { x: Math.min(width, Math.max(0, one.at.x + way[0]!)), y: Math.min(height, Math.max(0, one.at.y + way[1]!)) };
      if (one.pen) tool.value === "lasso" ? one.lasso.push(to) : stroke(one.at, to);
      one.at = to;
    } else if (event.key === " " || event.key === "Enter") {
      one.pen = !one.pen;
      if (one.pen) { remember(target()); one.lasso = [one.at]; if (tool.value !== "lasso") stroke(one.at, one.at); }
      else if (tool.value === "lasso") fill(one.lasso);
      say(t(one.pen ? "pen_down" : "pen_up"));
    } else if (event.key === "z" && (event.ctrlKey || event.metaKey)) event.shiftKey ? redo() : undo();
    else return;
    event.preventDefault();
    Object.assign(cross.current!.style, { left: `${100 * one.at.x / width}%`, top: `${100 * one.at.y / height}%` });
    cross.current!.classList.toggle("down", one.pen);
  };
  return <div ref={box} class="canvas" tabIndex={0} role="application" aria-label={t("canvas")} aria-describedby="canvas-keys"
    onPointerDown={down} onPointerMove={move} onPointerUp={up} onPointerCancel={up} onKeyDown={key}
    onWheel={(event) => { if (event.ctrlKey) { event.preventDefault(); view.value = { ...view.value, zoom: Math.min(6, Math.max(0.5, zoom * (event.deltaY < 0 ? 1.1 : 0.9))) }; } }}>
    <div class="sheet" style={{ aspectRatio: `${width} / ${height}`, transform: `translate(${x}px, ${y}px) scale(${zoom})` }}>
      <div ref={sheet} class="stack" /><div ref={cross} class="cross" aria-hidden="true" />
    </div>
    <p id="canvas-keys" class="hidden">{t("canvas_keys")}</p>
  </div>;
}

const pressure = (event: PointerEvent): number => event.pointerType === "pen" ? 0.25 + 0.75 * event.pressure : 1;

export function Tools() {
  return <div class="tools" role="toolbar" aria-label={t("tools")}>
    {TOOLS.map((name) => <button key={name} type="button" aria-pressed={tool.value === name} onClick={() => { tool.value = name; }}>{t(`tool_${name}` as Key)}</button>)}
    {tool.value === "colour" && <input type="color" aria-label={t("tool_colour")} value={colour.value} onInput={(event) => { colour.value = event.currentTarget.value; }} />}
    <label class="slider">{t("brush_size")}<input type="range" min={2} max={160} value={size.value} onInput={(event) => { size.value = event.currentTarget.valueAsNumber; }} /></label>
    <button type="button" disabled={!canUndo()} onClick={undo}>{t("undo")}</button>
    <button type="button" disabled={!canRedo()} onClick={redo}>{t("redo")}</button>
    {(["fill", "clear", "invert"] as const).map((how) => <button key={how} type="button" onClick={() => whole(how)}>{t(`mask_${how}` as Key)}</button>)}
  </div>;
}
