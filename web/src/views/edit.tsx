/** Edit: a picture painted on, then drawn anew in part, as a whole, beyond its edges, or along its lines. */
import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { pictureFile, sendPicture, wholeNumber, type Shown } from "../api";
import { form, models, option, set, sizeOf, styled } from "../form";
import { t, type Key } from "../i18n";
import { jobs, submit } from "../jobs";
import { active, addLayer, base, Canvas, layers, maskBlob, pictureBlob, start, toggleLayer, Tools } from "../parts/canvas";
import { ModelPicker } from "../parts/composer";
import { Latest } from "../parts/latest";
import { Pictures, Progress } from "../parts/progress";
import { Prompt } from "../parts/prompt";
import { sent } from "../place";
import { toast } from "../toasts";

const WAYS = ["inpaint", "img2img", "outpaint", "control"] as const;
type Way = (typeof WAYS)[number];
const EDGES = ["left", "right", "top", "bottom"] as const;
const HINTS = ["none", "canny", "gradient", "scribble", "lineart", "invert"];

const way = signal<Way>("inpaint");
const strength = signal(0.75);
const blur = signal(4);
const fillWith = signal("fill");
const margins = signal<Record<(typeof EDGES)[number], number>>({ left: 0, right: 64, top: 0, bottom: 0 });
const hint = signal({ model: "", hint: "canny", weight: 1 });
/** Has the next picture follow the lines of one, by a ControlNet that draws along with a model. */
export function steerBy(model: string): void {
  way.value = "control";
  hint.value = { ...hint.value, model };
}
const hintJob = signal<string>("");
const job = signal<string | null>(null);

async function load(file: Blob): Promise<void> {
  try {
    await start(file);
    hintJob.value = "";
  } catch {
    toast(t("no_picture"), "error");
  }
}

/** The size that is drawn: the picture's own, in the model's steps. */
function sizes(): { width: number; height: number } {
  const step = option("width")?.step ?? 64, fit = (side: number): number => Math.max(step, Math.round(side / step) * step);
  return { width: fit(base.value!.width), height: fit(base.value!.height) };
}

async function draw(): Promise<void> {
  const image = await sendPicture(await pictureBlob()), one = form.value;
  const options: Record<string, unknown> = { ...one.options, n: one.n };
  if (one.seed) options.seed = wholeNumber(one.seed);
  const asked = { model: one.model, prompt: styled(), negative: one.negative };
  let made = null;
  if (way.value === "inpaint") {
    const mask = await maskBlob();
    if (!mask) { toast(t("paint_first"), "error"); return; }
    made = await submit({ ...asked, kind: "inpaint", options: { ...options, ...sizes() }, pictures: { image, mask: await sendPicture(mask) },
      how: { strength: strength.value, blur: blur.value, start: fillWith.value } });
  } else if (way.value === "img2img") {
    made = await submit({ ...asked, kind: "img2img", options: { ...options, ...sizes() }, pictures: { image }, how: { strength: strength.value } });
  } else if (way.value === "outpaint") {
    made = await submit({ ...asked, kind: "outpaint", options, pictures: { image }, how: margins.value });
  } else {
    const model = hint.value.model || models.value.find((each) => each.kind === "controlnet")?.name;
    made = await submit({ ...asked, kind: "txt2img", options: { ...options, ...sizes(), control: [{ ...hint.value, model, image }] } });
  }
  if (made) job.value = made.id;
}

async function preview(): Promise<void> {
  const image = await sendPicture(await pictureBlob());
  const made = await submit({ kind: "hint", prompt: "", pictures: { image }, how: { hint: hint.value.hint } }, false);
  if (made) hintJob.value = made.id;
}

