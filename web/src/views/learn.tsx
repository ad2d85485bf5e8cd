/** Learn: how one picture came to be, from noise to the end, with and without guidance, and which word it looked at where. */
import { signal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { wholeNumber } from "../api";
import { form, option, request } from "../form";
import { t } from "../i18n";
import { ended, loadFilms, loadFrames, ordered, submit, type Attention, type Frame, type Live } from "../jobs";
import { Progress } from "../parts/progress";

const STEPS = 24, GROUND = "(ground)";
const chosen = signal<string | null>(null);
const at = signal(Number.MAX_SAFE_INTEGER);
/** The word whose map lies over the picture, by its place among the words. */
const word = signal<number | null>(null);

/** Draws the picture of the form, and the same from the same noise without guidance. */
async function watch(): Promise<void> {
  const asked = request(), steps = asked.options.steps ?? STEPS, seed = asked.options.seed ?? wholeNumber(String(Math.floor(Math.random() * 2 ** 32)));
  const one = { ...asked, options: { ...asked.options, n: 1, seed, steps }, how: { attention: true } };
  const made = await submit(one);
  if (!made) return;
  chosen.value = made.id;
  at.value = Number.MAX_SAFE_INTEGER;
  if (Number(asked.options.cfg ?? option("cfg")?.default) === 1) return;
  await submit({ ...one, options: { ...one.options, cfg: 1 } }, false);
}

/** What two jobs have in common that draw the same with and without guidance; null where a job shows no attention. */
function sameBut(live: Live): string | null {
  const { model, prompt, negative, options, how } = live.job.request;
  const others = Object.entries(options).filter(([name]) => name !== "cfg").sort();
  return how.attention ? JSON.stringify([model, prompt, negative, others]) : null;
}

const plain = (live: Live): boolean => Number(live.job.request.options.cfg) === 1;
/** The job that drew the same picture without guidance. */
const without = (live: Live, all: Live[]): Live | undefined =>
  plain(live) ? undefined : all.find((one) => plain(one) && sameBut(one) !== null && sameBut(one) === sameBut(live));

/** Fetches steps that the page has not seen, once for each job. */
const fetched = new Set<string>();
function fetchFrames(live: Live | undefined): void {
  if (!live || live.frames.length || !live.job.request.how.attention || !ended(live.job) || fetched.has(live.job.id)) return;
  fetched.add(live.job.id);
  void loadFrames(live.job.id).catch(() => fetched.delete(live.job.id));
}

interface Step { url: string; name: string; attention: Attention | null }

function stepsOf(live: Live | undefined): Step[] {
  const shown = (live?.frames ?? []).map((one: Frame) => ({ url: one.preview, name: t("after_step", { n: one.step }), attention: one.attention ?? null }));
  const done = live?.job.pictures.find((one) => one.index === 0);
  const last = (live?.job.report.attention as Attention | undefined) ?? shown.at(-1)?.attention ?? null;
  return done ? [...shown, { url: done.url, name: t("picture"), attention: last }] : shown;
}

export function Learn() {
  const seen = ordered.value.filter((one) => one.frames.length > 0 || (one.job.request.how.attention && one.job.pictures.length > 0));
  const partners = seen.map((one) => without(one, seen));
  const list = seen.filter((one) => !partners.includes(one));
  const live = list.find((one) => one.job.id === chosen.value) ?? list[0], other = live && without(live, seen);
  useEffect(() => void loadFilms().catch(() => undefined), []);
  useEffect(() => { fetchFrames(live); fetchFrames(other); }, [live?.job.id, other?.job.id, live?.job.state, other?.job.state]);
  const steps = stepsOf(live), others = stepsOf(other), k = Math.min(at.value, steps.length - 1), now = steps[k];
  return <div class="learn">
    <h2>{t("learn_title")}</h2>
    <p class="muted">{t("learn_hint")}</p>
    <button class="primary" disabled={!form.value.prompt} onClick={() => void watch()}>{t("draw_and_watch")}</button>
    {!form.value.prompt && <p class="muted">{t("learn_no_prompt")}</p>}
    {list.length > 1 && <label>{t("picture")}<select value={live?.job.id} onChange={(event) => { chosen.value = event.currentTarget.value; at.value = Number.MAX_SAFE_INTEGER; }}>{list.map(({ job }) => <option key={job.id} value={job.id}>{job.request.prompt || job.kind}</option>)}</select></label>}
    {live && now && <>
      <Progress live={live} />
      <div class="row looked">
        <Film step={now} prompt={live.job.request.prompt} title={other && t("learn_with")} />
        {others.length > 0 && <Film step={others[Math.min(k, others.length - 1)]!} prompt={live.job.request.prompt} title={t("learn_without")} />}
      </div>
      {now.attention && <Words of={now.attention} />}
      <label>{t("step")}<input type="range" min={0} max={steps.length - 1} value={k} aria-valuetext={now.name} onInput={(event) => { at.value = event.currentTarget.valueAsNumber; }} /></label>
      <Strip steps={steps} now={k} title={other && t("learn_with")} />
      {others.length > 0 && <Strip steps={others} now={k} title={t("learn_without")} />}
    </>}
    <ul class="told">{(["learn_noise", "learn_steps", "learn_guidance", "learn_seed"] as const).map((key) => <li key={key}>{t(key)}</li>)}</ul>
  </div>;
}

/** One step, large, under the map of the word that was chosen. */
function Film({ step, prompt, title }: { step: Step; prompt: string; title?: string }) {
  const name = title ? `${title}, ${step.name}` : step.name, map = word.value === null ? undefined : step.attention?.maps[word.value];
  return <figure class="film">
    <div class="over"><img src={step.url} alt={`${prompt}, ${name}`} />{map && <Heat of={step.attention!} map={map} />}</div>
    <figcaption>{name}</figcaption>
  </figure>;
}

/** A map as light where a word is looked at, and shade elsewhere. */
function Heat({ of, map }: { of: Attention; map: string }) {
  const canvas = useRef<HTMLCanvasElement>(null);
  useLayoutEffect(() => {
    const values = atob(map), pixels = new ImageData(of.width, of.height);
    for (let k = 0; k < values.length; k++) pixels.data[4 * k + 3] = 230 - 0.9 * values.charCodeAt(k);
    canvas.current?.getContext("2d")?.putImageData(pixels, 0, 0);
  }, [map]);
  return <canvas ref={canvas} class="heat" width={of.width} height={of.height} role="img" aria-label={t("attention_of", { word: named(of.words[word.value!] ?? "") })} />;
}

const named = (one: string): string => one === GROUND ? t("attention_ground") : one;

function Words({ of }: { of: Attention }) {
  return <div role="group" aria-labelledby="attention-title">
    <h3 id="attention-title">{t("attention_title")}</h3>
    <p class="muted">{t("attention_hint")}</p>
    <div class="chips">{of.words.map((one, k) => <button key={k} type="button" class="chip" aria-pressed={word.value === k} onClick={() => { word.value = word.value === k ? null : k; }}>
      {named(one)} <span class="muted">{(100 * of.shares[k]!).toFixed(1)} %</span></button>)}</div>
  </div>;
}

function Strip({ steps, now, title }: { steps: Step[]; now: number; title?: string }) {
  return <section class="along" aria-label={title ?? t("step")}>
    {title && <h3>{title}</h3>}
    <ol class="steps">{steps.map((one, k) => <li key={k}><button class="thumb" aria-pressed={k === now} onClick={() => { at.value = k; }}><img src={one.url} alt={title ? `${title}, ${one.name}` : one.name} /></button><span class="muted">{one.name}</span></li>)}</ol>
  </section>;
}
