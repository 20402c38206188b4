"""The table of volumes: one row each, every model and baseline, readable by pandas."""

from dataclasses import replace

import numpy as np
import pandas as pd

from eeg2fmri_dist.evaluation.report.page import write_report
from tests.helpers.reports import make_report, row


def test_every_volume_of_every_recording_has_a_row(tmp_path):
    report = make_report()
    scores = {"mse_zscore": np.array([1.0, 2.0, 4.0]), "ssim2d_zscore": np.array([0.5, np.nan, 1])}
    two = [("01", scores), ("02", {name: values[:2] for name, values in scores.items()})]
    section = report.runs[0]
    eeg_only = replace(section.rows[0], volumes=two)
    write_report(
        replace(
            report,
            runs=[replace(section, rows=[eeg_only, *section.rows[1:]])],
            baselines=[replace(row("ridge", 0.3), volumes=two[:1])],
        ),
        tmp_path,
    )
    table = pd.read_csv(tmp_path / "volumes.tsv", sep="\t", na_values="n/a", dtype={"subject": str})
    assert len(table) == 8
    of_model = table[table["model"] == section.name]
    assert of_model["variant"].unique().tolist() == [eeg_only.name]
    assert of_model["subject"].tolist() == ["01", "01", "01", "02", "02"]
    assert of_model["volume"].tolist() == [0, 1, 2, 0, 1]
    assert of_model["mse_zscore"].tolist() == [1, 2, 4, 1, 2]
    assert of_model["ssim2d_zscore"].isna().tolist() == [False, True, False, False, True]
    assert table["variant"].tolist()[5:] == ["ridge"] * 3
