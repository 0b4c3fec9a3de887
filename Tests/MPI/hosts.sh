#!/usr/bin/env bash
# Ranks on several hosts with a shaped link each: the properties and layers of `check.sh` over TCP, the bytes that a
# forward pass puts on the wire beside those it cannot do without, and a link that is cut, a rank that is killed and one
# that is slow while a layer runs.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=$(readlink -f "${1:?"usage: hosts.sh FOLDER-OF-THE-BUILD"}")
probe=$build/moe-mpi-probe
suite="mpi-test on hosts"
work=$(mktemp -d)
source Tests/MPI/failures.sh
source Tests/MPI/namespaces.sh
trap 'remove_hosts; rm -rf "$work"' EXIT
reason=$(why_no_hosts)
if [[ -n $reason ]]; then
  echo "mpi-test: SKIPPED several hosts: $reason"
  exit 0
fi
make_hosts 4
set_rate 1gbit

# With two ranks on a host, rows of layers go by way of hosts.
for shape in "3 1" "2 2"; do
  read -r count slots <<<"$shape"
  ranks=$((count * slots))
  for subject in properties layer; do
    "$probe" local-$subject $ranks >"$work/local"
    run_on $count $slots "$probe" $subject >"$work/output" 2>"$work/errors" ||
      failed "$subject on $count hosts of $slots ranks ends with $?"
    diff "$work/local" "$work/output" || failed "$subject: $count hosts of $slots ranks do not give the bits of threads"
  done
  echo "$suite: $count hosts of $slots ranks, properties hold and layers pass with the bits of threads"
done

# From below nothing can be missing of what has to travel, from above 3 % are for headers, acknowledgements, the
# places of rows, and the start of the job.
for count in 2 4; do
  for rate in 200mbit 1gbit; do
    set_rate $rate
    run_on $count 1 "$probe" traffic >"$work/output" 2>"$work/errors" || failed "traffic on $count hosts ends with $?"
    shares=
    for rank in $(seq 0 $((count - 1))); do
      bound=$(sed -n "s/^rank $rank: //p" "$work/output")
      sent=$(sent_bytes "$rank")
      ((bound > 0 && sent >= bound && sent * 100 <= bound * 103)) ||
        failed "rank $rank of $count sent $sent bytes at $rate, expected $bound to 3 % more"
      shares+=" $(((sent - bound) * 10000 / bound))"
    done
    echo "$suite: $count hosts at $rate, over the bound of the routing by$shares hundredths of a per cent"
  done
done

# Two ranks on each of two hosts: in place of the four messages from host to host, one, in which the others' bytes are.
declare -A packets bytes
for way in nothing direct hierarchical; do
  set_rate 1gbit
  run_on 2 2 "$probe" crossing $way >"$work/output" 2>"$work/errors" || failed "crossing $way ends with $?"
  read -r bytes[$way] packets[$way] < <(sent_bytes 0 packets)
done
for way in direct hierarchical; do
  packets[$way]=$((packets[$way] - packets[nothing]))
  bytes[$way]=$((bytes[$way] - bytes[nothing]))
done
((packets[hierarchical] > 0 && packets[hierarchical] * 2 < packets[direct] && bytes[hierarchical] < bytes[direct])) ||
  failed "hierarchical all-to-all: ${packets[hierarchical]} packets of ${bytes[hierarchical]} bytes, direct ${packets[direct]} of ${bytes[direct]}"
echo "$suite: 500 all-to-alls of 2 x 2 ranks, hierarchical ${packets[hierarchical]} packets of ${bytes[hierarchical]} bytes from a host, direct ${packets[direct]} of ${bytes[direct]}"

# `expect` gives the number of ranks too, which is that of the hosts.
run() { run_on 4 1 "$@"; }
cut_link() { $bridge link set port3 down; }
restore_link() { $bridge link set port3 up; }
set_rate 1gbit
expect exchange cut 4 "all-to-all of step [0-9]+: $(missing 4 4)"
expect layer cut 4 "[a-z-]+ of the forward pass: $(missing 4 4)"
expect layer late 4 "[a-z-]+ of the forward pass: $(missing 4 4)"
# Left alone, mpirun ends the others while those on its own host may wait for it to print Open MPI's message about the
# lost connection, so that they never come to say theirs.
expect layer killed 4 "[a-z-]+ of the forward pass: $(missing 4 4)" --enable-recovery
