"""Texts and pictures in one space, by a network of random weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from sfumato.errors import SfumatoError
from sfumato.loading.exports import load_clip, save_clip
from sfumato.nets.dual_encoder import CLIP
from sfumato.nets.image_tower import ImageTowerConfig
from sfumato.pipeline.clip_scorer import ClipScorer, first_of, load_scorer
from sfumato.spec import CLIPTextConfig
from sfumato.text.tokenizer import CLIPTokenizer

CPU = torch.device("cpu")
KINDS = {"concept": 9, "style": 4}
HELD_OUT = ["3d/1f600"]


def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.train(["a red apple", "a blue car", "ein Hund"] * 3, 600, max_length=16)


def network(tokenizer: CLIPTokenizer) -> CLIP:
    text = CLIPTextConfig(
        vocab_size=tokenizer.vocab_size, hidden_size=32, intermediate_size=64, layers=1, heads=2, max_length=16,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    torch.manual_seed(1)
    return CLIP(text, ImageTowerConfig(size=16, stem=8, channels=(16,), blocks=(1,)), 24, KINDS).eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, words = tmp_path_factory.mktemp("clip"), tokenizer()
    save_clip(folder, network(words), words, HELD_OUT)
    return folder


@pytest.fixture
def scorer(folder: Path) -> ClipScorer:
    return load_scorer(folder, CPU)


def test_weights_come_back_in_half_precision_and_tables_in_a_quarter(folder: Path):
    loaded, words, held_out = load_clip(folder)
    before = network(words)
    for name, value in loaded.state_dict().items():
        close = 0.07 if name in ("classes", "text.text_model.embeddings.token_embedding.weight") else 1e-3
        torch.testing.assert_close(value, before.state_dict()[name], rtol=close, atol=2e-3)
    assert held_out == set(HELD_OUT) and loaded.kinds == KINDS


def test_equal_texts_get_equal_vectors_in_the_order_given(scorer: ClipScorer):
    texts = ["a red apple", "a car", "a red apple", "ein Hund und ein Apfel"]
    vectors = scorer.encode_text(texts)
    assert vectors.shape == (4, scorer.width) == (4, 13) and vectors.dtype == torch.float32
    assert torch.equal(vectors[0], vectors[2]) and not torch.equal(vectors[0], vectors[1])
    for text, vector in zip(texts, vectors, strict=True):
        torch.testing.assert_close(scorer.encode_text([text])[0], vector)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4))


def test_vectors_are_probabilities_of_which_the_first_kind_counts_most(scorer: ClipScorer):
    vector = scorer.encode_text(["a dog"])[0]
    assert (vector > 0).all()
    concepts, styles = vector.split(list(KINDS.values()))
    torch.testing.assert_close(styles.norm() / concepts.norm(), torch.tensor(0.3))


def test_pictures_of_any_size_with_a_gradient(scorer: ClipScorer):
    x = (torch.rand(2, 3, 16, 16) * 2 - 1).requires_grad_()
    larger = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(scorer.encode_image(larger), scorer.encode_image(x))
    scorer.encode_image(larger)[:, 0].sum().backward()
    assert x.grad is not None and x.grad.abs().sum() > 0
    assert scorer.encode_image(torch.rand(1, 3, 9, 40)).shape == (1, scorer.width)


def test_what_is_no_clip_is_refused_in_one_line(folder: Path, tmp_path: Path):
    with pytest.raises(SfumatoError, match="sfumato train clip"):
        load_scorer(tmp_path, CPU)
    save_file({"x": torch.zeros(1)}, tmp_path / "clip.safetensors")
    with pytest.raises(SfumatoError, match="sfumato train clip"):
        load_scorer(tmp_path, CPU)
    (tmp_path / "clip.safetensors").write_bytes((folder / "clip.safetensors").read_bytes()[:1000])
    with pytest.raises(SfumatoError, match=r"clip\.safetensors"):
        load_scorer(tmp_path, CPU)


def test_being_first_of_100_is_the_mean_over_all_draws():
    generator = torch.Generator().manual_seed(0)
    scores = torch.rand(6, 20, generator=generator)
    own = torch.eye(6, 20, dtype=torch.bool)
    found = first_of(scores, own, 5)
    for row in range(6):
        others = [k for k in range(20) if k != row]
        wins = 0
        for _ in range(4000):
            drawn = torch.tensor(others)[torch.randperm(19, generator=generator)[:4]]
            wins += int((scores[row, drawn] < scores[row, row]).all())
        assert found[row].item() == pytest.approx(wins / 4000, abs=0.03)


def test_the_best_of_what_fits_counts_and_ties_and_broken_scores_are_misses():
    scores = torch.tensor([[0.1, 0.9, 0.5], [0.5, 0.5, 0.1], [torch.nan, 0.1, 0.2]])
    fitting = torch.tensor([[True, True, False], [True, False, False], [True, False, False]])
    assert first_of(scores, fitting).tolist() == [1, 0, 0]
