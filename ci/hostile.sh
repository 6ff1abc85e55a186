#!/usr/bin/env bash
# Runs the tests that need another environment than a process has: a clock that is set while they run, few file
# descriptors, little address space, an unprivileged user. Needs a C compiler and, as root, setpriv; takes less than a
# minute once the tests are built.
#
# By hand, 4 minutes: TIDEMILL_PEERS_SECONDS=60 cargo test --test peers -- abusive --nocapture
# and 2 minutes: TIDEMILL_OLD_FILES=100000 cargo test --release --test many_files -- --nocapture
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The binary of a test file, built.
binary() {
  cargo test --workspace --locked --test "$1" --no-run 2>&1 | tee >(cat >&2) | sed -n 's/.*Executable.*(\(.*\))$/\1/p'
}

printf '\n== the clock is set back and forward\n'
cc -shared -fPIC -O1 -o "$scratch/clock.so" ci/hostile/clock.c
clock=$(binary clock)
CLOCK_SHIFT="$scratch/shift" LD_PRELOAD="$scratch/clock.so" "$clock" --ignored --nocapture

printf '\n== few file descriptors\n'
peers=$(binary peers)
(ulimit -Sn 64 && TIDEMILL_DESCRIPTORS=64 "$peers" listener_without --ignored)

# Each thread takes 64 MiB of addresses, and those that the limit leaves no room for are refused.
printf '\n== little address space\n'
threads=$(binary address_space)
(ulimit -v 1600000 && RUST_MIN_STACK=67108864 MALLOC_ARENA_MAX=1 "$threads" --ignored --test-threads=1)

printf '\n== permissions are withdrawn from an unprivileged user\n'
odd_files=$(binary odd_files)
if [ "$(id -u)" = 0 ]; then
  # The user cannot enter the directory of the build.
  install -m 755 "$odd_files" "$scratch/odd_files"
  mkdir -m 777 "$scratch/tmp" && chmod 755 "$scratch"
  withdrawn=(env TMPDIR="$scratch/tmp" setpriv --reuid=65534 --regid=65534 --clear-groups "$scratch/odd_files")
else
  withdrawn=("$odd_files")
fi
(cd "$scratch" && TIDEMILL_UNPRIVILEGED=1 "${withdrawn[@]}" --exact directory_whose_permissions_are_withdrawn_is_an_error)
