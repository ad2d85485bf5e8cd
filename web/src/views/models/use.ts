/** Opens the view in which a file is drawn with, ready to do so. */
import { drawWith } from "../../form";
import { open } from "../../place";
import { steerBy } from "../edit";

export function useIt(kind: string, name: string): void {
  drawWith(kind, name);
  if (kind === "controlnet") steerBy(name);
  open(kind === "controlnet" ? "edit" : "draw");
}
