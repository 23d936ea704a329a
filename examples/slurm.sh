#!/bin/bash
# A recipe on several machines of a SLURM cluster: sbatch examples/slurm.sh RECIPE.yaml
# Give it the resources of your cluster. Submit the same command again to resume a job that was killed.
#SBATCH --job-name=jmedllm
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
set -euo pipefail

recipe=${1:?usage: sbatch examples/slurm.sh RECIPE.yaml}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 20000)) # two jobs on one machine need different ports

# One launcher on each machine; it starts one process for each GPU. Since SLURM 22.05 srun does not inherit
# --cpus-per-task.
srun --cpus-per-task="$SLURM_CPUS_PER_TASK" torchrun \
    --nnodes "$SLURM_NNODES" --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --rdzv-backend c10d --rdzv-id "$SLURM_JOB_ID" --rdzv-endpoint "$first:$port" \
    -m jmedllm run "$recipe"
