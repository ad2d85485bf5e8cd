"""Reference folders of other sizes: lists of any length, tables that are absent, runs of other numbers of steps."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sfumato.diffusion.driver import drive
from sfumato.diffusion.guidance import network_guide
from sfumato.diffusion.noise_schedule import FlowTable
from sfumato.diffusion.sample import find_sampler
from sfumato.diffusion.sigma_schedules import discrete, karras
from sfumato.verify.schedules import SD
from sfumato.verify.toy import Toy, label

SCHEDULES = {
    "ldm_ddim": {"by_n": {"7": {"timesteps_uniform": list(range(1, 1000, 142))}}},
    "k_diffusion_sigmas": {"lists": {"13": {"karras_rho7": karras(SD, 13).tolist()}}},
    "sd3_flow": {"sigmas": {"shift_2.0": {"3": discrete(FlowTable(2.0), 3).tolist()}}},
    "sdxl_sgm": {"timesteps": {"3": [333, 666, 999]}},
    "sd_scaled_linear_1000": {"linear_start": 0.00085, "linear_end": 0.012, "sigmas": SD.sigmas.tolist()},
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_what_a_table_has_is_compared_and_what_it_lacks_is_no_fault(verify, name: str, tmp_path: Path) -> None:
    (tmp_path / "schedules").mkdir()
    path = tmp_path / "schedules" / f"{name}.json"
    path.write_text(json.dumps(SCHEDULES[name]))
    outcome = verify(tmp_path)
    assert (outcome.code, len(outcome.rows)) == (0, 1), outcome.stdout
    changed = json.dumps(SCHEDULES[name]).replace("9", "8")
    path.write_text(changed)
    assert verify(tmp_path).code == 1


def test_unknown_tables_fail(verify, tmp_path: Path) -> None:
    (tmp_path / "schedules").mkdir()
    data = {"linear_start": 0.00085, "linear_end": 0.012, "magic": [1.0]}
    (tmp_path / "schedules/sd_scaled_linear_1000.json").write_text(json.dumps(data))
    assert verify(tmp_path).failed == ["schedules/sd_scaled_linear_1000/magic"]


@pytest.mark.parametrize(("steps", "of"), [(6, 6), (25, 25), (4, 9)])
def test_runs_of_any_number_of_steps(verify, steps: int, of: int, tmp_path: Path) -> None:
    """A run of k-diffusion, whole or, as on a picture, the last steps of a longer list."""
    sigmas, source = karras(SD, of)[-steps - 1 :], torch.Generator().manual_seed(0)
    shared = {
        "toy.means": torch.randn(3, 4, 4, 4, generator=source).double(),
        "toy.variances": torch.full((3,), 0.1).double(),
        "toy.weights": torch.full((2, 3), 1 / 3).double(),
        "x_T_unit": torch.randn(1, 4, 4, 4, generator=source).double(),
    }
    denoiser = Toy(shared["toy.means"], shared["toy.variances"], shared["toy.weights"], "eps").denoiser()
    start = shared["x_T_unit"] * sigmas[0]
    job = find_sampler("euler").run(
        network_guide(denoiser, label(1)), start, sigmas, denoiser.path, lambda one, other: torch.zeros(())
    )
    states = torch.stack([event.x for _, event in drive([job])])
    (tmp_path / "samplers").mkdir()
    save_file(shared | {"euler.x": states}, tmp_path / "samplers/k_diffusion.safetensors")
    entry = {"sampler": "sample_euler", "options": {}, "sigmas": sigmas.tolist()}
    data = {"tolerance": "max abs diff <= 1e-9", "runs": {"euler": entry}}
    (tmp_path / "samplers/k_diffusion.json").write_text(json.dumps(data))
    outcome = verify(tmp_path)
    assert (outcome.code, len(outcome.rows)) == (0, 1), outcome.stdout
