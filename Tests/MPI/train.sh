#!/usr/bin/env bash
# moe train over Open MPI: 200 steps have the bits of one rank for any number of ranks, processes or threads; a rank that is
# killed is missed by the others, and fewer go on from what it leaves.
set -euo pipefail
moe=${1:?"usage: train.sh moe TEXT"}
text=${2:?"usage: train.sh moe TEXT"}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
settings=(--layers 2 --hidden 64 --ffn 128 --heads 2 --experts 8 --context 64 --batch 8 --steps 200
  --validate-every 50 --save-every 20 --threads 1)

failed() {
  echo "mpi-test: $1"
  cat "$work/output"
  exit 1
}

# over RANKS ARGUMENT…: moe train on that many processes.
over() {
  local ranks=$1
  shift
  timeout -k 5 300 mpirun.openmpi --oversubscribe --bind-to none --mca mpi_yield_when_idle 1 -n "$ranks" \
    "$moe" train --mpi --timeout 20 "$@" >"$work/output" 2>&1
}

# numbers RUN: its metrics but for times.
numbers() {
  sed -E 's/"seconds":[^,]*,"stages":\{[^}]*\},//; s/"tokens_per_second":[^,}]*,?//' "$work/$1/metrics.jsonl"
}

# same RUN: it has the bits of the run on one rank.
same() {
  [[ $(numbers "$1" | wc -l) -eq 200 ]] || failed "$1 did not record 200 steps"
  cmp -s <(numbers one) <(numbers "$1") || failed "$1: the metrics differ from those of one rank"
  cmp -s "$work/one/routing.json" "$work/$1/routing.json" || failed "$1: routing.json differs"
  cmp -s "$work/one/sample.txt" "$work/$1/sample.txt" || failed "$1: sample.txt differs"
  echo "mpi-test: moe train, $1: 200 steps with the bits of one rank"
}

for preset in switch deepseek; do
  rm -rf "$work"/*
  new=(--text "$text" --preset "$preset" "${settings[@]}")
  "$moe" train "${new[@]}" --out "$work/one" >"$work/output" 2>&1 || failed "one rank ends with $?"
  for ranks in 2 4; do
    "$moe" train "${new[@]}" --out "$work/$preset-threads-$ranks" --ranks "$ranks" >"$work/output" 2>&1 ||
      failed "$ranks threads end with $?"
    same "$preset-threads-$ranks"
  done
  for ranks in 1 2 3 4; do
    over "$ranks" "${new[@]}" --out "$work/$preset-processes-$ranks" || failed "$ranks processes end with $?"
    same "$preset-processes-$ranks"
  done
  over 3 "${new[@]}" --out "$work/$preset-processes-moved" --rebalance-every 25 || failed "3 processes that move experts end with $?"
  same "$preset-processes-moved"
  over 4 "${new[@]}" --out "$work/$preset-processes-2x2" --expert-parallel 2 || failed "2 × 2 processes end with $?"
  same "$preset-processes-2x2"
done

# One of three ranks computes with another instruction set: all three say so, and none trains.
code=0
timeout -k 5 60 mpirun.openmpi --oversubscribe --bind-to none -n 2 "$moe" train --mpi "${new[@]}" --out "$work/differs" : \
  -n 1 "$moe" train --mpi "${new[@]}" --out "$work/differs" --isa scalar >"$work/output" 2>&1 || code=$?
[[ $code -eq 1 && ! -e $work/differs ]] || failed "ranks of two instruction sets end with $code"
for rank in 0 1 2; do
  grep -qE "^rank $rank: .*the instruction set \\(--isa\\) is [a-z0-9]+ on ranks 0, 1 and scalar on rank 2; expected" "$work/output" ||
    failed "rank $rank does not say that ranks have two instruction sets"
done
echo "mpi-test: moe train, $(grep -m1 "^rank 0:" "$work/output")"

# kill_rank RUN RANK SIGNAL: once more than 50 steps are recorded.
kill_rank() {
  local process
  until [[ -f $work/$1/metrics.jsonl && $(wc -l <"$work/$1/metrics.jsonl") -gt 50 ]]; do
    kill -0 $job 2>/dev/null || failed "$1: the run ended before a rank had its signal"
    sleep 0.02
  done
  for process in $(pgrep -f "^$moe train --mpi .* --out $work/$1"); do
    if tr '\0' '\n' <"/proc/$process/environ" | grep -qx "OMPI_COMM_WORLD_RANK=$2"; then kill "-$3" "$process"; fi
  done
}

# One of four ranks is asked to end: all of them do, after the same step and with a checkpoint.
over 4 "${new[@]}" --out "$work/asked" &
job=$!
kill_rank asked 1 TERM
wait $job || failed "ranks of which one was asked to end end with $?"
step=$(wc -l <"$work/asked/metrics.jsonl")
[[ -f $work/asked/checkpoint-$step/manifest.json ]] || failed "there is no checkpoint of step $step"
echo "mpi-test: moe train, asked: $(tail -n 1 "$work/output" | cut -d ';' -f 1)"
over 3 --out "$work/asked" --resume || failed "three processes do not go on: $?"
same asked

# The fourth of four ranks is killed once 50 steps are recorded; two go on.
over 4 "${new[@]}" --out "$work/killed" &
job=$!
kill_rank killed 3 KILL
code=0
wait $job || code=$?
[[ $code -ne 0 && $code -ne 124 ]] || failed "mpirun ends with $code though a rank was killed"
for rank in 0 1 2; do
  grep -qE "^rank $rank: training stopped at step [0-9]+: .* missing.*; the last good checkpoint is that of step [0-9]+$" \
    "$work/output" || failed "rank $rank does not say what it misses"
done
echo "mpi-test: moe train, killed: $(grep -m1 "^rank 0:" "$work/output")"
over 2 --out "$work/killed" --resume || failed "two processes do not go on: $?"
same killed
