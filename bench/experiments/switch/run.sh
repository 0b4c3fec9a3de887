#!/bin/bash
# Trains the runs of this experiment one after the other: run.sh MOE FOLDER [RUN…]
#
# MOE is the built command (.build/release/moe), FOLDER gets a folder a run. Runs that are finished are skipped and
# runs that were interrupted go on where their checkpoint stands, so the script may be stopped and called again.
# Without a RUN it trains them all: dense-1, switch8-1, …, switch8-unbalanced-3. FORTUNES is where Debian's fortunes
# packages lie.
set -euo pipefail

if [ $# -lt 2 ]; then
  sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
  exit 2
fi
moe=$1
folder=$2
shift 2
fortunes=${FORTUNES:-/usr/share/games/fortunes}

# fortunes-de -es -it -pl -cs -ru and the English ones that are prose.
text=()
for language in de es it pl cs ru; do text+=("$language=$fortunes/$language"); done
for name in literature people politics wisdom science computers humorists work definitions cookie; do
  text+=("en=$fortunes/$name")
done

settings=(--layers 4 --hidden 128 --ffn 512 --heads 4 --context 128 --batch 32 --steps 1200 --learning-rate 0.003
  --schedule inverse-sqrt --warmup 100 --validate-every 25)

runs=("$@")
if [ ${#runs[@]} = 0 ]; then
  for seed in 1 2 3; do
    for model in dense switch8 switch16 switch32; do runs+=("$model-$seed"); done
  done
  for seed in 1 2 3; do runs+=("switch8-unbalanced-$seed"); done
fi

mkdir -p "$folder"
for run in "${runs[@]}"; do
  model=${run%-*}
  case $model in
    dense) preset=(--preset dense) ;;
    switch8-unbalanced) preset=(--preset switch --experts 8 --balance-coefficient 0) ;;
    switch*) preset=(--preset switch --experts "${model#switch}") ;;
    *) echo "$run: no such run" >&2; exit 2 ;;
  esac
  # The sample is the last file that a run writes.
  if [ -e "$folder/$run/sample.txt" ]; then
    echo "$run: finished"
  elif [ -e "$folder/$run/run.json" ]; then
    echo "$run: goes on"
    "$moe" train --out "$folder/$run" --resume >>"$folder/$run.log" 2>&1
  else
    echo "$run: begins"
    "$moe" train --text "${text[@]}" --out "$folder/$run" --seed "${run##*-}" "${preset[@]}" "${settings[@]}" \
      >"$folder/$run.log" 2>&1
  fi
done
