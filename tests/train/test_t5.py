"""T5 learns, as a LoRA and as a whole, and captions that were encoded once are kept on disk."""

from __future__ import annotations

import io
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import sfumato
from sfumato.data.pictures.readers.find import OwnPictures
from sfumato.errors import SfumatoError
from sfumato.settings.settings import Settings
from sfumato.text.encode import TextEncoder
from sfumato.train.methods.full import FullTask, FullTraining
from sfumato.train.methods.lora import LoraTask, LoraTraining
from tuning import CPU, LOOP, SIDE, run

pytestmark = [
    pytest.mark.usefixtures("home"), pytest.mark.filterwarnings("ignore::sfumato.errors.SfumatoWarning")
]  # fmt: skip
SHORT = replace(LOOP, steps=2)
LORA = LoraTraining(loop=SHORT, rank=2, precision="float32", data={"resolution": SIDE}, sheet_steps=1)


@pytest.fixture
def reading(released, tmp_path: Path) -> str:
    """A little model of 3 whose T5 has a tokenizer."""
    sentencepiece = pytest.importorskip("sentencepiece")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a red heart", "a blue heart of red"] * 50), model_writer=model, vocab_size=24,
        model_type="unigram", minloglevel=2, pad_id=0, eos_id=1, unk_id=2, bos_id=-1, hard_vocab_limit=False,
    )  # fmt: skip
    folder = tmp_path / "reading"
    shutil.copytree(released("sd3_medium"), folder)
    (folder / "tokenizer_3").mkdir(exist_ok=True)
    (folder / "tokenizer_3" / "spiece.model").write_bytes(model.getvalue())
    return str(folder)


def test_a_lora_of_t5_is_read_as_in_training(reading: str, pictures: Path, tmp_path: Path) -> None:
    task = LoraTask(replace(LORA, model=reading, t5=True), OwnPictures(pictures), tmp_path, CPU)
    assert set(task.networks) == {"transformer", "text_3"}
    run(task, tmp_path)
    sd = sfumato.load(reading, dtype="float32")
    plain = sd.encode(["a red heart"])[0].tokens
    sd.adapters.add(tmp_path / "export" / "lora.safetensors")
    settings = Settings.of(sd.spec, "a red heart")
    with torch.no_grad():
        told = sd.for_request(settings).for_picture(settings).encode(["a red heart"])[0].tokens
        trained = task.model.encode(["a red heart"])[0].tokens
    torch.testing.assert_close(told, trained, atol=1e-4, rtol=1e-4)
    assert (told - plain)[:, 77:].abs().max() > 1e-4 and torch.equal(told[:, :77], plain[:, :77])


def test_a_whole_model_keeps_its_t5(reading: str, released, pictures: Path, tmp_path: Path) -> None:
    cfg = FullTraining(
        loop=replace(SHORT, lr=1e-4), model=reading, data={"resolution": SIDE}, precision="float32", t5=True,
        sheet_steps=1,
    )  # fmt: skip
    task = FullTask(cfg, OwnPictures(pictures), tmp_path, CPU)
    run(task, tmp_path)
    found = sfumato.load(tmp_path / "export", dtype="float32")
    own, theirs = task.networks["text_3"].state_dict(), found.networks["text_3"].state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in own.items())
    assert found.encode.t5 is not None and found.encode.t5.tokenizer is not None
    with pytest.raises(SfumatoError, match="does not read T5"):
        LoraTask(replace(LORA, model=released("sd1"), t5=True), OwnPictures(pictures), tmp_path, CPU)


def test_captions_are_encoded_once_for_all_runs(
    released, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded: list[str] = []
    call = TextEncoder.__call__

    def counted(self: TextEncoder, prompts: list[str], *rest: object) -> object:
        encoded.extend(map(str, prompts))
        return call(self, prompts, *rest)

    monkeypatch.setattr(TextEncoder, "__call__", counted)
    found = []
    for _ in range(2):
        task = LoraTask(replace(LORA, model=released("sdxl")), OwnPictures(pictures), tmp_path, CPU)
        found.append(task._measured(task.pictures.validation()[:2]))
    assert encoded == ["a red heart", "a blue heart"]
    assert torch.equal(found[0].tokens, found[1].tokens) and torch.equal(found[0].pooled, found[1].pooled)
