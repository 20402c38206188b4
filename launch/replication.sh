#!/bin/sh
# Does the study's result hold in other simulated subjects? New populations (other couplings, other subjects), the
# study's ridge regression and default recipe. Run again, it does only what is missing.
set -eu
PYTHON=${PYTHON:-python}

make_store() {
    population=$1 config=$2
    shift 2
    printf '\n== Simulate recordings and preprocess them: %s\n' "$population"
    folder=runs/replication/$population
    $PYTHON launch/simulate.py "$config" "output=$folder/recordings" "$@"
    $PYTHON launch/preprocess.py configs/preprocess/study.yaml "source.path=$folder/recordings" \
        "output=$folder/store.h5"
}

make_store linear configs/simulate/linear.yaml seed=1
make_store hard configs/simulate/hard.yaml seed=1
make_store no_breathing configs/simulate/hard.yaml seed=2 realism.shared_noise_percent=0 \
    realism.nonlinear=0.8 realism.own_weights=0.2

printf '\n== Train and score\n'
$PYTHON launch/sweep.py configs/sweep/replication.yaml
