"""The ablation's sweep file: the whole recipe, then one part changed at a time."""

import pytest

from eeg2fmri_dist.config import load_config
from eeg2fmri_dist.config.sweep import SweepConfig
from eeg2fmri_dist.config.train import TrainConfig
from eeg2fmri_dist.files.made_from import differences
from eeg2fmri_dist.sweep.space import as_overrides, grid, values_of
from tests.helpers.repository import ROOT

# Changing these needs another start, so they are compared with the recipe without one.
NEEDS_OTHER_START = {"model.linear_skip", "model.hrf_front_end", "data"}


def trials(*changes):
    """Training config of each trial; one that is refused raises."""
    sweep = load_config(SweepConfig, ROOT / "configs" / "sweep" / "ablation.yaml", list(changes))
    fixed = as_overrides(sweep.overrides)
    for params in grid(sweep.search):
        overrides = as_overrides(values_of(params, sweep.search))
        yield load_config(TrainConfig, ROOT / sweep.base, [*fixed, *overrides])


def changed_parts(whole, other):
    """Keys that differ, a section that is replaced whole counting once."""
    keys = [key for key, *_ in differences(*(c.model_dump(mode="json") for c in (whole, other)))]
    return {key.split(".")[0] if key.startswith(("tokenizer", "data")) else key for key in keys}


def test_each_trial_changes_one_part_of_the_recipe_and_none_comes_twice():
    whole, *others = trials()
    assert len({config.model_dump_json() for config in [whole, *others]}) == 1 + len(others) >= 15
    for config in others:
        changed = changed_parts(whole, config)
        if changed & NEEDS_OTHER_START:
            assert "model.skip_from" in changed
            changed.remove("model.skip_from")
        changed.discard("optimization.loss_volumes")
        assert len(changed) == 1, changed


def test_the_whole_recipe_is_the_base_config():
    whole = next(trials())
    path = ROOT / "configs" / "train" / "demo" / "transformer_from_ridge.yaml"
    assert whole == load_config(TrainConfig, path)


@pytest.mark.parametrize(
    "base", [["transformer_from_ridge", "overrides.data.eeg_scale=power"], ["study/transformer"]]
)
def test_no_trial_is_refused_on_the_other_bases_that_are_documented(base):
    """In the file's header, and in docs/ridge.md."""
    name, *more = base
    found = list(trials(f"base=configs/train/{name}.yaml", *more))
    assert len(found) == len(list(trials()))
    assert {config.data.eeg_scale for config in found} == {"power", "log"}
