"""requirements.txt and environment.yml say the same, and all of it is pinned."""

import re
from importlib import metadata

from helpers.records import ROOT


def pins(text: str) -> list[str]:
    return sorted(re.findall(r"^[\s-]*([\w-]+==[\w.]+)$", text, re.MULTILINE))


def test_environment_yml_names_what_requirements_txt_names():
    requirements = pins((ROOT / "requirements.txt").read_text())
    assert requirements and pins((ROOT / "environment.yml").read_text()) == requirements


def test_every_requirement_is_pinned_to_one_version():
    lines = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert sorted(lines) == pins("\n".join(lines))


def test_what_runs_here_is_what_is_pinned():
    installed = {pin: metadata.version(pin.split("==")[0]) for pin in pins((ROOT / "requirements.txt").read_text())}
    assert all(pin.endswith(f"=={version}") for pin, version in installed.items())
