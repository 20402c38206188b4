"""Transformer: what may depend on what, cached generation, learning."""

import itertools

import numpy as np
import pytest
import torch
from nilearn.glm.first_level import spm_hrf
from torch import nn

from eeg2fmri_dist.config.model import CaeConfig, PrincipalComponentsConfig, TransformerConfig
from eeg2fmri_dist.errors import ConfigError, DataError
from eeg2fmri_dist.models.attention import KeyValueCache
from eeg2fmri_dist.models.build import DataSizes, build_model, count_parameters
from eeg2fmri_dist.models.eeg_features import EegFeatures, EegProjection
from eeg2fmri_dist.models.hrf import canonical_hrf, hrf_basis, hrf_shapes
from eeg2fmri_dist.models.transformer import EegToTokens

CHANNELS, FREQUENCIES, D_TOKEN, TR_S = 5, 4, 6, 2.16
PAPER = {
    "hrf_front_end": False,
    "linear_skip": False,
    "positions": "sinusoidal",
    "attention_span": None,
    "teacher_forcing_ratio": 1.0,
}


def eeg_to_tokens(context=3, **options):
    torch.manual_seed(0)
    sizes = {"d_model": 16, "num_heads": 2, "layers": 2, "attention_span": 4} | options
    config = TransformerConfig(**sizes)
    model = EegToTokens(
        CHANNELS, FREQUENCIES, context=context, tr_s=TR_S, d_token=D_TOKEN, config=config
    )
    for parameter in model.parameters():  # biases and skip start at 0 and would hide mistakes
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def window(num_volumes, context=3, batch=2):
    torch.manual_seed(1)
    eeg = torch.randn(batch, context + num_volumes, CHANNELS, FREQUENCIES)
    return eeg, torch.randn(batch, num_volumes, D_TOKEN)


def changed_trs(before, after):
    """TRs at which two outputs (batch, T, d) differ."""
    return ((before - after).abs().amax((0, 2)) > 1e-5).nonzero()[:, 0].tolist()


VARIANTS = {
    "own": {},
    "paper": PAPER,
    "paper, EEG seen both ways": {**PAPER, "causal_eeg": False},
    "span, EEG seen both ways": {"causal_eeg": False},
    "span of one": {"attention_span": 1},
    "no span": {"attention_span": None},
    "queries only": {"teacher_forcing_ratio": 0.0},
}


@pytest.mark.parametrize(("capacity", "span"), [(1, 1), (9, 1), (9, 4), (7, 4), (3, 8), (9, None)])
def test_the_cache_returns_the_latest_steps_and_holds_no_more_than_two_spans(capacity, span):
    cache = KeyValueCache(capacity, span)
    steps = torch.arange(float(capacity)).view(1, 1, capacity, 1)
    for t in range(capacity):
        keys, values = cache.append(steps[:, :, t : t + 1], -steps[:, :, t : t + 1])
        first = 0 if span is None else max(0, t + 1 - span)
        assert keys.flatten().tolist() == list(range(first, t + 1))
        assert torch.equal(values, -keys)
    assert cache.buffers[0].shape[2] <= 2 * (span or capacity)


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize(
    ("num_volumes", "context", "batch"), [(1, 0, 1), (2, 3, 3), (9, 0, 2), (12, 5, 2)]
)
def test_cached_generation_equals_the_uncached(options, num_volumes, context, batch):
    model = eeg_to_tokens(context, **options)
    eeg, _ = window(num_volumes, context, batch)
    generated = model.generate(eeg, num_volumes)
    assert generated.shape == (batch, num_volumes, D_TOKEN)
    assert (generated - model.generate_uncached(eeg, num_volumes)).abs().max() < 1e-5


@pytest.mark.parametrize("options", VARIANTS.values(), ids=VARIANTS)
def test_showing_generated_tokens_reproduces_them(options):
    model = eeg_to_tokens(**options)
    eeg, _ = window(10)
    generated = model.generate(eeg, 10)
    torch.testing.assert_close(model(eeg, generated), generated, atol=1e-5, rtol=0)


