#!/usr/bin/env bash
# Ranks on several hosts: network namespaces with a host name and a 1 Gbit/s link each, joined by a bridge in one more.
# The properties hold over TCP with the bits of threads, and a link that is cut is reported at the deadline.
set -euo pipefail
probe=$(readlink -f "${1:?"usage: hosts.sh moe-mpi-probe"}")
hosts=3
tag=moe$$
work=$(mktemp -d)

remove() {
  local host
  for host in $(seq 0 $hosts); do
    for process in $(ip netns pids $tag-$host 2>/dev/null); do kill -9 "$process" 2>/dev/null || true; done
    ip netns delete $tag-$host 2>/dev/null || true
  done
  rm -rf "$work"
}
trap remove EXIT

# The last namespace has the bridge.
if ! command -v tc >/dev/null || ! ip netns add $tag-$hosts 2>/dev/null; then
  echo "mpi-test: network namespaces are not permitted here, so several hosts are not tested"
  exit 0
fi
bridge="ip -n $tag-$hosts"
$bridge link add bridge type bridge
$bridge link set bridge up
for host in $(seq 0 $((hosts - 1))); do
  ip netns add $tag-$host
  ip -n $tag-$host link add eth0 type veth peer name port$host netns $tag-$hosts
  $bridge link set port$host master bridge up
  ip -n $tag-$host addr add 10.77.0.$((host + 1))/24 dev eth0
  ip -n $tag-$host link set lo up
  ip -n $tag-$host link set eth0 up
  ip netns exec $tag-$host tc qdisc add dev eth0 root tbf rate 1gbit burst 256kb latency 20ms
  echo "10.77.0.$((host + 1)) slots=2" >>"$work/hosts"
done

# What mpirun uses in place of ssh: [OPTION…] ADDRESS COMMAND…
cat >"$work/agent" <<AGENT
#!/bin/bash
while [[ \$1 == -* ]]; do shift; done
host=$tag-\$((\${1##*.} - 1))
shift
exec ip netns exec \$host unshare --uts /bin/sh -c "hostname \$host; \$*"
AGENT
chmod +x "$work/agent"

run() {
  ip netns exec $tag-0 unshare --uts sh -c "hostname $tag-0; exec \"\$@\"" sh timeout -k 5 60 mpirun.openmpi \
    --allow-run-as-root --hostfile "$work/hosts" --map-by node --bind-to none --mca plm rsh \
    --mca plm_rsh_agent "$work/agent" --mca plm_rsh_no_tree_spawn 1 --mca pml ob1 --mca btl tcp,self \
    --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 --mca mpi_yield_when_idle 1 "$@"
}

failed() {
  echo "mpi-test: $1"
  cat "$work/output" "$work/errors"
  exit 1
}

"$probe" local $hosts >"$work/local"
run -n $hosts "$probe" mpi >"$work/output" 2>"$work/errors" || failed "$hosts hosts end with $?"
diff "$work/local" "$work/output" || failed "$hosts hosts do not give the bits of $hosts threads"
echo "mpi-test: $hosts hosts, $(wc -l <"$work/output") properties hold with the bits of threads"

# The last host's link is cut while rows are under way, until the others have reported: mpirun cannot end before it
# reaches its daemon there.
code=0
: >"$work/output"
(
  wait_for() { until [[ $(grep -cE "$1" "$work/output") -ge $2 ]]; do sleep 0.1; done; }
  wait_for "^rank 0: started" 1
  $bridge link set port$((hosts - 1)) down
  wait_for "^rank [01]: all-to-all" 2
  $bridge link set port$((hosts - 1)) up
) &
cutter=$!
run -n $hosts "$probe" fail cut >"$work/output" 2>"$work/errors" || code=$?
kill $cutter 2>/dev/null || true
[[ $code -ne 0 && $code -ne 124 ]] || failed "with a link cut, mpirun ends with $code"
# A rank that got the last host's rows just before is a step ahead of the other, and misses that one too.
for rank in 0 1; do
  grep -qE "^rank $rank: all-to-all of step [0-9]+: (rank|ranks [01] and) $((hosts - 1)) missing after 2 s \[" "$work/output" ||
    failed "with a link cut, rank $rank does not report rank $((hosts - 1))"
done
echo "mpi-test: link cut: $(grep -m1 "^rank 0: all" "$work/output")"
