import numpy as np

from sfumato.data.emoji.captions import STYLES
from sfumato.data.emoji.dataset import EmojiData
from sfumato.evaluate.emoji.styles import styles_of
from sfumato.evaluate.emoji.variety import measure_variety
from sfumato.evaluate.pictures import Looks, look, on_white


def of_concept(data: EmojiData, concept: int) -> np.ndarray:
    return np.array([i for i in range(len(data)) if data.concept_index(i) == concept])


def test_a_style_is_that_of_the_nearest_artwork(squares: EmojiData, connoisseur):
    numbers = of_concept(squares, 5)
    real = look(connoisseur, numbers, on_white(squares, numbers))
    noisy = Looks(numbers[[2] * 6], real.vectors, real.thumbnails + 0.01)
    assert styles_of(squares, noisy, real) == [squares.style(int(i)) for i in numbers] == list(STYLES)


def test_variety_is_none_where_all_seeds_are_alike(squares: EmojiData, connoisseur):
    numbers = of_concept(squares, 5)
    real = look(connoisseur, numbers, on_white(squares, numbers))
    alike = real.at(np.array([1, 1, 1]))
    found = measure_variety(squares, alike, real, 3)
    assert found.between_seeds.mean == 0 and found.styles.mean == 1 and found.between_styles.mean > 0.01
    several = measure_variety(squares, real.at(np.array([0, 3, 5])), real, 3)
    assert several.styles.mean == 3 and several.between_seeds.n == 3
