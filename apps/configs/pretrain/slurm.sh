#!/bin/bash
# Stage 1 on four nodes of eight GPUs:   sbatch apps/configs/pretrain/slurm.sh
# Slurm sends SIGTERM two minutes before the time is up: the run saves and ends, and the job is queued again.
#SBATCH --job-name=fgclip2
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
# torchrun kills what has not ended 30 seconds after its signal unless it is told to wait.
srun torchrun --nnodes "$SLURM_NNODES" --nproc-per-node 8 --shutdown-timeout 110 \
  --rdzv-backend c10d --rdzv-endpoint "$head:29500" --rdzv-id "$SLURM_JOB_ID" \
  apps/pretrain.py --siglip2 google/siglip2-base-patch16-naflex --data "$DATA"/*.tar --stage 1 \
  --batch.size 61440 --gradient-checkpointing --workers 6 --out "$OUT" --resume || true  # torchrun fails on SIGTERM

# Again while it gets on: a run that fails before its next checkpoint is not repeated for ever.
last=$(ls -d "$OUT"/checkpoint-* 2>/dev/null | sort -V | tail -n 1)
if [ ! -d "$OUT/model" ] && [ "$last" != "$(cat "$OUT/.last" 2>/dev/null)" ]; then
  echo "$last" >"$OUT/.last"
  scontrol requeue "$SLURM_JOB_ID"
fi
