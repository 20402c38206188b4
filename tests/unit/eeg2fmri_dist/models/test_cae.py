"""The convolutional autoencoder, and what all models share."""

import subprocess
import sys

import pytest
import torch

from eeg2fmri_dist.config.model import (
    CaeConfig,
    PrincipalComponentsConfig,
    TransformerConfig,
    UNetConfig,
)
from eeg2fmri_dist.errors import ConfigError
from eeg2fmri_dist.models.blocks import Convolution, PatchHead, PatchStem
from eeg2fmri_dist.models.build import DataSizes, build_model, build_tokenizer, count_parameters
from eeg2fmri_dist.models.tokenizer import VolumeTokenizer

GRID = (16, 16, 8)
SIZES = DataSizes(grid=GRID, num_channels=5, num_frequencies=4, context=3, tr_s=2.16)
SMALL_CAE = CaeConfig(d_token=12, widths=(8, 16))


def small_cae(grid=GRID):
    torch.manual_seed(0)
    return build_tokenizer(SMALL_CAE, grid)


def small_pca():
    pca = build_tokenizer(PrincipalComponentsConfig(d_token=6), GRID)
    pca.fit([torch.randn(20, *GRID)])
    return pca


def build(name):
    torch.manual_seed(0)
    if name == "cae":
        return small_cae()
    if name == PCA:
        return small_pca()
    if name == "unet":
        return build_model(UNetConfig(d_eeg=8, widths=(8, 16), eeg_dropout=0.0), None, SIZES)
    config = TransformerConfig(
        d_model=16, num_heads=2, layers=1, dropout=0.0, eeg_dropout=0.0, train_tokenizer=True
    )
    return build_model(config, SMALL_CAE, SIZES)


def run(name, model):
    """A volume output of the model for fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    volumes = torch.randn(2, 5, *GRID, generator=generator)
    eeg = torch.randn(2, 8, 5, 4, generator=generator)
    if name in ("cae", PCA):
        return model(volumes.flatten(0, 1))
    if name == "unet":
        return model(eeg)
    keep = torch.rand(2, 5, generator=generator) < 0.5
    return model.decode_tokens(model(eeg, model.encode_volumes(volumes), keep))


PCA = "principal_components"
ALL = ["cae", PCA, "unet", "transformer"]
TRAINED = ["cae", "unet", "transformer"]


@pytest.mark.parametrize("grid", [GRID, (13, 10, 7), (5, 4, 3), (1, 9, 2)])
def test_any_grid_goes_in_and_comes_out(grid):
    cae = small_cae(grid)
    volumes = torch.randn(3, *grid)
    tokens = cae.encode(volumes)
    assert tokens.shape == (3, 12)
    assert cae.decode(tokens).shape == volumes.shape
    torch.testing.assert_close(cae(volumes), cae.decode(tokens))


def test_every_voxel_reaches_the_token_and_is_reached_by_it():
    grid = (13, 10, 7)
    cae = small_cae(grid)
    volumes = torch.randn(1, *grid, requires_grad=True)
    cae.encode(volumes).square().sum().backward()
    assert (volumes.grad != 0).all()
    tokens = torch.randn(6, 12)
    assert (cae.decode(tokens).std(0) > 0).all()


def test_patches_are_a_strided_convolution_and_its_transpose():
    torch.manual_seed(0)
    patch, grid = (4, 2, 3), (8, 7, 9)
    stem, head = PatchStem(patch, 8), PatchHead(patch, 8, grid)
    volumes = torch.randn(2, *grid)
    padded = torch.nn.functional.pad(volumes, (0, 0, 0, 1))[:, None]
    weight = stem.linear.weight[..., 0].unflatten(1, (1, *patch))
    cells = torch.nn.functional.conv3d(padded, weight, stem.linear.bias, stride=patch)
    torch.testing.assert_close(stem(volumes), cells)
    weight = head.linear.weight[..., 0].T.unflatten(1, (1, *patch))
    expected = torch.nn.functional.conv_transpose3d(cells, weight, stride=patch)
    torch.testing.assert_close(head(cells), expected[:, 0, :, :7])


def test_volumes_of_a_batch_do_not_influence_each_other():
    cae = small_cae()
    volumes = torch.randn(3, *GRID)
    torch.testing.assert_close(cae(volumes)[1:2], cae(volumes[1:2]))


def test_autoencoder_learns_volumes_of_few_dimensions():
    grid = (8, 8, 6)
    cae = small_cae(grid)
    patterns = torch.nn.functional.interpolate(torch.randn(1, 3, 4, 4, 3), size=grid)[0]
    volumes = torch.einsum("nk,kxyz->nxyz", torch.randn(32, 3), patterns)
    optimizer = torch.optim.Adam(cae.parameters(), lr=1e-2)
    for _ in range(60):
        loss = (cae(volumes) - volumes).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.2 * volumes.var()


def test_default_sizes_stay_affordable():
    sizes = DataSizes((64, 64, 30), num_channels=63, num_frequencies=30, context=11, tr_s=2.16)
    cae = build_tokenizer(CaeConfig(), sizes.grid)
    assert 1e6 < count_parameters(cae) < 3e6
    assert count_parameters(build_model(UNetConfig(), None, sizes)) < 5e6
    transformer = build_model(TransformerConfig(), CaeConfig(), sizes)
    assert count_parameters(transformer) < 8e6  # the frozen autoencoder is not counted


@pytest.mark.parametrize("name", ALL)
def test_sizes_are_known_without_memory(name):
    """A dry run builds models on torch's meta device."""
    with torch.device("meta"):
        model = build_tokenizer(PrincipalComponentsConfig(), GRID) if name == PCA else build(name)
    assert all(tensor.is_meta for tensor in model.state_dict().values())


