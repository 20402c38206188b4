"""p-values on the simulator's own recordings: uniform at coupling 0, over many seeds; else not."""

import numpy as np
import pytest
from scipy import stats
from scipy.signal import detrend

from eeg2fmri_dist.evaluation.significance import (
    circular_shift_p,
    compare_regions,
    regional_shift_correlations,
    shift_correlations,
    sign_flip_test,
)
from eeg2fmri_dist.scores.temporal import temporal_correlation
from preprocessing.simulation.brain.activity import Timeline, hidden_signal, simulate_activity
from preprocessing.simulation.scanner.bold_measurement import population_weights, regional_bold
from preprocessing.simulation.seeding import generator

pytestmark = pytest.mark.slow

TR_S, N_VOLUMES, N_PEOPLE, N_DATA_SETS = 2.16, 100, 6, 120
TIMELINE = Timeline(8.0 + TR_S * np.arange(N_VOLUMES), TR_S, 8.0 + TR_S * N_VOLUMES + 3.0)
POPULATION = population_weights(generator(0, "coupling"))
NULL_BOUND = 0.05 + 3 * np.sqrt(0.05 * 0.95 / N_DATA_SETS)


@pytest.fixture(scope="module")
def hrf_powers():
    """HRF-convolved band power of each subject, (volume, region, band)."""
    return [
        simulate_activity(generator(0, str(person), "activity"), TIMELINE, 30.0).hrf_power
        for person in range(N_PEOPLE)
    ]


@pytest.fixture(scope="module")
def null_data_sets(hrf_powers):
    """Regional BOLD of all subjects that no EEG drives, for each seed."""
    return [list(simulated_bold(hrf_powers, seed, 0.0)) for seed in range(N_DATA_SETS)]


def predictions(hrf_powers):
    """What a model that knows the population's coupling says, (volume, region) of each subject."""
    return [detrend(np.einsum("vrb,rb->vr", power, POPULATION), axis=0) for power in hrf_powers]


def simulated_bold(hrf_powers, seed, coupling):
    """Regional BOLD of each subject, (volume, region)."""
    for person, power in enumerate(hrf_powers):
        regional = regional_bold(
            generator(seed, str(person), "bold"),
            POPULATION,
            power,
            hidden_signal(generator(seed, str(person), "hidden"), TIMELINE),
            coupling=coupling,
            between_subjects=0.2,
            neural_percent=1.5,
        )
        yield detrend(regional.driven + regional.hidden, axis=0)


def test_without_coupling_p_values_against_circular_shifts_are_uniform(hrf_powers, null_data_sets):
    predicted = predictions(hrf_powers)
    of_means, of_regions, discoveries = [], [], 0
    for data_set in null_data_sets:
        pairs = list(zip(predicted, data_set, strict=True))
        of_means.append(circular_shift_p([shift_correlations(*pair) for pair in pairs], draws=400))
        test = compare_regions([regional_shift_correlations(*pair) for pair in pairs], draws=400)
        of_regions.append(test.p[7])
        discoveries += bool(test.found())
    for p in (of_means, of_regions):
        assert stats.kstest(p, "uniform").pvalue > 0.01
        assert np.mean(np.array(p) <= 0.05) < NULL_BOUND
    assert discoveries / N_DATA_SETS < NULL_BOUND


def test_without_coupling_true_eeg_is_no_better_than_shifted(hrf_powers, null_data_sets):
    """As the report tests regions: r with true less r with shifted EEG, signs flipped."""
    true, shifted = predictions(hrf_powers), predictions([power[::-1] for power in hrf_powers])
    p = [
        sign_flip_test(
            np.array(
                [
                    temporal_correlation(own, bold) - temporal_correlation(other, bold)
                    for own, other, bold in zip(true, shifted, data_set, strict=True)
                ]
            )
        ).p[7]
        for data_set in null_data_sets
    ]
    # 2^6 ways to flip signs: p takes 64 values, each as likely.
    assert stats.kstest(np.array(p) - 0.5 / 64, "uniform").pvalue > 0.01
    assert np.mean(np.array(p) <= 0.05) < NULL_BOUND


def test_with_coupling_p_values_are_small(hrf_powers):
    predicted = predictions(hrf_powers)
    for seed in range(5):
        pairs = list(zip(predicted, simulated_bold(hrf_powers, seed, 0.5), strict=True))
        assert circular_shift_p([shift_correlations(*pair) for pair in pairs], draws=400) < 0.01
        test = compare_regions([regional_shift_correlations(*pair) for pair in pairs])
        assert len(test.found()) > 0.5 * len(test.p)
