"""First volumes that are brighter because T1 relaxation has not come to rest."""

from __future__ import annotations

import numpy as np

from preprocessing.bold.bold_run import BoldRun

# The steady level and its noise are taken from the volumes after these.
_SETTLED = 10
_LOOKED_AT = 40
_LEAST_EXCESS_PERCENT = 0.5


def brightness_course(run: BoldRun, mask: np.ndarray) -> np.ndarray:
    """Return the brain's brightness in the first volumes, in percent of the steady level.

    Parameters
    ----------
    run : BoldRun
        As opened; volumes that will be dropped are in it.
    mask : ndarray of bool, shape (x, y, z)
        Brain in the run.

    Returns
    -------
    ndarray of shape (volume,)
        At most 40 volumes; 0 = as bright as the steady state.
    """
    course = run.first_volumes(_LOOKED_AT)[mask].mean(axis=0, dtype=np.float64)
    steady = np.median(course[_steady(len(course))])
    return 100.0 * (course / steady - 1) if steady > 0 else np.zeros(len(course))


def saturated_volumes(course: np.ndarray) -> int:
    """Count the first volumes that stand out from the steady state.

    A volume stands out if the brain is brighter than the steady level by more than 0.5 % and by
    more than four times the (robust) spread of the volumes that follow. Scanners that discard
    their own dummy volumes give 0.

    Parameters
    ----------
    course : ndarray of shape (volume,)
        As `brightness_course` returns it.
    """
    settled = course[_steady(len(course))]
    spread = 1.4826 * np.median(np.abs(settled - np.median(settled)))
    calm = np.flatnonzero(course <= max(_LEAST_EXCESS_PERCENT, 4 * spread))
    return int(calm[0]) if len(calm) else 0


def _steady(n_volumes: int) -> slice:
    return slice(min(_SETTLED, n_volumes // 2), None)
