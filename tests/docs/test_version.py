"""The version that is being made, wherever it is written."""

import re

from tests.docs.pages import text
from tests.support.contract import DOCUMENT
from tests.support.servers import ROOT
from web.openapi import VERSION


def test_the_changelog_begins_with_the_version_of_the_package_the_contract_and_the_image() -> None:
    headings = re.findall(r"^## (.*)$", text(ROOT / "CHANGELOG.md"), re.MULTILINE)
    versions = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (unreleased|\d{4}-\d\d-\d\d)", heading) for heading in headings]
    numbers = [version[1] for version in versions if version]

    assert len(numbers) == len(headings)
    assert numbers[0] == VERSION == DOCUMENT["info"]["version"]
    assert f'image.version="{VERSION}"' in text(ROOT / "Dockerfile")
    assert [number for number in numbers[1:] if f"[{number}] - unreleased" in headings] == []
