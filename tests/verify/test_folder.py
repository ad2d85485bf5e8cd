"""Patterns."""

import pytest

from sfumato.errors import SfumatoError
from sfumato.verify.cases import failing
from sfumato.verify.folder import matches, select

PATHS = [
    "manifests/original/sd1",
    "samplers/ldm/plms",
    "tiny/controlnet_sd15/unet.out",
    "tiny/sd1/e2e.image",
    "tiny/sd1/unet.out",
    "tiny/sd1_inpainting_unet/unet.out",
]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("tiny/sd1", PATHS[3:5]),
        ("tiny/sd1/", PATHS[3:5]),
        ("tiny/sd1/unet.out", PATHS[4:5]),
        ("tiny/sd", []),
        ("sd1", []),
        ("tiny", PATHS[2:]),
        ("*/controlnet*", PATHS[2:3]),
        ("tiny/sd1*", PATHS[3:]),
        ("*/unet.out", [PATHS[2], *PATHS[4:]]),
        ("*", PATHS),
        ("tiny/sd[1-2]/*", PATHS[3:5]),
        ("TINY/sd1", []),
    ],
)
def test_a_pattern_is_a_glob_or_leading_whole_names(pattern: str, expected: list[str]) -> None:
    assert [path for path in PATHS if matches(path, pattern)] == expected


def test_only_and_except() -> None:
    cases = [failing(path, "") for path in PATHS]

    def selected(*patterns: str, without: tuple[str, ...] = ()) -> list[str]:
        return [case.path for case in select(cases, patterns, without)]

    assert selected() == PATHS
    assert selected("samplers", "tiny/sd1", without=("*/e2e*",)) == [PATHS[1], PATHS[4]]
    with pytest.raises(SfumatoError, match="no case matches 'sampler'"):
        selected("tiny", "sampler")
    with pytest.raises(SfumatoError, match="no case is selected"):
        selected("tiny", without=("tiny",))


def test_a_broken_list_stands_for_what_it_would_have_listed() -> None:
    broken = failing("samplers/ldm", "", stands_for_more=True)
    for pattern in ("samplers", "samplers/ldm/plms", "samplers/*/plms", "*"):
        assert select([broken], [pattern]) == [broken]
    with pytest.raises(SfumatoError):
        select([broken], ["samplers/sgm/plms"])
    assert select([broken], ["samplers"], ["samplers/ldm/plms"]) == [broken]
