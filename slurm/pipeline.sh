#!/usr/bin/env bash
# Submit preprocessing, trainings and evaluation; each starts when what it needs is done.
#
#   slurm/pipeline.sh configs/preprocess/noddi.yaml configs/train/{cae,transformer,unet}.yaml \
#       configs/evaluate/default.yaml
#
# Any stage may be left out. A config belongs to the stage whose verb accepts it. A training whose
# tokeniser is the run folder of another one waits for that one, the others run side by side.
# Options of sbatch for each stage are in site.env.
set -euo pipefail
cd "$(dirname "$0")/.."
. slurm/site.env

usage() {
    sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' slurm/pipeline.sh >&2
    exit 2
}

# Submit a batch file after other jobs (ids joined by colons); print its id.
submit() {
    local after=$1 options=$2
    shift 2
    # shellcheck disable=SC2086 # options are several words
    sbatch --parsable --kill-on-invalid-dep=yes ${after:+--dependency=afterok:$after} $options "$@" |
        cut -d ';' -f 1
}

submit_on_cpus() {
    (
        unset SBATCH_GPUS_PER_NODE SBATCH_CPUS_PER_GPU
        [ -z "$CPU_PARTITION" ] || export SBATCH_PARTITION=$CPU_PARTITION
        submit "$@"
    )
}

# Print a top-level value of a resolved training config.
value_of() {
    sed -n "s/^$1: //p" <<<"$2"
}

announce() {
    printf '%-10s %-12s %s%s\n' "$1" "$2" "$3" "${4:+   (after $4)}"
}

[ $# -gt 0 ] || usage
preprocess=() train=() evaluate=()
for config in "$@"; do
    for verb in preprocess train evaluate; do
        if ${PYTHON} "launch/$verb.py" "$config" --print-config >/dev/null 2>&1; then
            declare -n stage=$verb
            stage+=("$config")
            continue 2
        fi
    done
    echo "error: $config is no config of preprocess, train or evaluate (try --print-config)" >&2
    exit 2
done

printf '%-10s %-12s %s\n' stage job config
stores=
for config in ${preprocess[@]+"${preprocess[@]}"}; do
    id=$(submit_on_cpus "" "$PREPROCESS_OPTIONS" slurm/preprocess.sbatch "$config")
    announce preprocess "$id" "$config"
    stores+=${stores:+:}$id
done

declare -A output_of=() tokeniser_of=() job_of=()
for config in ${train[@]+"${train[@]}"}; do
    resolved=$(${PYTHON} launch/train.py "$config" --print-config)
    output_of[$config]=$(value_of output "$resolved")
    tokeniser_of[$config]=$(value_of tokeniser "$resolved")
done

trainings=
submit_training() {
    local config=$1 after=$2 id
    id=$(submit "$after" "$TRAIN_OPTIONS" slurm/train.sbatch "$config")
    announce train "$id" "$config" "$after"
    job_of[${output_of[$config]}]=$id
    trainings+=${trainings:+:}$id
}

is_trained_here() {
    local output
    for output in ${output_of[@]+"${output_of[@]}"}; do
        [ "$output" != "$1" ] || return 0
    done
    return 1
}

for config in ${train[@]+"${train[@]}"}; do
    is_trained_here "${tokeniser_of[$config]}" || submit_training "$config" "$stores"
done
for config in ${train[@]+"${train[@]}"}; do
    ! is_trained_here "${tokeniser_of[$config]}" ||
        submit_training "$config" "${job_of[${tokeniser_of[$config]}]}"
done

for config in ${evaluate[@]+"${evaluate[@]}"}; do
    id=$(submit_on_cpus "${trainings:-$stores}" "$EVALUATE_OPTIONS" slurm/evaluate.sbatch "$config")
    announce evaluate "$id" "$config" "${trainings:-$stores}"
done

cat <<END

squeue --me                        what waits and what runs
tail -F train-JOB.out              a job's output
tensorboard --logdir runs          curves
scancel JOB                        ends a job, and with it those that wait for it
END
