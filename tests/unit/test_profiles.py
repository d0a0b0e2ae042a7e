"""The profiles, and the page that documents them."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

from ams_grpc.broker.policies import DAY_US, SECOND_US
from ams_grpc.broker.profiles import DIFFERENCES, EMULATOR, PROFILES, STRICT, Profile

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "profiles.md"


def test_strict_keeps_the_documented_limits() -> None:
    assert STRICT.min_ack_deadline_s == 10
    assert STRICT.min_expiration_us == DAY_US


def test_emulator_lets_tests_be_quick() -> None:
    assert EMULATOR.min_ack_deadline_s == 1
    assert EMULATOR.min_expiration_us == SECOND_US


def test_a_profile_is_found_by_its_name() -> None:
    assert PROFILES == {"strict": STRICT, "emulator": EMULATOR}


def test_every_setting_of_a_profile_is_a_row_of_the_table() -> None:
    settings = [field.name for field in dataclasses.fields(Profile) if field.name != "name"]

    assert [difference.field for difference in DIFFERENCES] == settings


def test_every_row_is_a_difference() -> None:
    for difference in DIFFERENCES:
        assert getattr(STRICT, difference.field) != getattr(EMULATOR, difference.field)


def test_the_page_of_profiles_is_current() -> None:
    generator = ROOT / "scripts" / "generate_profiles_doc"
    made = subprocess.run(
        [sys.executable, generator, "--print"], check=True, capture_output=True, text=True
    )

    assert PAGE.read_text(encoding="utf-8") == made.stdout, f"run {generator.name}"
