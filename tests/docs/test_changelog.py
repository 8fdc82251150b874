"""The changelog, which has a place for the version that is being made."""

import re

from tests.docs.pages import text
from tests.support.contract import DOCUMENT
from tests.support.servers import ROOT
from web.openapi import VERSION


def test_it_begins_with_the_version_of_the_package_and_of_the_contract() -> None:
    headings = re.findall(r"^## (.*)$", text(ROOT / "CHANGELOG.md"), re.MULTILINE)
    versions = [re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (unreleased|\d{4}-\d\d-\d\d)", heading) for heading in headings]
    numbers = [version[1] for version in versions if version]

    assert len(numbers) == len(headings)
    assert numbers[0] == VERSION == DOCUMENT["info"]["version"]
    assert [number for number in numbers[1:] if f"[{number}] - unreleased" in headings] == []