def test_generation_runs_in_bfloat16():
    model = eeg_to_tokens()
    eeg, _ = window(8)
    expected = model.generate(eeg, 8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        generated = model.generate(eeg, 8)
    assert (generated.float() - expected).norm() < 0.1 * expected.norm()


def test_recordings_of_a_batch_are_generated_independently():
    model = eeg_to_tokens()
    eeg, _ = window(8, batch=3)
    torch.testing.assert_close(model.generate(eeg, 8)[1:2], model.generate(eeg[1:2], 8))


def test_generation_goes_beyond_the_distances_that_have_a_bias_of_their_own():
    model = eeg_to_tokens(attention_span=None)
    eeg, _ = window(70, batch=1)
    generated = model.generate(eeg, 70)
    assert (generated - model.generate_uncached(eeg, 70)).abs().max() < 1e-5


@pytest.mark.parametrize("t", [0, 4, 8])
def test_a_token_changes_only_what_comes_after_it(t):
    model = eeg_to_tokens()
    eeg, tokens = window(9)
    before = model(eeg, tokens)
    tokens[:, t] += 1
    changed = changed_trs(before, model(eeg, tokens))
    reach = 2 * (4 - 1)  # two layers of span 4
    assert changed == list(range(t + 1, min(9, t + 2 + reach)))


@pytest.mark.parametrize("tr", [0, 2, 3, 7, 11])
def test_causal_eeg_changes_only_its_own_tr_and_what_comes_after(tr):
    model = eeg_to_tokens()
    eeg, tokens = window(9)
    before = model(eeg, tokens)
    eeg[:, tr] += 1
    assert changed_trs(before, model(eeg, tokens)) == list(range(max(0, tr - 3), 9))


def test_causal_generation_depends_on_nothing_later():
    model = eeg_to_tokens()
    eeg, _ = window(9)
    whole = model.generate(eeg, 9)
    torch.testing.assert_close(model.generate(eeg[:, :8], 5), whole[:, :5], atol=1e-5, rtol=0)


def test_eeg_seen_both_ways_reaches_earlier_volumes():
    model = eeg_to_tokens(**{**PAPER, "causal_eeg": False})
    eeg, tokens = window(9)
    before = model(eeg, tokens)
    eeg[:, -1] += 1
    assert changed_trs(before, model(eeg, tokens)) == list(range(9))


def test_dropped_tokens_are_not_looked_at():
    model = eeg_to_tokens()
    eeg, tokens = window(9)
    keep = torch.ones(2, 9, dtype=torch.bool)
    keep[:, 4] = False
    before = model(eeg, tokens, keep)
    assert changed_trs(before, model(eeg, tokens)) != []
    tokens[:, 4] += 1
    torch.testing.assert_close(model(eeg, tokens, keep), before, rtol=0, atol=0)


def test_keeping_all_is_the_default():
    model = eeg_to_tokens()
    eeg, tokens = window(5)
    keep = torch.ones(2, 5, dtype=torch.bool)
    torch.testing.assert_close(model(eeg, tokens, keep), model(eeg, tokens), rtol=0, atol=0)


def test_model_of_queries_only_never_sees_tokens():
    model = eeg_to_tokens(teacher_forcing_ratio=0.0)
    eeg, tokens = window(6)
    torch.testing.assert_close(model(eeg, tokens), model(eeg, -tokens), rtol=0, atol=0)
    torch.testing.assert_close(model.generate(eeg, 6), model(eeg, tokens), rtol=0, atol=1e-6)


def test_relative_positions_do_not_care_where_a_window_starts():
    """Same EEG two TRs later gives the same volumes, once the start is out of reach."""
    model = eeg_to_tokens(context=0, attention_span=3, layers=1, teacher_forcing_ratio=0.0)
    eeg, _ = window(40, context=0)
    whole, cut = model.generate(eeg, 40), model.generate(eeg[:, 2:], 38)
    torch.testing.assert_close(whole[:, 22:], cut[:, 20:], atol=1e-5, rtol=0)


def test_sinusoidal_positions_tell_trs_apart():
    model = eeg_to_tokens(context=0, **{**PAPER, "teacher_forcing_ratio": 0.0})
    eeg = torch.ones(1, 6, CHANNELS, FREQUENCIES)
    generated = model.generate(eeg, 6)
    assert (generated[:, 1:] - generated[:, :-1]).abs().amax((0, 2)).min() > 1e-4


def test_wrong_eeg_is_refused_with_the_sizes():
    model = eeg_to_tokens()
    eeg, tokens = window(5)
    with pytest.raises(DataError, match="4 channels x 4 frequencies"):
        model(eeg[:, :, :4], tokens)
    with pytest.raises(DataError, match="7 TRs of EEG for 5 volumes"):
        model(eeg[:, 1:], tokens)


def test_heads_that_do_not_divide_the_width_are_refused(tmp_path):
    from eeg2fmri_dist.config import load_config

    path = tmp_path / "model.yaml"
    path.write_text("d_model: 16\nnum_heads: 3\n")
    with pytest.raises(ConfigError, match="num_heads = 3 must divide d_model = 16"):
        load_config(TransformerConfig, path)


def test_one_batch_is_learned_by_heart():
    torch.manual_seed(0)
    config = TransformerConfig(
        d_model=32, num_heads=2, layers=1, dropout=0.0, eeg_dropout=0.0, attention_span=6
    )
    model = EegToTokens(CHANNELS, FREQUENCIES, context=3, tr_s=TR_S, d_token=D_TOKEN, config=config)
    eeg, tokens = window(10)
    keep = torch.rand(2, 10) < 0.25
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(40):
        loss = (model(eeg, tokens, keep) - tokens).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.1 * losses[0]


def test_front_end_starts_as_convolution_with_the_hrf():
    front_end = EegFeatures(CHANNELS, FREQUENCIES, tr_s=TR_S)
    eeg = torch.randn(2, 30, CHANNELS, FREQUENCIES)
    features = front_end(eeg).detach().unflatten(2, (3, CHANNELS, FREQUENCIES))
    for (batch, channel, frequency), kernel in itertools.product([(0, 0, 0), (1, 4, 2)], range(3)):
        hrf = hrf_shapes(TR_S)[kernel]
        series = eeg[batch, :, channel, frequency].numpy()
        expected = np.convolve(series, hrf)[:30]
        actual = features[batch, :, kernel, channel, frequency]
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_projection_equals_linear_layers_over_filtered_features():
    torch.manual_seed(0)
    projection = EegProjection(CHANNELS, FREQUENCIES, (6, 5), tr_s=TR_S, dropout=0.0)
    nn.init.normal_(projection.bias)
    eeg = torch.randn(2, 30, CHANNELS, FREQUENCIES)
    filters = EegFeatures(CHANNELS, FREQUENCIES, tr_s=TR_S)
    filters.kernels = projection.kernels.detach()
    features = filters(eeg)
    biases = projection.bias.split([6, 5])
    for number, actual in enumerate(projection(eeg)):
        weights = projection.weights(number).movedim(1, 0).flatten(1)
        expected = nn.functional.linear(features, weights, biases[number])
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-4)


