"""`sfumato verify`: what it runs, what it says, how it ends."""

import gzip
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

# Everything that this version supports and that the part of the reference data in the repository holds.
SUPPORTED = (
    "embeddings",
    "lora",
    "samplers",
    "schedules",
    "watermark",
    "text/clip_bpe_tokens",
    "text/a1111_prompt_syntax",
    "manifests/original/sd1",
    "manifests/original/sd1_model_ema",
    "manifests/diffusers/sd1__*",
)


def only(*patterns: str) -> list[str]:
    return [word for pattern in patterns for word in ("--only", pattern)]


def test_this_version_reproduces_the_reference(verify, golden: Path) -> None:
    outcome = verify(golden, *only(*SUPPORTED))
    assert not outcome.failed
    assert outcome.code == 0
    assert len(outcome.rows) > 100


def test_rows_and_summary(verify, part: Path) -> None:
    outcome = verify(part, *only("samplers/sd3/sd3_euler_shift1.0_n6", "schedules/sdxl_sgm/4"), plain=True)
    header, *rows, summary = outcome.stdout.splitlines()
    assert header.split() == ["case", "absolute", "relative", "tolerance", "result"]
    assert [row.split()[0] for row in rows] == [
        "samplers/sd3/sd3_euler_shift1.0_n6",
        "schedules/sdxl_sgm/4/sigmas",
        "schedules/sdxl_sgm/4/timesteps",
    ]
    assert all(row.split()[-1] == "pass" for row in rows)
    assert rows[0].split()[3] == "1.0e-08"
    assert summary == "3 passed, 0 failed"
    assert outcome.code == 0


def test_json_has_the_same_figures(verify, part: Path) -> None:
    rows = verify(part, *only("samplers")).rows
    row = rows["samplers/sd3/sd3_euler_shift1.0_n6"]
    assert row["passed"] and row["absolute"] < 1e-12 and row["tolerance"] == "1.0e-08"


def test_exceptions(verify, part: Path) -> None:
    rows = verify(part, "--except", "schedules", "--except", "*dpmpp*").rows
    assert set(rows) == {"samplers/sd3/sd3_euler_shift3.0_n10", "samplers/sd3/sd3_euler_shift1.0_n6"}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (only("tiny"), "no case matches 'tiny'"),
        (only("samplers", "samplers/sd3/sd3_eul"), "no case matches 'samplers/sd3/sd3_eul'"),
        (["--except", "*"], "no case is selected"),
    ],
)
def test_a_selection_of_nothing_is_refused(verify, part: Path, words: list[str], said: str) -> None:
    outcome = verify(part, *words, plain=True)
    assert outcome.code == 2 and outcome.stdout == ""
    assert outcome.stderr.startswith("error: ") and said in outcome.stderr and outcome.stderr.count("\n") == 1


def test_a_folder_that_is_none_is_refused(verify, tmp_path: Path) -> None:
    for folder in (tmp_path / "nowhere", Path(__file__)):
        outcome = verify(folder, plain=True)
        assert outcome.code == 2 and "is no folder" in outcome.stderr


def test_an_empty_folder_is_refused(verify, tmp_path: Path) -> None:
    assert verify(tmp_path, plain=True).code == 2


def test_unknown_kinds_of_cases_fail_and_say_so(verify, part: Path) -> None:
    for name in ("notes.bin", "samplers/other.json", "schedules/x.safetensors", "poetry/ode.json", "tiny/strange.pt"):
        (part / name).parent.mkdir(exist_ok=True)
        (part / name).write_text("{}")
    (part / "README.md").write_text("Words are no cases.")
    outcome = verify(part)
    assert outcome.code == 1
    assert outcome.failed == [
        "notes.bin",
        "poetry/ode",
        "samplers/other.json",
        "schedules/x.safetensors",
        "tiny/strange.pt",
    ]
    assert {outcome.rows[case]["reason"] for case in outcome.failed} == {"unknown kind of case"}


def test_what_is_not_supported_yet_fails_and_says_so(verify, golden: Path, part: Path) -> None:
    manifest = json.loads(gzip.decompress((golden / "manifests/diffusers/sd1__vae.json.gz").read_bytes()))
    for name, more in (("original/unheard_of", {}), ("diffusers/unheard_of", {"class": "UnheardOf"})):
        path = part / "manifests" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(manifest | more))
    outcome = verify(part, *only("manifests"))
    assert outcome.code == 1 and len(outcome.failed) == 2
    assert all(row["reason"].startswith("not supported yet: ") for row in outcome.rows.values())