export function Edit() {
  useEffect(() => {
    const one: Shown | null = sent.value;
    if (!one) return;
    sent.value = null;
    set({ prompt: one.prompt, styles: [] });
    void pictureFile(one.url).then(load);
  }, [sent.value]);
  const result = useRef<HTMLDivElement>(null);
  useEffect(() => result.current?.scrollIntoView({ block: "nearest" }), [job.value]);
  if (!base.value) return <Begin />;
  const live = job.value ? jobs.value[job.value] : undefined;
  return <div class="edit">
    <h2 class="hidden">{t("view_edit")}</h2>
    <section class="work" aria-label={t("canvas")}>
      <Tools />
      <Canvas />
      {way.value === "outpaint" && <Frame />}
      <div class="chips" role="group" aria-label={t("layers")}>
        {layers.value.map((one, k) => <span key={k} class="layer">
          <button type="button" class="chip" aria-pressed={k === active.value} onClick={() => { active.value = k; }}>{t("layer", { n: one.name })}</button>
          <input type="checkbox" aria-label={t("layer_counts", { n: one.name })} checked={one.on} onChange={() => toggleLayer(k)} />
        </span>)}
        <button type="button" class="chip" onClick={addLayer}>+ {t("add_layer")}</button>
      </div>
    </section>
    <form class="card composer" onSubmit={(event) => { event.preventDefault(); void draw(); }}>
      <fieldset class="chips"><legend class="hidden">{t("way")}</legend>
        {WAYS.map((name) => <button key={name} type="button" class="chip" aria-pressed={way.value === name} onClick={() => { way.value = name; }}>{t(`way_${name}` as Key)}</button>)}
      </fieldset>
      <p class="muted">{t(`way_${way.value}_hint` as Key)}</p>
      <Prompt submit={() => void draw()} />
      <Settings />
      <details><summary>{t("model")}: {form.value.model}</summary><ModelPicker /></details>
      <button class="primary">{t("draw")}</button>
      {live && <div class="fields-column" ref={result}><Pictures live={live} /><Progress live={live} />
        {live.job.pictures[0] && <button type="button" onClick={() => void pictureFile(live.job.pictures[0]!.url).then(load)}>{t("go_on_with_it")}</button>}</div>}
      <button type="button" class="link" onClick={() => { base.value = null; }}>{t("another_picture")}</button>
    </form>
  </div>;
}

function Begin() {
  const [width, height] = sizeOf(form.value.aspect);
  return <div class="card begin">
    <h2>{t("edit_begin")}</h2>
    <p class="muted">{t("edit_begin_hint")}</p>
    <label class="button">{t("open_picture")}<input class="hidden" type="file" accept="image/*" onChange={(event) => { const file = event.currentTarget.files?.[0]; if (file) void load(file); }} /></label>
    <button onClick={() => { way.value = "img2img"; void start({ width, height }); }}>{t("empty_sheet")}</button>
    <Latest most={9} choose={(one) => { sent.value = one; }} />
  </div>;
}

function Settings() {
  const { model, weight } = hint.value, nets = models.value.filter((one) => one.kind === "controlnet");
  switch (way.value) {
    case "outpaint": return <div class="fields">{EDGES.map((edge) => <label key={edge}>{t(`edge_${edge}` as Key)}
      <input type="number" min={0} max={1024} step={8} value={margins.value[edge]} onInput={(event) => { margins.value = { ...margins.value, [edge]: event.currentTarget.valueAsNumber || 0 }; }} /></label>)}</div>;
    case "control": return <div class="fields">
      <label>{t("controlnet")}<select value={model} onChange={(event) => { hint.value = { ...hint.value, model: event.currentTarget.value }; }}>{nets.map((one) => <option key={one.name}>{one.name}</option>)}</select></label>
      <label>{t("hint")}<select value={hint.value.hint} onChange={(event) => { hint.value = { ...hint.value, hint: event.currentTarget.value }; }}>{HINTS.map((one) => <option key={one} value={one}>{t(`hint_${one}` as Key)}</option>)}</select></label>
      <Slider name={t("strength")} value={weight} most={2} change={(value) => { hint.value = { ...hint.value, weight: value }; }} />
      <button type="button" onClick={() => void preview()}>{t("show_hint")}</button>
      {jobs.value[hintJob.value] && <div class="wide"><Pictures live={jobs.value[hintJob.value]!} /></div>}
      {!nets.length && <p class="note wide">{t("no_controlnet")}</p>}
    </div>;
    default: return <div class="fields">
      <Slider name={t("strength")} value={strength.value} most={1} change={(value) => { strength.value = value; }} />
      {way.value === "inpaint" && <>
        <label>{t("soft_edge")}<input type="number" min={0} max={64} value={blur.value} onInput={(event) => { blur.value = event.currentTarget.valueAsNumber || 0; }} /></label>
        <label>{t("fill_with")}<select value={fillWith.value} onChange={(event) => { fillWith.value = event.currentTarget.value; }}>{["fill", "original", "noise", "nothing"].map((one) => <option key={one} value={one}>{t(`fill_${one}` as Key)}</option>)}</select></label>
      </>}
    </div>;
  }
}

export function Slider({ name, value, most, change }: { name: string; value: number; most: number; change: (value: number) => void }) {
  return <label>{name} <output>{value.toFixed(2)}</output>
    <input type="range" min={0} max={most} step={0.05} value={value} onInput={(event) => change(event.currentTarget.valueAsNumber)} /></label>;
}

/** How the picture will lie in the larger one. */
function Frame() {
  const { width, height } = base.value!, { left, right, top, bottom } = margins.value;
  const w = width + left + right, h = height + top + bottom, part = (value: number, of: number): string => `${100 * value / of}%`;
  return <div class="frame" aria-hidden="true" style={{ aspectRatio: `${w} / ${h}` }}>
    <div style={{ left: part(left, w), top: part(top, h), width: part(width, w), height: part(height, h) }} />
  </div>;
}
