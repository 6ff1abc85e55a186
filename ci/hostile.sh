#!/usr/bin/env bash
# Runs the tests that need another environment than a process has: a clock that is set while they run, few file
# descriptors. Needs a C compiler; takes less than a minute once the tests are built.
#
# By hand, 4 minutes: TIDEMILL_PEERS_SECONDS=60 cargo test --test peers -- abusive --nocapture
# and 2 minutes: TIDEMILL_OLD_FILES=100000 cargo test --release --test many_files -- --nocapture
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The binary of a test file, built.
binary() {
  cargo test --locked --test "$1" --no-run 2>&1 | tee /dev/stderr | sed -n 's/.*Executable.*(\(.*\))$/\1/p'
}

printf '\n== the clock is set back and forward\n'
cc -shared -fPIC -O1 -o "$scratch/clock.so" ci/hostile/clock.c
clock=$(binary clock)
CLOCK_SHIFT="$scratch/shift" LD_PRELOAD="$scratch/clock.so" "$clock" --ignored --test-threads=1

printf '\n== few file descriptors\n'
peers=$(binary peers)
(ulimit -Sn 64 && TIDEMILL_DESCRIPTORS=64 "$peers" listener_without --ignored)
