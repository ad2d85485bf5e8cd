from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sfumato.errors import SfumatoError
from sfumato.evaluate.judge import load_judge

CPU = torch.device("cpu")


def test_equal_captions_get_equal_vectors_in_the_order_given(judge: Path):
    loaded = load_judge(judge, 32, CPU)
    texts = ["c03 en, flat icon", "c01 en", "c03 en, flat icon", "c01 en, twemoji"]
    vectors = loaded.texts(texts)
    assert vectors.shape == (4, loaded.width) and vectors.dtype == torch.float32
    assert torch.equal(vectors[0], vectors[2])
    for text, vector in zip(texts, vectors, strict=True):
        torch.testing.assert_close(loaded.texts([text])[0], vector)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))


def test_pictures_of_any_multiple(judge: Path):
    x = torch.rand(2, 3, 16, 16) * 2 - 1
    larger = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(load_judge(judge, 32, CPU).pictures(larger), load_judge(judge, 16, CPU).pictures(x))


def test_what_is_no_judge_is_refused_in_one_line(judge: Path, tmp_path: Path):
    with pytest.raises(SfumatoError, match="sfumato train clip"):
        load_judge(tmp_path, 32, CPU)
    save_file({"x": torch.zeros(1)}, tmp_path / "clip.safetensors")
    with pytest.raises(SfumatoError, match="no judge that this version reads"):
        load_judge(tmp_path, 32, CPU)
    (tmp_path / "clip.safetensors").write_bytes((judge / "clip.safetensors").read_bytes()[:1000])
    with pytest.raises(SfumatoError, match="no judge that this version reads"):
        load_judge(tmp_path, 32, CPU)
    with pytest.raises(SfumatoError, match="expected a multiple"):
        load_judge(judge, 24, CPU)
