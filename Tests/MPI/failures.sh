# What the other ranks say of one that fails; sourced by the suites, which define `run` (mpirun), `probe`, `work` and
# `suite`.

failed() {
  echo "$suite: $1"
  cat "$work/output" "$work/errors" "$work"/reports/rank-* 2>/dev/null || true
  exit 1
}

# Waits for files in the reports' folder, or for the end of the job.
await() {
  local file
  for file in "$@"; do
    while [[ ! -e $work/reports/$file ]] && kill -0 "$job" 2>/dev/null; do sleep 0.05; done
  done
}

# expect SUBJECT SCENARIO RANKS TEXT [MPIRUN-OPTION…]: all ranks but the last report TEXT, after which the subject's
# step is anything, and mpirun ends by itself, not with 0. Where a link is cut, `cut_link` and `restore_link` do it.
expect() {
  local subject=$1 scenario=$2 ranks=$3 text=$4 code=0 rank
  shift 4
  rm -rf "$work/reports"
  mkdir "$work/reports"
  run "$@" -n "$ranks" "$probe" fail "$subject" "$scenario" "$work/reports" >"$work/output" 2>"$work/errors" &
  job=$!
  case $scenario in
    killed)
      await started pid
      kill -9 "$(cat "$work/reports/pid")"
      ;;
    cut)
      await started
      cut_link
      # mpirun cannot end before it reaches its daemon there.
      await $(seq -f rank-%g 0 $((ranks - 2)))
      restore_link
      ;;
  esac
  wait $job || code=$?
  # A job that was told to survive a rank ends with 0.
  [[ $code -ne 0 || "$*" == *recovery* ]] || failed "$subject $scenario: mpirun ends with 0"
  [[ $code -ne 124 && $code -ne 137 || $scenario == killed ]] || failed "$subject $scenario: it hangs"
  for rank in $(seq 0 $((ranks - 2))); do
    grep -qsE "^$text, [0-9]+ s after the start$" "$work/reports/rank-$rank" ||
      failed "$subject $scenario: rank $rank does not report '$text'"
  done
  echo "$suite: $subject, $scenario${*:+, $*}: rank 0 says: $(cat "$work/reports/rank-0")"
}

# missing RANKS TIME: how an error names the last rank, alone or after others: a rank that got the last one's message
# before it failed is a step ahead of the others, and misses those too. Over TCP a rank may notice its end at once.
missing() {
  local last=$(($1 - 1))
  echo "((the job was told to end, )?(rank|ranks ([0-9]+, )*[0-9]+ and) $last missing( after $2 s)?|the messages with rank $last fail: .*)"
}
