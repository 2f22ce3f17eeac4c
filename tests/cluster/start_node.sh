#!/usr/bin/env bash
# Starts one node of the Slurm in a folder. Usage: start_node.sh FOLDER NODE
# The second node sees nothing of what others keep in FOLDER/private: a file system that is not shared.
set -euo pipefail
export SLURM_CONF="$1/slurm.conf"
if [ "$2" = node2 ]; then
  mkdir -p "$1/private"
  exec unshare --mount --propagation private sh -c "mount -t tmpfs tmpfs '$1/private' && exec slurmd -N node2"
fi
exec slurmd -N "$2"
