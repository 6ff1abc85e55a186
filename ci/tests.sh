#!/usr/bin/env bash
# Runs what `cargo test --workspace` runs, in less time: the files whose tests mostly wait run beside the others.
set -euo pipefail
cd "$(dirname "$0")/.."
# They wait for processes that die, epochs that end, files that appear: minutes, and hardly any of a core.
waiting=(bounds checkpoints kill many_files stopping)

cargo test --workspace --locked --no-run
targets=(--lib --bins)
for file in tests/*.rs tests/*/main.rs {operators,runtime,benches}/tests/*.rs; do
  name=$(basename "${file%/main.rs}" .rs)
  [[ " ${waiting[*]} " == *" $name "* ]] || targets+=(--test "$name")
done
for file in benches/benches/*.rs; do targets+=(--bench "$(basename "$file" .rs)"); done

log=$(mktemp)
cargo test --workspace --locked --no-fail-fast "${waiting[@]/#/--test=}" >"$log" 2>&1 &
beside=$!
# If the others fail, these are no longer waited for.
trap 'kill "$beside" 2>/dev/null || true; rm -f "$log"' EXIT
cargo test --workspace --locked "${targets[@]}"
cargo test --workspace --locked --doc
printf '\n-- beside these: %s\n' "${waiting[*]}"
status=0; wait "$beside" || status=$?
cat "$log"
exit "$status"
