"""The template and the grid of the store."""

import nibabel as nib
import numpy as np

from preprocessing.template.mni import grid_affine, load_brain_mask, load_template


def test_template_and_mask_are_on_the_fsl_grid():
    for image in (load_template(), load_brain_mask()):
        assert image.shape == (91, 109, 91)
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        np.testing.assert_array_equal(image.affine[:3, 3], [-90, -126, -72])


def test_the_mask_covers_the_brain_of_the_template():
    t1 = np.asarray(load_template().dataobj)
    brain = np.asarray(load_brain_mask().dataobj) > 0
    assert t1[brain].mean() > 2 * t1[~brain].mean()


def test_the_grid_spans_the_template_edge_to_edge():
    affine = grid_affine((64, 64, 30))
    low = affine @ [-0.5, -0.5, -0.5, 1]
    high = affine @ [63.5, 63.5, 29.5, 1]
    np.testing.assert_allclose(low[:3], [-91, -127, -73])
    np.testing.assert_allclose(high[:3], [91, 91, 109])


def test_the_templates_own_grid_is_reproduced():
    np.testing.assert_allclose(grid_affine((91, 109, 91)), load_template().affine)
