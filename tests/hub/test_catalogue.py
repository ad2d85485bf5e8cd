"""The catalogue and the licences as data."""

import re

import pytest

from sfumato.errors import SfumatoError
from sfumato.families import FAMILIES
from sfumato.hub.catalogue import RELEASES, release
from sfumato.hub.licences import LICENCES, licence


def test_every_official_release_is_named() -> None:
    ones = {f"sd1.{minor}" for minor in range(1, 6)} | {"sd1.5-inpainting"}
    twos = {"sd2.0-base", "sd2.0", "sd2.0-inpainting", "sd2.0-depth", "sd2.1-base", "sd2.1", "x4-upscaler"}
    later = {"sdxl", "sdxl-refiner", "sdxl-turbo", "sd3-medium", "sd3.5-medium", "sd3.5-large", "sd3.5-large-turbo"}
    assert ones | twos | later <= {one.name for one in RELEASES}


def test_entries_are_well_formed_and_told_apart() -> None:
    names = [known for one in RELEASES for known in {one.name, one.repository, one.folder, *one.former} if known]
    assert len(names) == len(set(names))
    hashes = [one.file.sha256 for one in RELEASES if one.file.sha256]
    assert len(hashes) == len(set(hashes)) and all(re.fullmatch("[0-9a-f]{64}", value) for value in hashes)
    for one in RELEASES:
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", one.repository) and "/" not in one.file.name
        assert licence(one.licence).id == one.licence
        assert one.folder or one.layout == "original"


UNKNOWN = {"sd2_unclip"}  # its addresses and hashes could not be checked


def test_every_family_has_a_release_and_every_release_a_family() -> None:
    for family in FAMILIES:
        if not family.spec.licence or family.name in UNKNOWN:  # nobody's release: what is trained here
            continue
        ours = [one for one in RELEASES if one.family == family.name and one.part is None]
        assert ours, family.name
        official = [release for release in family.releases if release.licence]
        assert {one.variant for one in ours} == {release.variant or None for release in official}
        for variant in official:
            named = {licence(variant.licence).id}
            assert {one.licence for one in ours if one.variant == (variant.variant or None)} == named


def test_releases_are_found_by_name_and_by_repositories_past_and_present() -> None:
    for name in ("sd1.5", "SD1.5", "runwayml/stable-diffusion-v1-5", "stable-diffusion-v1-5/Stable-Diffusion-v1-5"):
        found = release(name)
        assert found is not None and found.name == "sd1.5"
    assert release("sd9") is None


def test_licences_say_something() -> None:
    for one in LICENCES:
        assert one.url.startswith("https://") and one.allows and licence(one.title) is licence(one.id)
    assert len(licence("creativeml-openrail-m").forbids) == 9
    with pytest.raises(SfumatoError, match="known are creativeml-openrail-m, openrail"):
        licence("none")