def test_a_wrong_value_fails_its_case_alone(verify, part: Path) -> None:
    path = part / "samplers/sd3.safetensors"
    tensors = load_file(path)
    tensors["sd3_euler_shift1.0_n6.x"][3, 0, 0, 0, 0] += 1e-6
    save_file(tensors, path)
    outcome = verify(part, *only("samplers"))
    assert outcome.code == 1 and outcome.failed == ["samplers/sd3/sd3_euler_shift1.0_n6"]
    assert outcome.rows[outcome.failed[0]]["absolute"] == pytest.approx(1e-6, rel=1e-3)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_never_pass(verify, part: Path, value: float) -> None:
    path = part / "samplers/sd3.safetensors"
    tensors = load_file(path)
    tensors["sd3_euler_shift1.0_n6.x"][0, 0, 0, 0, 0] = value
    save_file(tensors, path)
    assert verify(part, *only("samplers")).failed == ["samplers/sd3/sd3_euler_shift1.0_n6"]


def test_a_run_of_other_shape_or_without_states_fails(verify, part: Path) -> None:
    path = part / "samplers/sd3.safetensors"
    tensors = load_file(path)
    tensors["sd3_euler_shift1.0_n6.x"] = tensors["sd3_euler_shift1.0_n6.x"].repeat(3, 1, 1, 1, 1)
    del tensors["sd3_euler_shift3.0_n10.x"]
    save_file(tensors, path)
    rows = verify(part, *only("*euler*")).rows
    assert "shape (7, 1, 4, 8, 8), expected (21, 1, 4, 8, 8)" in rows["samplers/sd3/sd3_euler_shift1.0_n6"]["reason"]
    assert "missing" in rows["samplers/sd3/sd3_euler_shift3.0_n10"]["reason"]


def test_broken_tensors_fail_every_run_of_their_file_and_no_other(verify, part: Path) -> None:
    path = part / "samplers/sd3.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    outcome = verify(part)
    assert outcome.code == 1
    assert len(outcome.failed) == 4 and all(case.startswith("samplers/sd3/") for case in outcome.failed)
    path.unlink()
    rows = verify(part, *only("samplers")).rows
    assert {row["reason"] for row in rows.values()} == {"sd3.safetensors is missing"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"runs": {"a": 1}}', '{"runs": null}'])
def test_a_broken_list_of_cases_fails_in_their_place(verify, part: Path, text: str) -> None:
    (part / "samplers/sd3.json").write_text(text)
    outcome = verify(part, "--except", "schedules/sd3_flow")
    assert outcome.code == 1
    assert len(outcome.failed) == 1 and outcome.failed[0].startswith("samplers/sd3")
    assert outcome.rows[outcome.failed[0]]["reason"]


def test_a_broken_list_cannot_be_selected_away_by_naming_its_cases(verify, part: Path) -> None:
    (part / "samplers/sd3.json").write_text("{")
    patterns = only("schedules", "samplers/sd3/sd3_euler_shift1.0_n6")
    assert verify(part, *patterns).failed == ["samplers/sd3"]
    assert verify(part, *patterns, "--except", "samplers/sd3/sd3_dpmpp_2m_shift1.0_n6").failed == ["samplers/sd3"]
    assert verify(part, *patterns, "--except", "samplers").code == 0


def test_a_wrong_option_or_sampler_of_a_run_is_not_passed_over(verify, part: Path) -> None:
    path = part / "samplers/sd3.json"
    data = json.loads(path.read_text())
    data["runs"]["sd3_euler_shift1.0_n6"]["sampler"] = "sample_magic"
    data["runs"]["sd3_euler_shift3.0_n10"]["sigmas"][3] *= 1.001
    path.write_text(json.dumps(data))
    rows = verify(part, *only("*euler*")).rows
    assert rows["samplers/sd3/sd3_euler_shift1.0_n6"]["reason"] == "not supported yet: the sampler sample_magic"
    assert "none of our schedules" in rows["samplers/sd3/sd3_euler_shift3.0_n10"]["reason"]


def test_gradients_stay_on_for_the_caller(verify, part: Path) -> None:
    verify(part, *only("samplers/sd3/sd3_euler_shift1.0_n6"))
    assert torch.is_grad_enabled()
