/** What is asked for: words, styles, size, seed, and the rest behind "more". */
import { signal } from "@preact/signals";
import type { Option } from "../api";
import { ASPECTS, emoji, faces, form, loadFaces, loadOptions, models, option, options, request, set, setOption, sizeOf } from "../form";
import { t } from "../i18n";
import { submit } from "../jobs";
import { choiceName, optionName, panelName } from "../names";
import { Face } from "./face";
import { Prompt } from "./prompt";

const OWN_STYLES = ["3D style", "flat icon", "gradient style", "noto style", "blob style", "twemoji style"];
const STYLES = ["photo", "watercolour", "ink drawing", "oil painting", "pixel art", "cinematic light"];
const SHOWN_FIRST = ["steps", "cfg", "sampler", "schedule", "tiling", "best_of", "cfg_rescale", "hires_scale", "step_cache", "token_merging", "watermark"];
const busy = signal(false);

export async function draw(): Promise<void> {
  busy.value = true;
  await submit(request());
  busy.value = false;
}

export function Composer() {
  const one = form.value, styles = emoji() ? OWN_STYLES : STYLES;
  return <form class="card composer" onSubmit={(event) => { event.preventDefault(); void draw(); }}>
    <Prompt submit={() => void draw()} />
    {!one.prompt && <div class="chips" role="group" aria-label={t("examples")}>
      {t("example_prompts").split("|").map((text) => <button key={text} type="button" class="chip example" onClick={() => {
        set({ prompt: text }); void draw();
      }}>{text}</button>)}
    </div>}
    <div class="chips" role="group" aria-label={t("styles")}>
      {styles.map((style) => <button key={style} type="button" class="chip" lang="en" aria-pressed={one.styles.includes(style)}
        onClick={() => set({ styles: one.styles.includes(style) ? one.styles.filter((other) => other !== style) : [style] })}>{style}</button>)}
    </div>
    <div class="row">
      <fieldset class="aspects"><legend>{t("size")}</legend>
        {Object.keys(ASPECTS).map((name) => <label key={name} title={sizeOf(name).join(" × ")}>
          <input type="radio" name="aspect" checked={one.aspect === name} onChange={() => set({ aspect: name })} />
          <i aria-hidden="true" style={{ aspectRatio: name.replace(":", "/") }} /><span>{name}</span>
        </label>)}
      </fieldset>
      <label class="small">{t("number")}
        <input type="number" min={1} max={16} value={one.n} onInput={(event) => set({ n: Math.min(16, Math.max(1, event.currentTarget.valueAsNumber || 1)) })} />
      </label>
      <label class="small seed">{t("seed")}
        <span class="joined">
          <input inputMode="numeric" pattern="[0-9]*" value={one.seed} placeholder={t("random")} onInput={(event) => set({ seed: event.currentTarget.value.replace(/\D/g, "").slice(0, 19) })} />
          <button type="button" class="icon" aria-label={t("roll")} title={t("roll")} onClick={() => set({ seed: String(Math.floor(Math.random() * 2 ** 32)) })}>⚄</button>
          {one.seed && <button type="button" class="icon" aria-label={t("random_again")} title={t("random_again")} onClick={() => set({ seed: "" })}>×</button>}
        </span>
      </label>
    </div>
    <details class="more" onToggle={() => void loadFaces().catch(() => undefined)}><summary>{t("more_options")}{changedCount() > 0 && <b class="count">{changedCount()}</b>}</summary><More /></details>
    <button class="primary" disabled={busy.value || !one.model}>{one.n > 1 ? t("draw_n", { n: one.n }) : t("draw")}</button>
  </form>;
}

const changedCount = (): number => Object.keys(form.value.options).length + form.value.loras.length + (form.value.negative ? 1 : 0);

