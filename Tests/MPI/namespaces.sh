# Several hosts on one machine: network namespaces with a host name and a shaped link each, joined by a bridge in one
# more. Sourced; `work` is a folder of the caller's.

tag=moe$$

# Says why there can be none, or nothing.
why_no_hosts() {
  if [[ $(id -u) -ne 0 ]]; then
    echo "only root may make network namespaces"
  elif ! command -v ip >/dev/null || ! command -v tc >/dev/null; then
    echo "iproute2 is missing"
  elif ! ip netns add $tag-probe 2>"$work/why"; then
    echo "network namespaces are not permitted here ($(head -1 "$work/why"))"
  else
    ip netns delete $tag-probe
  fi
}

# make_hosts COUNT: hosts 10.77.0.1 and on, with frames of 9000 bytes, so that headers are below 1 %.
make_hosts() {
  local host
  hosts=$1
  ip netns add $tag-bridge
  bridge="ip -n $tag-bridge"
  $bridge link add bridge type bridge
  $bridge link set bridge up mtu 9000
  for host in $(seq 0 $((hosts - 1))); do
    ip netns add $tag-$host
    ip -n $tag-$host link add eth0 mtu 9000 type veth peer name port$host mtu 9000 netns $tag-bridge
    $bridge link set port$host master bridge up
    ip -n $tag-$host addr add 10.77.0.$((host + 1))/24 dev eth0
    # Where the machine has BBR, short exchanges take one of two times, as it probes the link: the plain rule does not.
    ip netns exec $tag-$host sh -c 'echo reno >/proc/sys/net/ipv4/tcp_congestion_control' 2>/dev/null || true
    ip -n $tag-$host link set lo up
    ip -n $tag-$host link set eth0 up
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
}

# set_rate RATE: of what each host sends, such as 1gbit, in a queue so long that nothing is dropped and sent again; its
# counter of bytes begins at 0.
set_rate() {
  local host
  for host in $(seq 0 $((hosts - 1))); do
    ip netns exec $tag-$host tc qdisc replace dev eth0 root pfifo
    ip netns exec $tag-$host tc qdisc replace dev eth0 root tbf rate "$1" burst 256kb latency 400ms
  done
}

# sent_bytes HOST [packets]: what has left the host since its rate was set, with all headers; and in how many packets.
sent_bytes() {
  ip netns exec $tag-$1 tc -s qdisc show dev eth0 |
    sed -n "s/^ Sent \([0-9]*\) bytes \([0-9]*\) pkt.*/\1${2:+ \2}/p"
}

# Ends what runs on the hosts and removes them.
remove_hosts() {
  local host process
  for host in bridge $(seq 0 $((${hosts:-0} - 1))); do
    for process in $(ip netns pids $tag-$host 2>/dev/null); do kill -9 "$process" 2>/dev/null || true; done
    ip netns delete $tag-$host 2>/dev/null || true
  done
}

# run_on HOSTS RANKS-OF-A-HOST [MPIRUN-OPTION…] PROGRAM…: for at most `limit` seconds, 100 unless set, ranks on the first
# hosts, host after host; TCP between hosts and shared memory within one.
run_on() {
  local count=$1 slots=$2
  shift 2
  seq -f "10.77.0.%g slots=$slots" 1 "$count" >"$work/hosts-$count"
  ip netns exec $tag-0 unshare --uts sh -c "hostname $tag-0; exec \"\$@\"" sh timeout -k 5 "${limit:-100}" mpirun.openmpi \
    --allow-run-as-root --hostfile "$work/hosts-$count" --map-by slot --bind-to none --mca plm rsh \
    --mca plm_rsh_agent "$work/agent" --mca plm_rsh_no_tree_spawn 1 --mca pml ob1 --mca btl tcp,vader,self \
    --mca btl_tcp_if_include 10.77.0.0/24 --mca oob_tcp_if_include 10.77.0.0/24 --mca mpi_yield_when_idle 1 \
    -n $((count * slots)) "$@"
}