def test_a_dropped_feature_is_hidden_in_the_whole_window():
    projection = EegProjection(CHANNELS, FREQUENCIES, (4,), tr_s=None, dropout=0.5)
    with torch.no_grad():
        projection.linear.weight.fill_(1.0)
    eeg = torch.zeros(64, 12, CHANNELS, FREQUENCIES)
    eeg[:, :, 1, 2] = 1.0  # alone, so that the output tells whether it was seen
    (seen,) = projection(eeg)
    assert torch.equal(seen, seen[:, :1].expand_as(seen))
    assert set(seen.unique().tolist()) == {0.0, 2.0}
    (in_use,) = projection.eval()(eeg)
    assert torch.equal(in_use, torch.ones_like(in_use))


def test_canonical_hrf_equals_nilearn():
    ours = canonical_hrf(0.01, duration_s=32)
    theirs = spm_hrf(t_r=1.0, oversampling=100, time_length=32.0)
    # nilearn shifts by one sample (10 ms) and rounds the ratio 1/6 to 0.167.
    np.testing.assert_allclose(ours[: len(theirs)], theirs, atol=0.005 * theirs.max())


@pytest.mark.parametrize("tr_s", [0.8, 1.0, 2.0, 2.16, 3.0])
def test_hrf_is_sampled_at_the_tr(tr_s):
    fine = canonical_hrf(tr_s / 100, duration_s=32)
    coarse = canonical_hrf(tr_s, duration_s=32)
    np.testing.assert_allclose(coarse, fine[::100] / fine[::100].sum())
    basis = hrf_basis(tr_s)
    assert basis.shape == (3, int(24 / tr_s + 1e-9) + 1)
    np.testing.assert_allclose(basis.sum(1), 1)


