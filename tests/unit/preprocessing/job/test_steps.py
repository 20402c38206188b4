"""Which files of a recording its steps read."""

import pytest

from eeg2fmri_dist.config.preprocess import PreprocessConfig
from eeg2fmri_dist.errors import DataError
from preprocessing.job import steps
from preprocessing.recordings import Recording


@pytest.mark.parametrize(
    ("bold", "reads"),
    [({}, False), ({"route": "direct"}, False), ({"spatial_normalization": "t1w"}, True)],
)
def test_the_t1_is_read_where_it_is_asked_for_alone(tmp_path, bold, reads):
    t1 = tmp_path / "t1.nii.gz"
    t1.write_bytes(b"no image")
    recording = Recording("32", tmp_path / "x.vhdr", tmp_path / "bold.nii.gz", t1_path=t1)
    source = {"name": "noddi", "path": tmp_path}
    config = PreprocessConfig.model_validate({"source": source, "output": "s.h5", "bold": bold})
    if reads:
        with pytest.raises(DataError):
            steps._t1(recording, config)
    else:
        assert steps._t1(recording, config) is None
