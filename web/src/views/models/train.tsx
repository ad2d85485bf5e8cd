/** Learns something of dropped pictures, and shows how it goes. */
import { useEffect } from "preact/hooks";
import type { Training } from "../../api";
import { emoji, form, set } from "../../form";
import { t, type Key } from "../../i18n";
import { begin, chosen, drop, given, HINTS, KINDS, loadMethods, look, lookNoMore, methods, plan, starting, take, tell, trainings } from "./training";
import { useIt } from "./use";

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

const plain = (method: string): string => method.replaceAll("-", "_");
const methodName = (method: string): string => t(`method_${plain(method)}` as Key);

/** The methods, each with what it is good for. */
function Methods() {
  return <fieldset class="methods"><legend>{t("train_method")}</legend>{methods.value.map(({ name, misfit }) => <label key={name}>
    <input type="radio" name="method" checked={plan.value.method === name} disabled={!!misfit} onChange={() => change({ method: name, steps: null })} />
    <span><b>{methodName(name)}</b>{misfit && ` (${t("train_misfit")})`}<span class="muted">{t(`method_${plain(name)}_good` as Key)}</span></span>
  </label>)}</fieldset>;
}

function Plan() {
  const one = plan.value, model = form.value.model, method = chosen();
  useEffect(() => { if (model) void loadMethods().catch(() => undefined); }, [model]);
  const needed = (name: string): boolean => !!method?.required.includes(name);
  // A word of one's own means something to models that remember things; other models learn it from the captions.
  const asked = (name: string): boolean => needed(name) || !!method?.optional.includes(name) && (method.name !== "lora" || name === "kind" || emoji());
  return <form class="fields-column" onSubmit={(event) => { event.preventDefault(); void begin(); }}>
    <ul class="shown">{given.value.map((each) => <li key={each.id}>
      <img src={each.url} alt={each.caption || each.file.name} />
      <input aria-label={t("caption_of", { name: each.file.name })} placeholder={one.caption || t("train_caption")} value={each.caption} maxLength={2000}
        onInput={(event) => { given.value = given.value.map((other) => other.id === each.id ? { ...other, caption: event.currentTarget.value } : other); }} />
      <button type="button" class="icon" aria-label={t("train_drop_one", { name: each.file.name })} onClick={() => drop(each.id)}>×</button>
    </li>)}</ul>
    <Methods />
    <div class="fields">
      <label class="wide">{t("train_caption")}<input value={one.caption} maxLength={2000} required={!needed("word") && given.value.some((each) => !each.caption)} onInput={(event) => change({ caption: event.currentTarget.value })} /></label>
      <label title={method?.result === "embedding" ? t("train_name_is_word") : undefined}>{t("train_name")}<input value={one.name} required pattern="[A-Za-z0-9][A-Za-z0-9_\-]*" maxLength={60} title={t("train_name_hint")} onInput={(event) => change({ name: event.currentTarget.value })} /></label>
      {asked("kind") && <label>{t("train_kind")}<select value={one.kind} onChange={(event) => change({ kind: event.currentTarget.value as typeof one.kind })}>
        {KINDS.map((kind) => <option key={kind} value={kind}>{{ lora: "LoRA", dora: "DoRA", loha: "LoHa", lokr: "LoKr" }[kind]}</option>)}
      </select></label>}
      {asked("hint") && <label>{t("hint")}<select value={one.hint} onChange={(event) => change({ hint: event.currentTarget.value as typeof one.hint })}>
        {HINTS.map((hint) => <option key={hint} value={hint}>{t(`hint_${hint}` as Key)}</option>)}
      </select></label>}
      <label>{t("option_steps")}<input type="number" min={1} max={100000} value={one.steps ?? method?.steps ?? ""} required onInput={(event) => change({ steps: event.currentTarget.valueAsNumber || 1 })} /></label>
      {asked("word") && <label title={t("train_word_hint")}>{t("train_word")}<input value={one.word} maxLength={60} required={needed("word") || !!one.like} placeholder="sks planet" onInput={(event) => change({ word: event.currentTarget.value })} /></label>}
      {asked("like") && <label title={t("train_word_hint")}>{t("train_like")}<input value={one.like} maxLength={60} required={needed("like") || asked("word") && !!one.word} placeholder="planet" onInput={(event) => change({ like: event.currentTarget.value })} /></label>}
      {method?.result === "embedding" && <p class="muted wide">{t("train_name_is_word")}</p>}
    </div>
    <button class="primary" disabled={starting.value}>{t("train_start", { model })}</button>
  </form>;
}

function Run({ one }: { one: Training }) {
  const going = one.state === "running", sheets = Object.entries(one.samples), [step, url] = sheets.at(-1) ?? [];
  return <article class="run" aria-labelledby={"run-" + one.id}>
    <h3 id={"run-" + one.id}>{one.name} <span class="muted">{methodName(one.method)}</span> <span class="count">{t(`training_${one.state}` as Key)}</span></h3>
    <progress aria-label={one.name} max={one.steps} value={one.step} />
    <p class="muted">{t("train_step", { n: one.step, all: one.steps })}</p>
    {one.says && !one.file && <pre class={one.state === "failed" ? "note" : "muted"}>{one.says}</pre>}
    <div class="row">
      <Curve points={one.curves.loss ?? []} steps={one.steps} />
      {url && <a href={url} target="_blank"><img src={url} alt={t("train_sheet", { n: step! })} /></a>}
    </div>
    <div class="actions">
      {one.file && <button type="button" onClick={() => {
        if (one.result !== "model") set({ model: one.model });
        useIt(one.result, one.file!);
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
