"""U-Net baseline."""

import pytest
import torch

from eeg2fmri_dist.config.model import UNetConfig
from eeg2fmri_dist.errors import DataError
from eeg2fmri_dist.models.build import DataSizes, build_model

CHANNELS, FREQUENCIES, CONTEXT = 5, 4, 3


def unet(grid=(16, 16, 8), widths=(8, 16, 24), context=CONTEXT):
    torch.manual_seed(0)
    sizes = DataSizes(grid, CHANNELS, FREQUENCIES, context=context, tr_s=2.16)
    return build_model(UNetConfig(d_eeg=8, widths=widths, eeg_dropout=0.0), None, sizes)


def eeg_window(num_volumes, context=CONTEXT, batch=2):
    torch.manual_seed(1)
    return torch.randn(batch, context + num_volumes, CHANNELS, FREQUENCIES)


@pytest.mark.parametrize("grid", [(16, 16, 8), (13, 10, 7), (33, 17, 11), (4, 4, 3)])
@pytest.mark.parametrize("context", [0, 3])
def test_any_grid_and_context(grid, context):
    volumes = unet(grid, context=context)(eeg_window(5, context))
    assert volumes.shape == (2, 5, *grid)
    assert (volumes.flatten(2).std(2) > 0).all()


@pytest.mark.parametrize("tr", [0, 3, 5, 8])
def test_volume_depends_on_its_tr_and_its_context_alone(tr):
    model = unet()
    eeg = eeg_window(6)
    before = model(eeg)
    eeg[:, tr] += 1
    changed = (model(eeg) - before).abs().amax((0, 2, 3, 4)) > 1e-6
    first = max(0, tr - CONTEXT)
    assert changed.nonzero()[:, 0].tolist() == list(range(first, min(6, tr + 1)))


def test_same_eeg_gives_the_same_volume_at_any_place_in_the_window():
    model = unet()
    eeg = eeg_window(6)
    torch.testing.assert_close(model(eeg[:, 2:]), model(eeg)[:, 2:])


def test_expanding_path_mirrors_the_contracting_path():
    """On the way up each level has the grid and width that it had on the way down."""
    model = unet((13, 10, 7))
    shapes = {}

    def remember(name):
        return lambda module, inputs, output: shapes.update({name: output.shape[1:]})

    for path in ("contract", "expand"):
        for level, block in enumerate(getattr(model, path)):
            block.register_forward_hook(remember((path, level)))
    model(eeg_window(1))
    assert shapes["contract", 0] == (8, 4, 3, 3)
    assert shapes["contract", 1] == (16, 2, 2, 2)
    assert shapes["contract", 2] == (24, 1, 1, 1)
    assert all(shapes["expand", level] == shapes["contract", level] for level in range(2))


@pytest.mark.parametrize("level", [0, 1])
def test_each_skip_connection_carries_detail(level):
    model = unet()
    eeg = eeg_window(1)
    before = model(eeg)
    width = model.merge[level].out_channels
    with torch.no_grad():
        model.merge[level].weight[:, width:] = 0  # what the skip contributes
    assert (model(eeg) - before).abs().max() > 1e-3


def test_anatomy_is_learned_without_any_eeg():
    """A fixed pattern finer than the coarse grid, and more than its mean."""
    torch.manual_seed(0)
    grid = (12, 12, 9)
    model = unet(grid, widths=(8, 16))
    target = torch.randn(grid)
    eeg = torch.zeros(1, CONTEXT + 1, CHANNELS, FREQUENCIES)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(100):
        loss = (model(eeg)[0, 0] - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 0.5 * target.var()


def test_wrong_eeg_is_refused_with_the_sizes():
    model = unet()
    with pytest.raises(DataError, match=r"\(8, 4, 4\)"):
        model(eeg_window(5)[:, :, :4])
    with pytest.raises(DataError, match="more than 3 TRs"):
        model(eeg_window(0))
