"""A Transformer that starts at the prediction of ridge regression."""

from __future__ import annotations

import torch
from torch import Tensor

from eeg2fmri_dist.data.windows import WindowData
from eeg2fmri_dist.models.least_squares import Sums, solve_least_squares
from eeg2fmri_dist.models.principal_components import PrincipalComponents
from eeg2fmri_dist.models.ridge import RidgeRegression, check_context
from eeg2fmri_dist.models.transformer import EegToTokens, TransformerCNN
from eeg2fmri_dist.training.ridge_sums import add_predictions

# With a CAE: of ridge's own penalty. On simulated subjects a tenth and a thousandth were no nearer
# to ridge in new subjects, no penalty at all much farther.
SHARE_OF_PENALTY = 0.01
_WEIGHTS_AT_ONCE = 64


@torch.no_grad()
def start_at_ridge(model: TransformerCNN, ridge: RidgeRegression, data: WindowData) -> None:
    """Give the linear skip ridge's weights, in token space, and let the head start at 0.

    The skip reads the same features, by frequency instead of by band, through its own filters,
    and products of bands where ridge does. Tokens of principal components are linear in volumes:
    with them it predicts what ridge does, projected onto the components. Those of the CAE are not:
    there its weights bring it nearest (least squares over the training recordings) to the tokens
    of the volumes that ridge predicts, and a small penalty keeps it from fitting their curvature
    with large weights of features that go together.

    Parameters
    ----------
    model : TransformerCNN
        Its tokens have been standardized; its head and skip are changed.
    ridge : RidgeRegression
        Fitted, on the same device.
    data : WindowData
        Training recordings.

    Raises
    ------
    ConfigError
        If the context is shorter than the HRF.
    """
    network = model.eeg_to_tokens
    assert network.config.linear_skip
    check_context(network.context, data.store.recordings[0].tr_s)

    if isinstance(model.tokenizer, PrincipalComponents):
        coefficients, intercept = _encoded_weights(model, ridge)
    else:
        coefficients, intercept = _fitted_weights(model, ridge, data)
    linear, products = coefficients.split(
        [ridge.features.size, ridge.num_features - ridge.features.size]
    )
    network.skip_weights.copy_(_by_own_filters(linear, ridge, network))
    if network.product_skip is not None:
        network.product_skip.bands.copy_(ridge.bands)
        network.product_skip.linear.weight.copy_(products.T)
    network.head.weight.zero_()
    network.head.bias.copy_(intercept)


def _encoded_weights(model: TransformerCNN, ridge: RidgeRegression) -> tuple[Tensor, Tensor]:
    """Ridge's weights (feature, token) and intercept (token,) as tokens that are linear in volumes.

    A weight is the change that it makes to a volume, so it is encoded like one.
    """
    still = ridge.spread(torch.zeros_like(ridge.intercept))[None]
    origin = model.encode_volumes(still[None])[0]
    blocks = ridge.coefficients.split(_WEIGHTS_AT_ONCE)
    encoded = [model.encode_volumes(ridge.spread(block)[None])[0] - origin for block in blocks]
    intercept = model.encode_volumes(ridge.spread(ridge.intercept)[None, None])[0, 0]
    return torch.cat(encoded), intercept


def _fitted_weights(
    model: TransformerCNN, ridge: RidgeRegression, data: WindowData
) -> tuple[Tensor, Tensor]:
    """Weights (feature, token) and intercept (token,) nearest to the tokens of ridge's volumes."""

    def encode(volumes: Tensor) -> Tensor:
        return model.encode_volumes(volumes[None])[0]

    d_token = model.eeg_to_tokens.d_token
    sums = Sums.empty_for(ridge.coefficients.new_zeros(ridge.num_features, d_token))
    for number in range(len(data.lengths)):
        add_predictions(sums, ridge, encode, data, number)
    weights, intercept = solve_least_squares(sums, SHARE_OF_PENALTY * float(ridge.penalty))
    return ridge.weighting.float()[:, None] * weights, intercept


def _by_own_filters(linear: Tensor, ridge: RidgeRegression, network: EegToTokens) -> Tensor:
    """Ridge's weights (feature, token) as those of the skip (filter, token, channel x frequency).

    Both sets of filters span the same responses.
    """
    kernels = network.eeg_in.kernels
    assert kernels is not None
    between = ridge.features.kernels.double() @ torch.linalg.pinv(kernels.double())
    by_band = linear.unflatten(0, (-1, *ridge.features.shape))  # filter, channel, band, token
    return torch.einsum("fb,rcbt,rn->ntcf", ridge.bands, by_band, between.float()).flatten(2)
