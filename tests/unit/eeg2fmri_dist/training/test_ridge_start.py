"""A Transformer that starts at ridge regression, against what ridge itself predicts."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from eeg2fmri_dist.config.model import (
    CaeConfig,
    PrincipalComponentsConfig,
    RidgeConfig,
    TransformerConfig,
)
from eeg2fmri_dist.config.train import DataConfig
from eeg2fmri_dist.data.normalization import fit_scaling
from eeg2fmri_dist.data.splits import Segment
from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.errors import ConfigError
from eeg2fmri_dist.models.build import build_model
from eeg2fmri_dist.models.least_squares import solve_ridge
from eeg2fmri_dist.store import Store
from eeg2fmri_dist.training.batches.tokens import prepare_tokens
from eeg2fmri_dist.training.fitting.ridge import make_ridge, sum_recordings
from eeg2fmri_dist.training.ridge_start import SHARE_OF_PENALTY, start_at_ridge
from eeg2fmri_dist.training.store_facts import store_sizes
from tests.helpers.stores import make_store

CONTEXT, VOLUMES = 12, 100
TOKENISERS = {
    "components": PrincipalComponentsConfig(d_token=6),
    "cae": CaeConfig(d_token=6, widths=(8, 16)),
}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("start") / "store.h5"
    return Store(make_store(path, n_subjects=4, n_volumes=VOLUMES))


@pytest.fixture(scope="module")
def parts(store):
    """Two training recordings, one for validation, one that nobody has seen."""
    config = DataConfig(window=16, context=CONTEXT)
    segments = [
        Segment(n, entry.first_sample, entry.first_sample + entry.n_samples)
        for n, entry in enumerate(store.recordings)
    ]
    scaling = fit_scaling(store, segments[:2], config)
    return [
        WindowData(store, part, config, scaling)
        for part in (segments[:2], segments[2:3], segments[3:])
    ]


@pytest.fixture(scope="module")
def ridge(store, parts):
    return fit_ridge(store, parts)


def fit_ridge(store, parts, **options):
    model = make_ridge(store, CONTEXT, RidgeConfig(**options))
    sums = (sum_recordings(model, part) for part in parts[:2])
    weighting = 1 if model.products else 0  # not all features alike, and all of them in use
    model.take(solve_ridge(*sums, [model.weightings()[weighting]]))
    return model.eval()


def started(store, parts, ridge, kind, context=CONTEXT):
    products = {"skip_from": "ridge", "skip_quadratic": ridge.products is not None}
    config = TransformerConfig(d_model=16, layers=1, **products)
    torch.manual_seed(0)
    model = build_model(config, TOKENISERS[kind], store_sizes(store, context))
    prepare_tokens(model, parts[0], parts[1], None, torch.device("cpu"))
    start_at_ridge(model, ridge, parts[0])
    return model.eval()


@torch.no_grad()
def predictions(model, ridge, data):
    """Volumes of the Transformer, which feeds its tokens back, and of ridge."""
    eeg = torch.from_numpy(data.segment("eeg", 0))[None]
    return model.generate_volumes(eeg, VOLUMES)[0], ridge(eeg)[0]


def test_few_volumes_do_not_matter_where_tokens_are_linear(store, parts):
    """With fewer volumes than features, more than one set of weights would fit them."""
    few = Segment(0, 0, 30)
    config = parts[0].config
    scaling = fit_scaling(store, [few], config)
    short = [WindowData(store, [few], config, scaling), *parts[1:]]
    ridge = fit_ridge(store, short)
    assert ridge.num_features > 2 * 30
    model = started(store, short, ridge, "components")
    ours, theirs = predictions(model, ridge, parts[2])
    torch.testing.assert_close(ours, model.tokenizer(theirs), rtol=1e-3, atol=1e-4)


def test_with_components_it_predicts_what_ridge_does_projected_onto_them(store, parts, ridge):
    model = started(store, parts, ridge, "components")
    ours, theirs = predictions(model, ridge, parts[2])
    torch.testing.assert_close(ours, model.tokenizer(theirs), rtol=1e-3, atol=1e-4)
    assert ours.std() > 0.1


def test_products_of_bands_come_along(store, parts):
    ridge = fit_ridge(store, parts, products=True)
    assert ridge.coefficients[ridge.features.size :].abs().max() > 1e-3
    model = started(store, parts, ridge, "components")
    ours, theirs = predictions(model, ridge, parts[2])
    torch.testing.assert_close(ours, model.tokenizer(theirs), rtol=1e-3, atol=1e-4)


def test_with_a_cae_the_skip_is_fitted_to_the_tokens_of_what_ridge_predicts(store, parts, ridge):
    """By numpy's least squares, the penalty as further rows."""
    model = started(store, parts, ridge, "cae")
    features, tokens = [], []
    with torch.no_grad():
        for number in range(2):
            eeg = torch.from_numpy(parts[0].segment("eeg", number))[None]
            features.append((ridge.band_features(eeg)[0, CONTEXT:] * ridge.weighting).numpy())
            tokens.append(model.encode_volumes(ridge(eeg))[0].double().numpy())
    penalty = np.sqrt(SHARE_OF_PENALTY * float(ridge.penalty)) * np.eye(features[0].shape[1])
    x = np.concatenate([*(part - part.mean(0) for part in features), penalty])
    y = np.concatenate([part - part.mean(0) for part in tokens])
    weights = np.linalg.lstsq(x, np.pad(y, ((0, len(penalty)), (0, 0))), rcond=None)[0]
    eeg = torch.from_numpy(parts[2].segment("eeg", 0))[None]
    with torch.no_grad():
        new = (ridge.band_features(eeg)[0, CONTEXT:] * ridge.weighting).numpy()
        ours = model.eeg_to_tokens.generate(eeg, VOLUMES)[0].numpy()
    means = np.mean(tokens, axis=(0, 1)), np.mean(features, axis=(0, 1))
    np.testing.assert_allclose(ours, means[0] + (new - means[1]) @ weights, rtol=1e-3, atol=1e-4)


def test_it_is_no_longer_ridge_when_the_decoder_has_a_say(store, parts, ridge):
    model = started(store, parts, ridge, "components")
    before, _ = predictions(model, ridge, parts[2])
    torch.nn.init.normal_(model.eeg_to_tokens.head.weight)
    after, _ = predictions(model, ridge, parts[2])
    assert (after - before).abs().max() > 0.01


def test_parts_that_ridge_is_made_of_are_needed(store, parts, ridge):
    for missing in ("linear_skip", "hrf_front_end"):
        with pytest.raises(ValidationError, match="skip_from needs"):
            TransformerConfig.model_validate({"skip_from": "runs/ridge", missing: False})
    with pytest.raises(ValidationError, match="skip_quadratic needs skip_from"):
        TransformerConfig(skip_quadratic=True)
    with pytest.raises(ConfigError, match=r"set data\.context=12"):
        started(store, parts, ridge, "components", context=10)