def test_shapes_are_the_basis_made_orthonormal():
    basis, shapes = hrf_basis(TR_S), hrf_shapes(TR_S)
    np.testing.assert_allclose(shapes @ shapes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(basis @ shapes.T @ shapes, basis, atol=1e-12)
    np.testing.assert_allclose(shapes[0], basis[0] / np.linalg.norm(basis[0]), atol=1e-12)
    lags = np.arange(len(shapes[0]))
    sooner, later = (np.square(shapes[0] + sign * 0.3 * shapes[1]) for sign in (1, -1))
    assert sooner @ lags / sooner.sum() < later @ lags / later.sum()


def small_transformer_cnn(**options):
    torch.manual_seed(0)
    cae = CaeConfig(d_token=D_TOKEN, widths=(8,))
    config = TransformerConfig(d_model=16, num_heads=2, layers=1, **options)
    sizes = DataSizes((8, 8, 6), CHANNELS, FREQUENCIES, context=3, tr_s=TR_S)
    return build_model(config, cae, sizes).eval()


def test_tokens_are_standardized_by_training_tokens():
    model = small_transformer_cnn()
    volumes = 5 + 3 * torch.randn(4, 6, 8, 8, 6)
    model.fit_token_statistics(model.tokenizer.encode(volumes.flatten(0, 1)).detach())
    tokens = model.encode_volumes(volumes).flatten(0, 1)
    torch.testing.assert_close(tokens.mean(0), torch.zeros(D_TOKEN), atol=1e-4, rtol=0)
    torch.testing.assert_close(tokens.std(0), torch.ones(D_TOKEN), atol=1e-4, rtol=0)
    torch.testing.assert_close(
        model.decode_tokens(model.encode_volumes(volumes)).flatten(0, 1),
        model.tokenizer(volumes.flatten(0, 1)),
        atol=1e-4,
        rtol=1e-4,
    )


def test_unused_token_dimension_is_not_amplified():
    model = small_transformer_cnn()
    tokens = torch.randn(50, D_TOKEN)
    tokens[:, 2] = 1 + 1e-7 * torch.randn(50)
    model.fit_token_statistics(tokens)
    assert model.token_std[2] > 1e-4


def test_statistics_of_broken_tokens_are_refused():
    model = small_transformer_cnn()
    with pytest.raises(DataError, match="finite"):
        model.fit_token_statistics(torch.full((5, D_TOKEN), torch.nan))


def test_volumes_are_generated_from_eeg_alone():
    model = small_transformer_cnn()
    eeg, _ = window(7)
    volumes = model.generate_volumes(eeg, 7)
    assert volumes.shape == (2, 7, 8, 8, 6)
    expected = model.decode_tokens(model.eeg_to_tokens.generate(eeg, 7))
    torch.testing.assert_close(volumes, expected)


@pytest.mark.parametrize("train_tokenizer", [False, True])
def test_tokenizer_is_trained_only_where_asked(train_tokenizer):
    model = small_transformer_cnn(train_tokenizer=train_tokenizer)
    eeg, tokens = window(7)
    model.decode_tokens(model(eeg, tokens)).square().mean().backward()
    decoder = model.tokenizer.decoder[0].weight
    assert (decoder.grad is not None) == train_tokenizer
    assert model.eeg_to_tokens.head.weight.grad.any()  # gradient passes through a frozen decoder
    whole = sum(p.numel() for p in model.parameters())
    assert (count_parameters(model) == whole) == train_tokenizer


def test_principal_components_take_the_place_of_the_autoencoder():
    pca = PrincipalComponentsConfig(d_token=D_TOKEN)
    config = TransformerConfig(d_model=16, num_heads=2, layers=1)
    sizes = DataSizes((8, 8, 6), CHANNELS, FREQUENCIES, context=3, tr_s=TR_S)
    model = build_model(config, pca, sizes).eval()
    volumes = torch.randn(20, 8, 8, 6)
    model.tokenizer.fit([volumes])
    model.fit_token_statistics(model.tokenizer.encode(volumes))
    eeg, _ = window(7)
    assert model.generate_volumes(eeg, 7).shape == (2, 7, 8, 8, 6)
