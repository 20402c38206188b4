# What the batch files share; sourced by them. Edit site.env, not this.

fail() {
    echo "error: $1" >&2
    exit 4
}

# Go to the repository (Slurm runs a copy of the batch file from elsewhere) and get ready.
begin_job() {
    cd "$SLURM_SUBMIT_DIR" || exit 4
    . slurm/site.env
    prepare_node
    ${PYTHON} -c '' || fail "PYTHON=$PYTHON does not run on $(hostname); set it in slurm/site.env"
    if [ -n "$NETWORK_INTERFACE" ]; then
        export GLOO_SOCKET_IFNAME=$NETWORK_INTERFACE NCCL_SOCKET_IFNAME=$NETWORK_INTERFACE
    fi
    # srun does not take over what sbatch was given (since Slurm 22.05).
    [ -z "${SLURM_CPUS_PER_TASK:-}" ] || export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK
    echo "job $SLURM_JOB_ID on $SLURM_JOB_NODELIST at $(date '+%F %T')," \
        "start $((${SLURM_RESTART_COUNT:-0} + 1))"
}

# Set TASKS and how srun lays them out: as sbatch was told, or one per GPU, or one per node.
plan_tasks() {
    local per_node=${SLURM_GPUS_ON_NODE:-1}
    if [ -n "${SLURM_NTASKS:-}" ]; then
        TASKS=$SLURM_NTASKS
        layout=(--ntasks="$TASKS")
        return
    fi
    [ "$per_node" -le "$SLURM_CPUS_ON_NODE" ] ||
        fail "$per_node GPUs a node but $SLURM_CPUS_ON_NODE CPUs; set SBATCH_CPUS_PER_GPU in slurm/site.env"
    TASKS=$((SLURM_JOB_NUM_NODES * per_node))
    layout=(--ntasks="$TASKS" --ntasks-per-node="$per_node")
}

# Copy a store to NODE_SCRATCH of each node. Where that fails, the shared store is read.
stage_store() {
    local code layout=(--ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1)
    export EEG2FMRI_SCRATCH=$NODE_SCRATCH
    run_tasks ${PYTHON} -m eeg2fmri_dist.data.staging "$1" "$NODE_SCRATCH" && code=0 || code=$?
    case $code in
    0) ;;
    75 | 138 | 140) end_job "$code" ;;
    *) echo "staging failed: nodes without a copy read the shared store" ;;
    esac
}

# Run a command in all tasks. A signal to the batch shell goes on to the tasks; the exit code is the
# highest of theirs. Tasks that others left behind are ended after TASK_WAIT_S (a minute; 0 = never).
run_tasks() {
    local code step
    srun "${layout[@]}" --mpi="$MPI_TYPE" --gpu-bind=none --kill-on-bad-exit=0 --wait="${TASK_WAIT_S:-60}" "$@" &
    step=$!
    # As USR1, which srun passes on; at TERM it would kill the tasks.
    trap 'kill -s USR1 "$step"' TERM USR1 USR2
    while :; do
        wait "$step" && code=0 || code=$?
        kill -s 0 "$step" 2>/dev/null || break
    done
    trap - TERM USR1 USR2
    return "$code"
}

# End the job with an exit code: 75 (stopped cleanly) queues it again, and so does a dead node.
end_job() {
    local code=$1 dead
    case $code in
    0) ;;
    75) requeue "stopped cleanly" ;;
    138 | 140) requeue "stopped by a signal before the program could take it" ;; # USR1, USR2
    *)
        dead=$(find_dead_nodes)
        [ -z "$dead" ] || requeue "no answer from $dead"
        ;;
    esac
    exit "$code"
}

find_dead_nodes() {
    local node
    ! answers --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 || return 0
    for node in $(scontrol show hostnames "$SLURM_JOB_NODELIST"); do
        answers --nodes=1 --ntasks=1 --ntasks-per-node=1 --nodelist="$node" || printf '%s ' "$node"
    done
}

answers() {
    timeout 60 srun "$@" --mpi=none true >/dev/null 2>&1
}

requeue() {
    # scancel stops a training cleanly too, but such a job is not wanted again. It is no longer
    # running then; one that met its time limit is neither, and is wanted.
    if scontrol show job --oneliner "$SLURM_JOB_ID" |
        grep -q -e 'JobState=RUNNING ' -e 'Reason=TimeLimit '; then
        echo "$1; queueing job $SLURM_JOB_ID again"
        scontrol requeue "$SLURM_JOB_ID"
    else
        echo "$1; the job was cancelled and is not queued again"
    fi
}
