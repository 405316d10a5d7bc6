#!/usr/bin/env bash
# Ingests by Dask workers on all nodes of a Slurm job. The arguments are those of `quickdraw ingest`:
#
#     sbatch infra/slurm/ingest.sh /shared/csv --store /shared/store
#
# Submit it in a folder that all nodes see. Submitted again, or requeued, it keeps what is done.
#SBATCH --job-name=quickdraw-ingest
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK # srun does not take it from sbatch

# Whoever reaches a Dask scheduler runs code as you. So it asks for a key that only this job has.
folder=$(mktemp -d "$PWD/.dask-$SLURM_JOB_ID-XXXXXX")
finish() {
    kill $(jobs -p) 2>/dev/null || true
    wait
    rm -rf "$folder"
}
trap finish EXIT
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 30 \
    -subj "/CN=job-$SLURM_JOB_ID" -keyout "$folder/key.pem" -out "$folder/certificate.pem" 2>/dev/null
tls=(--tls-ca-file "$folder/certificate.pem" --tls-cert "$folder/certificate.pem"
    --tls-key "$folder/key.pem")

# The scheduler here, on the job's first node, at the address that Slurm knows it by.
address=$(scontrol show node --oneliner "$SLURMD_NODENAME" | sed -n 's/.*NodeAddr=\([^ ]*\).*/\1/p')
dask scheduler --host "tls://$address" --port 0 --no-dashboard \
    --scheduler-file "$folder/scheduler.json" "${tls[@]}" 2>/dev/null &
until [ -s "$folder/scheduler.json" ]; do
    kill -0 $! || exit 1
    sleep 0.2
done
scheduler=$(sed -n 's/.*"address": "\([^"]*\)".*/\1/p' "$folder/scheduler.json")

# A worker on each node, a thread a core: the compiled readers compute beside each other.
srun --ntasks-per-node=1 dask worker "$scheduler" --no-dashboard \
    --nthreads "$SLURM_CPUS_PER_TASK" --local-directory "${TMPDIR:-/tmp}" "${tls[@]}" 2>/dev/null &

quickdraw ingest "$@" --dask "$scheduler" --set "tls.ca_file=$folder/certificate.pem" \
    --set "tls.certificate=$folder/certificate.pem" --set "tls.key=$folder/key.pem"