function More() {
  const known = options.value?.options ?? [];
  const others = known.filter((one) => ["whole", "number", "switch", "choice"].includes(one.type) && !SHOWN_FIRST.includes(one.name) && !["seed", "width", "height", "n"].includes(one.name) && !(one.name in form.value.options));
  const first = SHOWN_FIRST.map((name) => known.find((one) => one.name === name)).filter((one): one is Option => !!one);
  return <div class="fields">
    <label class="wide">{t("negative")}<textarea rows={2} value={form.value.negative} onInput={(event) => set({ negative: event.currentTarget.value })} /></label>
    <ModelPicker />
    <Loras />
    {first.map((one) => <Field key={one.name} option={one} value={form.value.options[one.name]} change={(value) => setOption(one.name, value)} />)}
    {Object.keys(form.value.options).filter((name) => !SHOWN_FIRST.includes(name)).map((name) => {
      const one = option(name);
      return one && <Field key={name} option={one} value={form.value.options[name]} change={(value) => setOption(name, value)} />;
    })}
    <label>{t("further_option")}<select value="" onChange={(event) => { const one = option(event.currentTarget.value); if (one) setOption(one.name, one.default ?? one.low ?? one.choices[0] ?? ""); event.currentTarget.value = ""; }}>
      <option value="">{t("choose")}</option>
      {[...new Set(others.map((one) => one.panel))].map((panel) => <optgroup key={panel} label={panelName(panel)}>
        {others.filter((one) => one.panel === panel).map((one) => <option key={one.name} value={one.name}>{optionName(one.name)}</option>)}
      </optgroup>)}
    </select></label>
    {changedCount() > 0 && <button type="button" class="link" onClick={() => set({ options: {}, loras: [], negative: "" })}>{t("reset")}</button>}
  </div>;
}

export function ModelPicker() {
  return <fieldset class="wide"><legend>{t("model")}</legend>
    <div class="faces">{models.value.filter((one) => one.kind === "model").map(({ name }) => <label key={name} class="faced">
      <input type="radio" name="model" checked={name === form.value.model} onChange={() => { set({ model: name }); void loadOptions(); }} />
      <Face name={name} url={faces.value.models[name]} /><span>{name}</span>
    </label>)}</div>
  </fieldset>;
}

function Loras() {
  const here = models.value.filter((one) => one.kind === "lora"), { loras } = form.value;
  if (!here.length) return null;
  return <fieldset class="wide"><legend>{t("loras")}</legend>
    {here.map(({ name }) => {
      const used = loras.find((one) => one.name === name);
      return <div class="lora" key={name}>
        <label class="check"><input type="checkbox" checked={!!used} onChange={() => set({ loras: used ? loras.filter((one) => one !== used) : [...loras, { name, weight: 1 }] })} /><Face name={name} url={faces.value.loras[name]} />{name}</label>
        {used && <input type="range" min={-1} max={2} step={0.05} value={used.weight} aria-label={t("strength_of", { name })} aria-valuetext={String(used.weight)}
          onInput={(event) => set({ loras: loras.map((one) => one === used ? { name, weight: event.currentTarget.valueAsNumber } : one) })} />}
        {used && <output>{used.weight}</output>}
      </div>;
    })}
  </fieldset>;
}

/** An option as its kind is best given; its help comes from the table that the command line has too. */
export function Field({ option: one, value, change }: { option: Option; value: unknown; change: (value: unknown) => void }) {
  const label = optionName(one.name), chosen = (choice: string): string => choiceName(choice, one.labels[one.choices.indexOf(choice)]);
  const told = one.default === null || typeof one.default === "object" ? "" : String(one.default);
  if (one.type === "switch") return <label class="check" title={one.help}>
    <input type="checkbox" checked={Boolean(value ?? one.default)} onChange={(event) => change(event.currentTarget.checked === one.default ? undefined : event.currentTarget.checked)} />{label}
  </label>;
  if (one.choices.length > 0) return <label title={one.help}>{label}
    <select value={String(value ?? "")} onChange={(event) => change(event.currentTarget.value || undefined)}>
      <option value="">{told ? chosen(told) : t("off")}</option>
      {one.choices.map((choice) => choice !== told && <option key={choice} value={choice}>{chosen(choice)}</option>)}
    </select>
  </label>;
  const numeric = one.type === "whole" || one.type === "number";
  return <label title={one.help}>{label}
    {numeric
      ? <input type="number" step={one.type === "whole" ? one.step ?? 1 : "any"} min={one.low ?? undefined} max={one.high ?? undefined} placeholder={told || t("automatic")}
          value={value === undefined ? "" : String(value)} onInput={(event) => { const given = event.currentTarget.valueAsNumber; change(Number.isNaN(given) ? undefined : given); }} />
      : <input value={value === undefined ? "" : String(value)} placeholder={told || t("automatic")} onInput={(event) => change(event.currentTarget.value ? one.type === "names" ? event.currentTarget.value.split(",").map((each) => each.trim()) : event.currentTarget.value : undefined)} />}
  </label>;
}
