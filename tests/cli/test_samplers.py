"""The list of samplers and schedules."""

import json
from collections.abc import Callable

import pytest
from typer.testing import Result

from sfumato.diffusion.sample import SAMPLERS
from sfumato.diffusion.sigma_schedules import SIGMA_SCHEDULES

Run = Callable[..., Result]


def test_the_table_names_every_sampler_and_schedule(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    lines = run("samplers").stdout.splitlines()
    assert [line.split()[0] for line in lines if line] == ["SAMPLER", *SAMPLERS, "SCHEDULE", *SIGMA_SCHEDULES]
    (line,) = [line for line in lines if line.startswith("dpmpp_2m_sde ")]
    for word in ("DPM++ 2M SDE", "SDE, multistep", "arXiv:2211.01095", "eta=1.0 solver=midpoint", "dpmpp_2m_sde_gpu"):
        assert word in line


@pytest.mark.parametrize("width", [40, 80, 120])
def test_no_table_is_wider_than_the_terminal(run: Run, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    for command in ("samplers", "models"):
        lines = run(command).stdout.splitlines()
        assert max(map(len, lines)) <= width
    lines = run("samplers").stdout.splitlines()
    names = [line.split()[0] for line in lines if line and line[0] != " "]
    assert names == ["SAMPLER", *SAMPLERS, "SCHEDULE", *SIGMA_SCHEDULES]
    said = " ".join("\n".join(lines).split())
    assert "source: arXiv:2206.00364; options: s_churn=0.0" in said or width == 120


def test_json(run: Run) -> None:
    both = json.loads(run("samplers", "--json").stdout)
    assert [one["name"] for one in both["samplers"]] == [*SAMPLERS]
    assert [one["name"] for one in both["schedules"]] == [*SIGMA_SCHEDULES]
    heun = next(one for one in both["samplers"] if one["name"] == "heun")
    assert (heun["label"], heun["calls"], heun["order"], heun["kind"]) == ("Heun", 2, 2, "ODE")
    assert heun["options"] == {"s_churn": 0.0, "s_tmin": 0.0, "s_tmax": "inf", "s_noise": 1.0}
    assert all(one["source"] for one in (*both["samplers"], *both["schedules"]))


def test_what_the_table_shows_can_be_drawn_with(run: Run, model: str) -> None:
    words = (
        "--steps",
        2,
        "--size",
        "16x16",
        "--sampler",
        "Euler a",
        "--set",
        "eta=0.5",
        "--set",
        "s_noise=1",
        "--json",
    )
    settings = json.loads(run("txt2img", "a cat", "--model", model, *words).stdout)["settings"]
    assert settings["sampler_options"] == {"eta": 0.5, "s_noise": 1.0}
    words = ("--sigmas", "9, 2,0.5,0", "--size", "16x16", "--json")
    settings = json.loads(run("txt2img", "a cat", "--model", model, *words).stdout)["settings"]
    assert (settings["sigmas"], settings["steps"]) == ([9.0, 2.0, 0.5, 0.0], 3)
