#!/usr/bin/env bash
# Real ranks over Open MPI on this machine: the communicators' properties and layers with the bits of threads and of one
# rank, `moe apply --mpi` with the bytes of one rank, and what the others say of a rank that fails.
set -euo pipefail
cd "$(dirname "$0")/../.."
build=${1:?"usage: check.sh FOLDER-OF-THE-BUILD"}
probe=$build/moe-mpi-probe
suite=mpi-test
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
source Tests/MPI/failures.sh

# Ranks that wait give their processor away.
run() {
  timeout -k 5 100 mpirun.openmpi --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 "$@"
}

"$probe" one-layer >"$work/one"
for ranks in 1 2 3 4 8; do
  for subject in properties layer; do
    "$probe" local-$subject $ranks >"$work/local"
    run -n $ranks "$probe" $subject >"$work/output" 2>"$work/errors" ||
      failed "$subject over $ranks ranks ends with $?"
    diff "$work/local" "$work/output" || failed "$subject: $ranks ranks do not give the bits of $ranks threads"
  done
  diff "$work/one" "$work/output" || failed "layers over $ranks ranks do not give the bits of one"
  echo "$suite: $ranks ranks, properties hold and $(wc -l <"$work/one") layers pass with the bits of threads and of one rank"
done

for block in mixtral:1:layers.1 switch_transformers:encoder.1:encoder.1; do
  IFS=: read -r fixture layer tensor <<<"$block"
  arguments=(apply Tests/Fixtures/$fixture --layer "$layer" --input Tests/Fixtures/$fixture/expected.safetensors
    --tensor "$tensor.input")
  "$build/moe" "${arguments[@]}" --output "$work/one" >"$work/output"
  for ranks in 2 3; do
    rm -f "$work/ranks"
    run -n $ranks "$build/moe" "${arguments[@]}" --mpi --output "$work/ranks" >"$work/output" 2>"$work/errors" ||
      failed "apply --mpi over $ranks ranks ends with $?"
    cmp "$work/one" "$work/ranks" || failed "apply --mpi over $ranks ranks writes another file for $fixture"
  done
  echo "$suite: apply --mpi writes the file of one rank for $fixture"
done

# Ranks that were asked for different things: each says it before any work, no file is written, and none waits for ever.
# differ TEXT ARGUMENTS-OF-RANK-0 ARGUMENTS-OF-RANK-1: the name of an array each.
differ() {
  local text=$1 code=0 rank
  local -n first=$2 second=$3
  rm -f "$work/none"
  run -n 1 "$build/moe" "${first[@]}" : -n 1 "$build/moe" "${second[@]}" >"$work/output" 2>"$work/errors" || code=$?
  [[ $code -eq 1 && ! -s $work/output && ! -e $work/none ]] || failed "ranks asked for different things end with $code"
  for rank in 0 1; do
    grep -qE "^rank $rank: the ranks were asked for different things: $text; expected the same on all ranks$" \
      "$work/errors" || failed "rank $rank does not say that $text"
  done
  echo "$suite: $(grep "^rank 1:" "$work/errors")"
}
plain=("${arguments[@]}" --mpi --output "$work/none")
cp -r "Tests/Fixtures/$fixture" "$work/changed"
echo >>"$work/changed/config.json"
other=("${plain[@]}" --dtype bf16)
differ "--dtype is f32 on rank 0 and bf16 on rank 1" plain other
other=("${plain[@]}" --isa scalar)
differ "the instruction set \\(--isa\\) is [a-z0-9]+ on rank 0 and scalar on rank 1" plain other
other=(apply "$work/changed" "${plain[@]:2}")
differ "the checkpoint \\(.*\\) is [0-9a-f]+ on rank 0 and [0-9a-f]+ on rank 1" plain other
other=(train --text README.md --out "$work/none" --mpi)
differ "the command is moe apply on rank 0 and moe train on rank 1; .*" plain other
train=(train --text README.md --out "$work/none" --mpi --steps 1)
other=("${train[@]}" --seed 2 --overlap 2)
differ "--seed is 1 on rank 0 and 2 on rank 1; --overlap is not given on rank 0 and 2 on rank 1" train other

# An error on one rank, which cannot write, ends them all.
code=0
run -n 2 "$build/moe" "${arguments[@]}" --mpi --output "$work/none/y" >"$work/output" 2>"$work/errors" || code=$?
[[ $code -eq 1 && ! -s $work/output ]] || failed "apply --mpi to a folder that is not there ends with $code"
grep -q "^rank 0: $work/none/y: cannot be created" "$work/errors" || failed "apply --mpi does not name the folder"
echo "$suite: $(grep "^rank 0:" "$work/errors" | sed "s|$work|FOLDER|g")"

expect exchange late 3 "all-to-all of step 10: rank 2 missing after 4 s"
expect exchange less 3 "all-to-all of step 10: rank 2 sent 1048560 bytes, where 1048576 were expected"
expect exchange more 3 "all-to-all of step 10: rank 2 sent more than the 1048576 bytes expected"
# Where mpirun tells them to end, the others do not wait for their deadline; here it leaves them 2 s to say so.
kindly="--mca odls_base_sigkill_timeout 2"
expect exchange killed 3 "all-to-all of step [0-9]+: $(missing 3 4)" $kindly
expect exchange killed 3 "all-to-all of step [0-9]+: $(missing 3 4)" --enable-recovery
expect layer late 3 "[a-z-]+ of the forward pass: $(missing 3 4)"
expect layer killed 3 "[a-z-]+ of the forward pass: $(missing 3 4)" $kindly
