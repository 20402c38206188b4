#!/bin/sh
# The main job on simulated recordings, end to end. Run again, it does only what is missing.
set -eu
PYTHON=${PYTHON:-python}

stage() { printf '\n== %s\n' "$1"; }

stage "Simulate recordings (known EEG-to-BOLD coupling)"
$PYTHON launch/simulate.py configs/simulate/demo.yaml

stage "Preprocess them into one HDF5 store (Dask)"
$PYTHON launch/preprocess.py configs/preprocess/demo.yaml

for model in ridge transformer_from_ridge cae transformer unet paper/cae paper/transformer; do
    stage "Train configs/train/demo/$model.yaml (DeepSpeed)"
    $PYTHON launch/train.py "configs/train/demo/$model.yaml"
done

stage "Evaluate on the test subjects"
$PYTHON launch/evaluate.py configs/evaluate/demo.yaml

stage "Predict a BOLD run of a test subject from EEG alone"
$PYTHON launch/predict.py configs/predict/demo.yaml

cat <<END

Done. Open
  runs/demo/report.html                  the report
  runs/demo/predictions/                 predicted BOLD run (NIfTI, MNI space) and its page
  tensorboard --logdir runs              training curves ($(dirname "$PYTHON")/tensorboard)
END
