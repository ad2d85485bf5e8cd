/** X/Y/Z: a table with a picture for each pair of values, a table for each third value; cells fill in as they are drawn. */
import { signal } from "@preact/signals";
import type { Option } from "../../api";
import { option, options, request, valueName } from "../../form";
import { t } from "../../i18n";
import { cancel, ended, jobs, submit } from "../../jobs";
import { optionName } from "../../names";
import { Pictures } from "../../parts/progress";

interface Axis { name: string; values: string }
interface Cell { x: string; y: string; z: string; job: string }
const MOST = 100; // cells
const axes = signal<Record<"x" | "y" | "z", Axis>>({ x: { name: "cfg", values: "1, 1.5, 3" }, y: { name: "sampler", values: "euler, dpmpp_2m" }, z: { name: "", values: "" } });
const cells = signal<Cell[]>([]);
const begun = signal<Record<"x" | "y" | "z", Axis>>(axes.value);

/** Values such as "1, 2, 3" or "1..3:0.5"; commas of prompts stand as they are, one prompt a line. */
function valuesOf({ name, values }: Axis): string[] {
  if (!name) return [""];
  const range = /^\s*(-?[\d.]+)\.\.(-?[\d.]+)(?::([\d.]+))?\s*$/.exec(values);
  if (range) {
    const [from, to, step] = [Number(range[1]), Number(range[2]), Number(range[3] ?? 1) || 1];
    return Array.from({ length: Math.max(1, Math.floor((to - from) / step + 1.0001)) }, (_, k) => String(+(from + k * step).toFixed(6)));
  }
  return values.split(name === "prompt" ? "\n" : /[,\n]/).map((one) => one.trim()).filter(Boolean);
}

function typed(value: string, one: Option | undefined): unknown {
  return one?.type === "whole" || one?.type === "number" ? Number(value) : one?.type === "switch" ? value === "true" : value;
}

async function go(): Promise<void> {
  const { x, y, z } = axes.value, made: Cell[] = [];
  begun.value = axes.value;
  cells.value = [];
  const seed = Math.floor(Math.random() * 2 ** 32);
  for (const c of valuesOf(z)) for (const b of valuesOf(y)) for (const a of valuesOf(x)) {
    if (made.length >= MOST) return;
    const asked = request();
    asked.options = { seed, ...asked.options, n: 1 };
    for (const [axis, value] of [[x, a], [y, b], [z, c]] as const) {
      if (axis.name === "prompt") asked.prompt = value;
      else if (axis.name) asked.options[axis.name] = typed(value, options.value?.options.find((one) => one.name === axis.name));
    }
    const job = await submit(asked, false);
    if (!job) return;
    made.push({ x: a, y: b, z: c, job: job.id });
    cells.value = [...made];
  }
}

export function Grid() {
  const open = cells.value.filter((cell) => jobs.value[cell.job] && !ended(jobs.value[cell.job]!.job));
  return <div class="fields-column">
    <p class="muted">{t("grid_hint")}</p>
    {(["x", "y", "z"] as const).map((axis) => <AxisFields key={axis} axis={axis} />)}
    <div class="row"><button type="button" class="primary" onClick={() => void go()}>{t("draw_grid")}</button>
      {open.length > 0 && <button type="button" onClick={() => open.forEach((cell) => void cancel(cell.job))}>{t("cancel")}</button>}</div>
    {cells.value.length > 0 && valuesOf(begun.value.z).map((z) => <Table key={z} z={z} />)}
  </div>;
}

/** Values to begin with, so that nobody needs to know how the choices are called. */
function proposed(name: string): string {
  const one = option(name);
  return one?.type === "switch" ? "true, false" : one?.choices.slice(0, 4).join(", ") ?? "";
}

function AxisFields({ axis }: { axis: "x" | "y" | "z" }) {
  const one = axes.value[axis], change = (more: Partial<Axis>): void => { axes.value = { ...axes.value, [axis]: { ...one, ...more } }; };
  return <div class="row">
    <label>{axis.toUpperCase()}<select onChange={(event) => { const name = event.currentTarget.value; change({ name, values: proposed(name) }); }}>
      <option value="" selected={!one.name}>–</option><option value="prompt" selected={one.name === "prompt"}>{t("prompt_axis")}</option>
      {options.value?.options.filter((each) => ["whole", "number", "choice", "switch"].includes(each.type)).map((each) => <option key={each.name} value={each.name} selected={each.name === one.name}>{optionName(each.name)}</option>)}
    </select></label>
    <label class="grow">{t("values")}<textarea rows={1} dir={one.name === "prompt" ? "auto" : "ltr"} disabled={!one.name} value={one.values} placeholder="1, 2, 3 – 1..3:0.5" onInput={(event) => change({ values: event.currentTarget.value })} /></label>
  </div>;
}

const axisName = ({ name }: Axis): string => name === "prompt" ? t("prompt_axis") : name && optionName(name);

function Table({ z }: { z: string }) {
  const { x, y } = begun.value;
  return <div class="scroll" tabIndex={0} role="region" aria-label={`${axisName(begun.value.z)} ${z}`.trim() || t("more_grid")}><table class="xyz">
    {z && <caption>{axisName(begun.value.z)} {valueName(begun.value.z.name, z)}</caption>}
    <thead><tr><td />{valuesOf(x).map((a) => <th key={a} scope="col">{axisName(x)} {valueName(x.name, a)}</th>)}</tr></thead>
    <tbody>{valuesOf(y).map((b) => <tr key={b}><th scope="row">{axisName(y)} {valueName(y.name, b)}</th>
      {valuesOf(x).map((a) => {
        const live = jobs.value[cells.value.find((cell) => cell.x === a && cell.y === b && cell.z === z)?.job ?? ""];
        return <td key={a}>{live?.job.error ? <p class="note">{live.job.error}</p> : live ? <Pictures live={live} /> : null}</td>;
      })}</tr>)}</tbody>
  </table></div>;
}