def test_transformer_without_tokenizer_is_refused():
    with pytest.raises(ConfigError, match="needs a volume tokenizer"):
        build_model(TransformerConfig(), None, SIZES)


@pytest.mark.parametrize("name", ["cae", PCA])
def test_tokenizers_follow_the_protocol(name):
    model = build(name)
    assert isinstance(model, VolumeTokenizer)
    tokens = model.encode(torch.randn(2, *GRID))
    assert tokens.shape == (2, model.d_token)
    assert model.decode(tokens).shape == (2, *model.grid)


@pytest.mark.parametrize("name", TRAINED)
def test_gradient_reaches_every_parameter(name):
    model = build(name)
    run(name, model).square().sum().backward()
    without = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not without


@pytest.mark.parametrize("name", ALL)
def test_state_dict_rebuilds_the_model(name):
    model = build(name).eval()
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01 * torch.randn_like(parameter))
    other = build(name).eval()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(run(name, other), run(name, model), rtol=0, atol=0)


@pytest.mark.parametrize("name", TRAINED)
def test_bfloat16_autocast_is_finite_and_near_float32(name):
    model = build(name)
    expected = run(name, model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        actual = run(name, model)
        loss = actual.float().square().mean()
    loss.backward()
    assert torch.isfinite(actual).all()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())
    assert (actual.float() - expected).norm() < 0.05 * expected.norm()


def leave_large_numbers_in_freed_memory():
    for exponent in range(2, 7):
        torch.full((10**exponent,), 3e38)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("grid", [(2, 2, 2), (2, 5, 3), (4, 1, 2), (3, 4, 1), (1, 1, 1), (4, 3, 3)])
def test_gradient_of_a_small_grid_is_right_in_bfloat16(grid, stride):
    torch.manual_seed(0)
    convolution = Convolution(16, 16, stride=stride)
    x = torch.randn(4, 16, *grid)
    convolution(x).sum().backward()
    expected = convolution.weight.grad.clone()
    for _ in range(3):
        convolution.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = convolution(x).float().sum()
        leave_large_numbers_in_freed_memory()
        loss.backward()
        assert (convolution.weight.grad - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("name", ALL)
def test_batch_normalization_is_nowhere(name):
    norms = (torch.nn.modules.batchnorm._BatchNorm,)
    assert not any(isinstance(module, norms) for module in build(name).modules())


def test_importing_the_package_or_its_config_imports_no_torch():
    code = (
        "import sys, eeg2fmri_dist.models, eeg2fmri_dist.config.model as m; m.CaeConfig(); "
        "sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
