/** Trains a LoRA of dropped pictures, and shows how it goes. */
import { useEffect } from "preact/hooks";
import type { Training } from "../../api";
import { emoji, form, set } from "../../form";
import { t, type Key } from "../../i18n";
import { open } from "../../place";
import { begin, drop, given, KINDS, look, lookNoMore, plan, starting, take, tell, trainings } from "./training";

const change = (part: Partial<typeof plan.value>): void => { plan.value = { ...plan.value, ...part }; };

export function Train() {
  useEffect(() => { void look().catch(() => undefined); return lookNoMore; }, []);
  return <section class="card train" aria-labelledby="train-title" onDrop={(event) => {
    event.preventDefault();
    event.stopPropagation();
    void take(event.dataTransfer?.files ?? []);
  }}>
    <h2 id="train-title">{t("train_title")}</h2>
    <p class="muted">{t("train_hint")}</p>
    <label class="button">{t("train_choose")}<input class="hidden" type="file" accept="image/*,.txt" multiple onChange={(event) => {
      void take(event.currentTarget.files ?? []);
      event.currentTarget.value = "";
    }} /></label>
    {given.value.length > 0 && <Plan />}
    {trainings.value.map((one) => <Run key={one.id} one={one} />)}
  </section>;
}

function Plan() {
  const one = plan.value, model = form.value.model;
  return <form class="fields-column" onSubmit={(event) => { event.preventDefault(); void begin(); }}>
    <ul class="shown">{given.value.map((each) => <li key={each.id}>
      <img src={each.url} alt={each.caption || each.file.name} />
      <input aria-label={t("caption_of", { name: each.file.name })} placeholder={one.caption || t("train_caption")} value={each.caption} maxLength={2000}
        onInput={(event) => { given.value = given.value.map((other) => other.id === each.id ? { ...other, caption: event.currentTarget.value } : other); }} />
      <button type="button" class="icon" aria-label={t("train_drop_one", { name: each.file.name })} onClick={() => drop(each.id)}>×</button>
    </li>)}</ul>
    <div class="fields">
      <label class="wide">{t("train_caption")}<input value={one.caption} maxLength={2000} required={given.value.some((each) => !each.caption)} onInput={(event) => change({ caption: event.currentTarget.value })} /></label>
      <label>{t("train_name")}<input value={one.name} required pattern="[A-Za-z0-9][A-Za-z0-9_\-]*" maxLength={60} title={t("train_name_hint")} onInput={(event) => change({ name: event.currentTarget.value })} /></label>
      <label>{t("train_kind")}<select value={one.kind} onChange={(event) => change({ kind: event.currentTarget.value as typeof one.kind })}>
        {KINDS.map((kind) => <option key={kind} value={kind}>{{ lora: "LoRA", dora: "DoRA", loha: "LoHa", lokr: "LoKr" }[kind]}</option>)}
      </select></label>
      <label>{t("option_steps")}<input type="number" min={1} max={100000} value={one.steps} required onInput={(event) => change({ steps: event.currentTarget.valueAsNumber || 1 })} /></label>
      {emoji() && <>
        <label title={t("train_word_hint")}>{t("train_word")}<input value={one.word} maxLength={60} required={!!one.like} placeholder="sks planet" onInput={(event) => change({ word: event.currentTarget.value })} /></label>
        <label title={t("train_word_hint")}>{t("train_like")}<input value={one.like} maxLength={60} required={!!one.word} placeholder="planet" onInput={(event) => change({ like: event.currentTarget.value })} /></label>
      </>}
    </div>
    <button class="primary" disabled={starting.value}>{t("train_start", { model })}</button>
  </form>;
}

function Run({ one }: { one: Training }) {
  const going = one.state === "running", sheets = Object.entries(one.samples), [step, url] = sheets.at(-1) ?? [];
  return <article class="run" aria-labelledby={"run-" + one.id}>
    <h3 id={"run-" + one.id}>{one.name} <span class="count">{t(`training_${one.state}` as Key)}</span></h3>
    <progress aria-label={one.name} max={one.steps} value={one.step} />
    <p class="muted">{t("train_step", { n: one.step, all: one.steps })}</p>
    {one.says && !one.file && <pre class={one.state === "failed" ? "note" : "muted"}>{one.says}</pre>}
    <div class="row">
      <Curve points={one.curves.loss ?? []} steps={one.steps} />
      {url && <a href={url} target="_blank"><img src={url} alt={t("train_sheet", { n: step! })} /></a>}
    </div>
    <div class="actions">
      {one.file && <button type="button" onClick={() => {
        const { loras } = form.value, name = one.file!;
        set({ model: one.model, loras: [...loras.filter((other) => other.name !== name), { name, weight: 1 }] });
        open("draw");
      }}>{t("draw_with")}</button>}
      {one.report && <a class="button" href={one.report} target="_blank">{t("train_report")}</a>}
      {going && <button type="button" onClick={() => void tell(one, "stop")}>{t("train_stop")}</button>}
      {(one.state === "stopped" || one.state === "failed") && <button type="button" onClick={() => void tell(one, "resume")}>{t("train_resume")}</button>}
      {!going && <button type="button" class="link" onClick={() => void tell(one, "forget")}>{t("train_forget")}</button>}
    </div>
  </article>;
}

const WIDTH = 300, HEIGHT = 110;

/** The loss by step, pale, and its mean over the points around. */
function Curve({ points, steps }: { points: [number, number][]; steps: number }) {
  if (points.length < 2) return null;
  const values = points.map((one) => one[1]), low = Math.min(...values), high = Math.max(...values), range = high - low || 1;
  const line = (of: number[]): string => of.map((value, k) => `${(WIDTH * points[k]![0] / steps).toFixed(1)},${(HEIGHT * (high - value) / range).toFixed(1)}`).join(" ");
  const around = Math.ceil(values.length / 16);
  const means = values.map((_, k) => values.slice(Math.max(0, k - around), k + around + 1)).map((some) => some.reduce((sum, one) => sum + one, 0) / some.length);
  return <figure>
    <svg class="curve" viewBox={`0 -4 ${WIDTH} ${HEIGHT + 8}`} role="img" aria-label={t("train_curve", { first: means[0]!.toPrecision(3), last: means.at(-1)!.toPrecision(3) })}>
      <polyline class="pale" points={line(values)} />
      <polyline points={line(means)} />
    </svg>
    <figcaption>{t("train_curve", { first: means[0]!.toPrecision(3), last: means.at(-1)!.toPrecision(3) })}</figcaption>
  </figure>;
}
