"""Tokens of a frozen tokenizer are computed once, and never taken for those of another."""

import numpy as np
import pytest
import torch

from eeg2fmri_dist.config.model import CaeConfig, TransformerConfig
from eeg2fmri_dist.config.train import DataConfig, SplitConfig
from eeg2fmri_dist.data.normalization import fit_scaling
from eeg2fmri_dist.data.splits import make_split
from eeg2fmri_dist.data.windows import DeviceWindows, WindowData
from eeg2fmri_dist.models.build import build_model
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.batches.tokens import TokenCache, prepare_tokens
from eeg2fmri_dist.training.store_facts import store_sizes
from tests.helpers.stores import make_store

CPU = torch.device("cpu")


@pytest.fixture
def parts(tmp_path):
    store = Store(make_store(tmp_path / "store.h5", n_volumes=20))
    config = DataConfig(window=8, context=2)
    split = make_split(store.recordings, SplitConfig())
    scaling = fit_scaling(store, split.train, config)
    torch.manual_seed(0)
    model = build_model(
        TransformerConfig(d_model=16), CaeConfig(d_token=4, widths=(8, 16)), store_sizes(store, 2)
    )

    def data():
        return [
            WindowData(store, part, config, scaling) for part in (split.train, split.validation)
        ]

    return model, data


def tokens_of(data):
    return data.batch(data.training_windows(), ["tokens"])["tokens"].numpy()


def test_tokens_are_what_the_model_makes_of_the_volumes(parts):
    model, data = parts
    train, validation = data()
    prepare_tokens(model, train, validation, None, CPU)
    for part in (train, validation):
        bold = part.batch(part.training_windows(), ["bold"])["bold"]
        with torch.no_grad():
            expected = model.encode_volumes(bold).numpy()
        np.testing.assert_allclose(tokens_of(part), expected, atol=1e-4)


def test_kept_tokens_are_used_again_and_only_for_the_same_weights(parts, tmp_path, monkeypatch):
    model, data = parts
    train, validation = data()
    prepare_tokens(model, train, validation, TokenCache(tmp_path / "t", "a", may_write=True), CPU)
    assert len(list((tmp_path / "t").iterdir())) == 2

    def refuse(volumes):
        raise AssertionError("encoded again")

    monkeypatch.setattr(model.tokenizer, "encode", refuse)
    again, again_validation = data()
    cache = TokenCache(tmp_path / "t", "a", may_write=False)
    prepare_tokens(model, again, again_validation, cache, CPU)
    np.testing.assert_array_equal(tokens_of(again), tokens_of(train))
    with pytest.raises(AssertionError, match="encoded again"):
        prepare_tokens(model, *data(), TokenCache(tmp_path / "t", "b", may_write=False), CPU)


def test_a_damaged_file_is_computed_again(parts, tmp_path):
    model, data = parts
    cache = TokenCache(tmp_path / "t", "a", may_write=True)
    prepare_tokens(model, *data(), cache, CPU)
    for path in (tmp_path / "t").iterdir():
        path.write_bytes(path.read_bytes()[:40])
    train, validation = data()
    prepare_tokens(model, train, validation, cache, CPU)
    assert np.isfinite(tokens_of(train)).all()


def test_a_place_that_cannot_be_written_only_costs_time(parts, tmp_path):
    model, data = parts
    (tmp_path / "file").write_text("not a folder")
    cache = TokenCache(tmp_path / "file", "a", may_write=True)
    train, validation = data()
    prepare_tokens(model, train, validation, cache, CPU)
    assert np.isfinite(tokens_of(validation)).all()


def test_a_copy_on_the_device_gives_the_same_batches(parts):
    model, data = parts
    train, validation = data()
    prepare_tokens(model, train, validation, None, CPU)
    fields = ("eeg", "bold", "tokens")
    windows = train.training_windows()[::-1]
    copied = DeviceWindows(train, fields, CPU).batch(windows, fields)
    for field, expected in train.batch(windows, fields).items():
        assert torch.equal(copied[field], expected), field
