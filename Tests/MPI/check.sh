#!/usr/bin/env bash
# Real ranks over Open MPI: every property of the communicators with the bits that threads give, and what the other
# ranks say of one that is late, killed, or sends what nobody expects.
set -euo pipefail
probe=${1:?"usage: check.sh moe-mpi-probe"}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

# Ranks that wait give their processor away.
run() {
  timeout -k 5 60 mpirun.openmpi --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 "$@"
}

failed() {
  echo "mpi-test: $1"
  [ ! -f "$work/output" ] || cat "$work/output"
  exit 1
}

for ranks in 1 2 3 4; do
  "$probe" local $ranks >"$work/local"
  run -n $ranks "$probe" mpi >"$work/output" 2>&1 || failed "$ranks ranks end with $?"
  diff "$work/local" "$work/output" || failed "$ranks ranks do not give the bits of $ranks threads"
  echo "mpi-test: $ranks ranks, $(wc -l <"$work/output") properties hold with the bits of threads"
done

# expect SCENARIO TEXT [MPIRUN-OPTION…]: three ranks, of which 0 and 1 report TEXT before 4 s have passed, and an exit
# code that is not 0, unless mpirun was told to let the job survive, for which it gives 0.
expect() {
  local scenario=$1 text=$2 code=0 rank
  shift 2
  run "$@" -n 3 "$probe" fail "$scenario" >"$work/output" 2>&1 || code=$?
  [[ $code -ne 0 || "$*" == *recovery* ]] || failed "$scenario: mpirun ends with 0"
  [[ $code -ne 124 ]] || failed "$scenario: it hangs"
  for rank in 0 1; do
    grep -qE "^rank $rank: $text \[[0-3] s\]$" "$work/output" || failed "$scenario: rank $rank does not report '$text'"
  done
  echo "mpi-test: $scenario $*: $(grep -m1 "^rank 0:" "$work/output")"
}

expect late "all-to-all of layer 3, forward: rank 2 missing after 2 s"
expect less "all-to-all of uneven: rank 2 sent 1048560 bytes, where 1048576 were expected"
expect more "all-to-all of uneven: rank 2 sent more than the 1048576 bytes expected"
# Where mpirun tells them to end, the others do not wait for their deadline.
expect killed "all-to-all of step [56]: (the job was told to end, )?rank 2 missing( after 2 s)?"
expect killed "all-to-all of step [56]: rank 2 missing after 2 s" --enable-recovery
