#!/bin/sh
# The study: simulated subjects in four conditions, models trained on 4 to 32 of them, scored on 8 others.
# Run again, it does only what is missing.
set -eu
PYTHON=${PYTHON:-python}

stage() { printf '\n== %s\n' "$1"; }

for condition in linear hard null null_shared_noise; do
    stage "Simulate recordings: $condition"
    $PYTHON launch/simulate.py "configs/simulate/$condition.yaml"
    stage "Preprocess them: $condition"
    $PYTHON launch/preprocess.py configs/preprocess/study.yaml \
        "source.path=runs/study/$condition/recordings" "output=runs/study/$condition/store.h5"
done

stage "Train and score every model on more and more subjects"
$PYTHON launch/sweep.py configs/sweep/study_small.yaml

for condition in linear hard; do
    stage "Where linear models lose what the EEG shows: $condition"
    folder=runs/study/$condition
    [ "$folder/oracle.json" -nt "$folder/store.h5" ] || $PYTHON -m eeg2fmri_dist.experiments.error_decomposition \
        configs/train/study/ridge.yaml "store=$folder/store.h5" --truth "$folder/recordings/truth" \
        --train-subjects 8 32 --output "$folder/oracle.json"
done

cat <<END

Done. Open
  runs/study/curves/sweep.html             table, figure and all trials
  runs/study/curves/learning_curves.md     the table alone
  runs/study/curves/learning_curves.json   the same numbers and more
  runs/study/linear/oracle.json            what stands between ridge regression and the noise ceiling
END
