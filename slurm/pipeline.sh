#!/usr/bin/env bash
# Submit preprocessing, trainings and evaluation; each starts when what it needs is done.
#
#   slurm/pipeline.sh configs/preprocess/noddi.yaml configs/train/{ridge_quadratic,transformer_from_ridge,unet}.yaml \
#       configs/evaluate/default.yaml
#
# Any stage may be left out. A config belongs to the stage whose verb accepts it. A training that names
# the run folder of another one (tokenizer, model.skip_from, model.members) waits for that one, the
# others run side by side.
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

declare -A values_of=() output_of=() job_of=()
for config in ${train[@]+"${train[@]}"}; do
    resolved=$(${PYTHON} launch/train.py "$config" --print-config)
    values_of[$config]=$(sed 's/^[- ]*//; s/^[a-z_]*: //' <<<"$resolved")
    output_of[$config]=$(sed -n 's/^output: //p' <<<"$resolved")
done

# Print the jobs (ids joined by colons) of the trainings that one names; fail if one has none yet.
jobs_before() {
    local config=$1 other ids=
    for other in "${train[@]}"; do
        [ "$other" != "$config" ] || continue
        grep -qxF -- "${output_of[$other]}" <<<"${values_of[$config]}" || continue
        [ -n "${job_of[$other]:-}" ] || return 1
        ids+=${ids:+:}${job_of[$other]}
    done
    echo "$ids"
}

trainings=
submit_training() {
    local config=$1 after=$2
    job_of[$config]=$(submit "$after" "$TRAIN_OPTIONS" slurm/train.sbatch "$config")
    announce train "${job_of[$config]}" "$config" "$after"
    trainings+=${trainings:+:}${job_of[$config]}
}

pending=(${train[@]+"${train[@]}"})
while [ ${#pending[@]} -gt 0 ]; do
    waiting=()
    for config in "${pending[@]}"; do
        if after=$(jobs_before "$config"); then
            submit_training "$config" "${after:-$stores}"
        else
            waiting+=("$config")
        fi
    done
    if [ ${#waiting[@]} -eq ${#pending[@]} ]; then
        echo "error: these trainings wait for each other: ${pending[*]}" >&2
        exit 2
    fi
    pending=(${waiting[@]+"${waiting[@]}"})
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
