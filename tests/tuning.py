"""What tests of fine-tuning share: a short run, and a picture of a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from sfumato.train.config import LoopConfig
from sfumato.train.fine_tuning import FineTuningTask
from sfumato.train.loop import train

CPU, SIDE = torch.device("cpu"), 64
LOOP = LoopConfig(
    steps=6, batch=2, lr=1e-2, warmup=1, ema=0.0, lr_schedule="constant", validate_every=99, sample_every=99,
    precision="fp32",
)  # fmt: skip


def drawn(sd, **settings) -> np.ndarray:
    one = sd.txt2img("a red heart", steps=2, seed=1, width=SIDE, height=SIDE, watermark=False, **settings)
    return np.asarray(one[0], np.float32)


def run(task: FineTuningTask, folder: Path) -> None:
    train(task, task.cfg.loop, folder, record=task.cfg, device=CPU)
