#!/usr/bin/env bash
# Ends the Slurm that start_slurm.sh started, and its jobs. Usage: stop_slurm.sh FOLDER
export SLURM_CONF="$1/slurm.conf"
scancel --user root 2>/dev/null
for _ in $(seq 20); do
  [ -z "$(squeue --noheader 2>/dev/null)" ] && break
  sleep 0.5
done
for name in node1 node2 slurmctld; do
  [ -s "$1/$name.pid" ] && kill "$(cat "$1/$name.pid")"
done
exit 0
