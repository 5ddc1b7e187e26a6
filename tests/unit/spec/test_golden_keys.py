"""Match keys of every shipped suite, as recorded: a change here cuts new rows off from all rows that exist.

``python tests/unit/spec/test_golden_keys.py`` records them anew, for a change that is meant.
"""

import json
from pathlib import Path

import pytest

from perwatt import configs
from perwatt.spec import suite

RECORD = Path(__file__).with_name("golden_keys.json")


def keys(name: str) -> dict[str, str]:
    return {case.name: case.match_key for case in suite.load(name).cases}


@pytest.mark.parametrize("name", configs.names("suites"))
def test_keys_are_those_recorded(name: str) -> None:
    recorded = json.loads(RECORD.read_text())[name]
    assert recorded, "a suite without keys records nothing"
    assert keys(name) == recorded


@pytest.mark.parametrize("name", configs.names("suites"))
def test_no_two_cases_share_a_key_unless_they_are_measured_differently(name: str) -> None:
    identities = [case.identity for case in suite.load(name).cases]
    assert len(set(identities)) == len(identities)


if __name__ == "__main__":
    RECORD.write_text(json.dumps({name: keys(name) for name in configs.names("suites")}, indent=1) + "\n")
