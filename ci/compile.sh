#!/usr/bin/env bash
# Measures how long the builds of a program with fifteen graphs take (benches/compile): after a change of one line, and
# from nothing. By hand, on a quiet machine: ci/compile.sh [builds of each kind], three by default; 15 minutes.
# With TIDEMILL_CLEAN=0 without the builds from nothing, which come first otherwise.
set -euo pipefail
cd "$(dirname "$0")/../benches/compile"
runs=${1:-3}
export CARGO_TERM_COLOR=never CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
TIMEFORMAT='%R %U %S'
file=src/graphs/page_views.rs
before=$(<"$file")
trap 'printf "%s\n" "$before" >"$file"' EXIT

# Builds with these arguments; prints seconds of wall time and of CPU time.
build() {
  { time cargo build --quiet --locked "$@" >&2; } 2>&1 | awk 'NF == 3 {printf "%8.1f %8.1f\n", $1, $2 + $3}'
}

# Builds after a change of one line, that many times; prints the medians.
rebuild() {
  build "$@" >/dev/null
  local run
  for run in $(seq "$runs"); do
    sed -i "s/^const DELAY: u64 = .*/const DELAY: u64 = $((run + 10));/" "$file"
    build "$@"
  done | sort -n | awk '{wall[NR] = $1; cpu[NR] = $2} END {printf "%8.1f %8.1f\n", wall[int((NR + 1) / 2)], cpu[int((NR + 1) / 2)]}'
}

row() { printf '%-44s%s\n' "$1" "$2"; }
row "crates in the build" "$(cargo tree --locked --prefix none --edges normal,build | sed 's/ (\*)$//' | sort -u | wc -l)"
printf '%-44s%8s %8s\n' seconds: wall CPU
if [ "${TIDEMILL_CLEAN:-1}" != 0 ]; then
  rm -rf "${CARGO_TARGET_DIR:?}"
  row "debug, from nothing" "$(build)"
  row "release, from nothing" "$(build --release)"
fi
row "debug, one line" "$(rebuild)"
row "release, one line" "$(rebuild --release)"
row "profile fast, one line" "$(rebuild --profile fast)"
cargo run --quiet --locked --release
