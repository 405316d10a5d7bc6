#!/usr/bin/env bash
# Trains on all nodes of a Slurm job. The options are those of `quickdraw train`:
#
#     sbatch --nodes=2 infra/slurm/train.sh --store /shared/store --run-dir /shared/run
#
# `global_batch_size` / `micro_batch_size` (2 by default) must be a multiple of nodes × --nproc; on 4
# nodes with --nproc 8: --recipe full --nproc 8 --set micro_batch_size=128
#
# Submitted again, or requeued, it goes on from its last checkpoint.
#SBATCH --job-name=quickdraw-train
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --requeue
#SBATCH --open-mode=append
# On GPUs, then with --nproc 8 as well:
##SBATCH --gpus-per-node=8
set -euo pipefail
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it from sbatch

# One task a node: it starts the training processes of its node itself. On which of the nodes it
# is, and where the first one is, it finds in its environment.
# If a node's command fails, nobody waits for it.
exec srun --ntasks-per-node=1 --kill-on-bad-exit=1 quickdraw train "$@"
