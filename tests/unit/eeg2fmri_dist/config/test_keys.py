"""The keys of all commands are frozen: one that changes is a promise broken to stored configs.

python -m tests.unit.eeg2fmri_dist.config.test_keys    # renews keys.txt
"""

from pathlib import Path

from eeg2fmri_dist.config import describe
from tests.unit.eeg2fmri_dist.config.test_loading import SCHEMAS

FROZEN = Path(__file__).with_name("keys.txt")


def list_keys() -> str:
    """Return verb, key and type with default of every key, one a line."""
    return "".join(
        f"{verb} {line.partition(')  ')[0]}{')' if ')  ' in line else ''}\n"
        for verb, schema in SCHEMAS.items()
        for line in describe(schema)
        if ":  " not in line and ", " not in line.partition("  ")[0]
    )


def test_keys_types_and_defaults_are_those_of_the_last_version():
    now, frozen = list_keys().splitlines(), FROZEN.read_text(encoding="utf-8").splitlines()
    gone, new = sorted(set(frozen) - set(now)), sorted(set(now) - set(frozen))
    assert now == frozen, (
        f"keys changed. No longer there: {gone}. New: {new}. If that is meant, give the schema an "
        "entry in `renamed` for each old name, and run "
        "`python -m tests.unit.eeg2fmri_dist.config.test_keys`."
    )


if __name__ == "__main__":
    FROZEN.write_text(list_keys(), encoding="utf-8")
