/** Tools for one picture: larger, varied, described, in few bytes. */
import { signal } from "@preact/signals";
import { sendPicture, type Request, type Shown } from "../../api";
import { form, styled } from "../../form";
import { language, t } from "../../i18n";
import { finished, jobs, submit } from "../../jobs";
import { vary } from "../../parts/actions";
import { Pictures, Progress } from "../../parts/progress";
import type { Working } from "../more";

/** A tool's job, and the picture that it works on. */
const result = signal<Record<string, string>>({});

async function run(name: string, one: Working, more: Partial<Request>): Promise<string | null> {
  const image = await sendPicture(one.file);
  const job = await submit({ model: form.value.model, prompt: "", pictures: { image }, ...more }, false);
  if (job) result.value = { ...result.value, [name]: job.id };
  return job?.id ?? null;
}

function Result({ name }: { name: string }) {
  const live = jobs.value[result.value[name] ?? ""];
  return live ? <div class="result"><Pictures live={live} /><Progress live={live} /></div> : null;
}

const scale = signal(2), invents = signal(false);

export function Enlarge({ one }: { one: Working }) {
  const go = (): void => void run("enlarge", one, invents.value
    ? { kind: "upscale", prompt: one.recipe?.prompt || one.shown?.prompt || styled(), how: { scale: scale.value, strength: 0.3 } }
    : { kind: "enlarge", how: { scale: scale.value } });
  return <fieldset class="tool"><legend>{t("enlarge")}</legend>
    <div class="row">
      <label>{t("times")}<select value={scale.value} onChange={(event) => { scale.value = Number(event.currentTarget.value); }}>{[1.5, 2, 3, 4].map((n) => <option key={n} value={n}>{n}×</option>)}</select></label>
      <label class="check"><input type="checkbox" checked={invents.value} onChange={(event) => { invents.value = event.currentTarget.checked; }} />{t("invent_detail")}</label>
      <button type="button" onClick={go}>{t("enlarge")}</button>
    </div>
    <Result name="enlarge" />
  </fieldset>;
}

const far = signal(0.3), many = signal(4);

export function Vary({ shown }: { shown: Shown }) {
  return <fieldset class="tool"><legend>{t("vary")}</legend>
    <div class="row">
      <label>{t("how_far")} <output>{far.value.toFixed(2)}</output><input type="range" min={0.05} max={1} step={0.05} value={far.value} onInput={(event) => { far.value = event.currentTarget.valueAsNumber; }} /></label>
      <label class="small">{t("number")}<input type="number" min={1} max={16} value={many.value} onInput={(event) => { many.value = event.currentTarget.valueAsNumber || 1; }} /></label>
      <button type="button" onClick={() => void vary(shown, many.value, far.value)}>{t("vary")}</button>
    </div>
  </fieldset>;
}

interface Match { caption: string; score: number }
const matches = signal<Match[]>([]);

export function Interrogate({ one }: { one: Working }) {
  const go = async (): Promise<void> => {
    matches.value = [];
    const job = await run("interrogate", one, { kind: "interrogate", how: { top: 5, language: language.value } });
    if (job) matches.value = ((await finished(job)).report.matches ?? []) as Match[];
  };
  return <fieldset class="tool"><legend>{t("interrogate")}</legend>
    <button type="button" onClick={() => void go()}>{t("interrogate")}</button>
    <ol aria-live="polite">{matches.value.map((match) => <li key={match.caption}>{match.caption} <span class="muted">{match.score.toFixed(3)}</span></li>)}</ol>
  </fieldset>;
}

export function Compress({ one }: { one: Working }) {
  const report = jobs.value[result.value.compress ?? ""]?.job.report as { bytes?: number; file?: string } | undefined;
  return <fieldset class="tool"><legend>{t("compress")}</legend>
    <p class="muted">{t("compress_hint")}</p>
    <button type="button" onClick={() => void run("compress", one, { kind: "compress" })}>{t("compress")}</button>
    <Result name="compress" />
    {report?.file && <a class="button" download="picture.smol" href={"data:application/octet-stream;base64," + report.file}>{t("download_bytes", { n: report.bytes ?? 0, of: one.file.size })}</a>}
  </fieldset>;
}
