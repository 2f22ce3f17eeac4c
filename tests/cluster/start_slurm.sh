#!/usr/bin/env bash
# Starts a real Slurm on this host: slurmctld and two slurmd, the nodes node1 and node2, with two cores each.
# Usage, as root: start_slurm.sh FOLDER; then SLURM_CONF=FOLDER/slurm.conf. `stop_slurm.sh FOLDER` ends it.
set -euo pipefail
folder=$(realpath "$1")
host=$(hostname -s)
mkdir -p "$folder/state" "$folder/spool/node1" "$folder/spool/node2"

for node in node1 node2; do
  getent hosts "$node" >/dev/null || echo "127.0.0.1 $node" >>/etc/hosts
done

if [ ! -s /etc/munge/munge.key ]; then
  dd if=/dev/urandom of=/etc/munge/munge.key bs=1024 count=1 status=none
  chown munge /etc/munge/munge.key
  chmod 400 /etc/munge/munge.key
fi
mkdir -p /run/munge
chown munge /run/munge
munge -n >/dev/null 2>&1 || su -s /bin/sh munge -c munged

cat >"$folder/slurm.conf" <<CONF
ClusterName=local
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=${SLURMCTLD_PORT:-16817}
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool/%n
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/%n.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/%n.log
SlurmUser=root
SlurmdUser=root
MpiDefault=none
ReturnToService=2
SlurmdTimeout=5
KillWait=5
SchedulerParameters=sched_interval=2,bf_interval=2,batch_sched_delay=1,sched_min_interval=100000
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MaxArraySize=1001
MaxJobCount=20000
NodeName=node1 NodeHostname=$host NodeAddr=127.0.0.1 Port=17001 CPUs=2 RealMemory=4000
NodeName=node2 NodeHostname=$host NodeAddr=127.0.0.1 Port=17002 CPUs=2 RealMemory=4000 Features=second
PartitionName=main Nodes=node[1-2] Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"
slurmctld
"$(dirname "$0")/start_node.sh" "$folder" node1
"$(dirname "$0")/start_node.sh" "$folder" node2
for _ in $(seq 60); do
  [ "$(sinfo --noheader --states=idle --format=%D 2>/dev/null)" = 2 ] && exit 0
  sleep 0.5
done
sinfo >&2
exit 1
