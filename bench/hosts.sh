#!/usr/bin/env bash
# A layer over ranks on hosts with shaped links, which are network namespaces of this machine: what a pass takes with its
# exchange hidden and not, beside a layer on MPI_Alltoallv. Every table is one interleaved run.
#
#   swift build -c release --package-path bench --traits MPI --scratch-path bench/.build-mpi
#   bench/hosts.sh "2 4" "200mbit 1gbit" [OPTION-OF-MOE-BENCH-EXCHANGE…]
set -euo pipefail
counts=${1:-2 4}
rates=${2:-200mbit 1gbit}
shift $(($# < 2 ? $# : 2))
cd "$(dirname "$0")/.."
bench=$PWD/bench/.build-mpi/release/moe-bench
work=$(mktemp -d)
limit=600
source Tests/MPI/namespaces.sh
trap 'remove_hosts; rm -rf "$work"' EXIT
reason=$(why_no_hosts)
if [[ -n $reason ]]; then
  echo "bench/hosts.sh: $reason" >&2
  exit 1
fi
make_hosts "$(tr ' ' '\n' <<<"$counts" | sort -n | tail -1)"
for rate in $rates; do
  for count in $counts; do
    set_rate "$rate"
    run_on "$count" 1 "$bench" exchange --links "$rate" "$@"
  done
done
