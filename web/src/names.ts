/** Words for what the server calls by names: options and their values, kinds of files, fields of settings. */
import { t, type Key } from "./i18n";

/** Programs and chips, which are called the same in every language. */
const PROPER: Record<string, string> = {
  a1111: "AUTOMATIC1111", "a1111-1.5": "AUTOMATIC1111 1.5", comfy: "ComfyUI", comfyui: "ComfyUI", invokeai: "InvokeAI", cpu: "CPU",
  "first-block:0.1": "First block, 0.1", "teacache:0.2": "TeaCache, 0.2", "deepcache:3": "DeepCache, 3",
};
const plain = (name: string): string => name.replace(/[\s,_-]+/g, "_").toLowerCase();
/** A message, or the name itself where nobody has words for it. */
const said = (key: string, found: string, name: string): string => found === key ? name.replaceAll("_", " ") : found;

export const optionName = (name: string): string => said(`option_${name}`, t(`option_${name}` as Key), name);
export const panelName = (name: string): string => said(`panel_${plain(name)}`, t(`panel_${plain(name)}` as Key), name);
export const kindName = (name: string): string => said(`kind_${plain(name)}`, t(`kind_${plain(name)}` as Key), name);
/** A network of a model. */
export const partName = (name: string): string => said(`part_${name}`, t(`part_${name}` as Key), name);
export const choiceName = (value: string, label = value): string => PROPER[value] ?? said(`choice_${value}`, t(`choice_${value}` as Key), label);
/** A field that a picture's file has, which mostly is an option under another name. */
export const settingName = (name: string): string => said(`setting_${plain(name)}`, t(`setting_${plain(name)}` as Key), name);
