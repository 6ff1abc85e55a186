#!/usr/bin/env bash
# Kills a query at every point of the protocol and at hundreds of random moments, starts it again, and compares: nothing
# lost, nothing twice. Takes some minutes; TIDEMILL_KILLS and TIDEMILL_SEED change the number of random kills and
# the moments.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUST_BACKTRACE=1
# Nothing here is about what a crash of the machine leaves: files need not be on a real disk.
if [ -z "${TMPDIR:-}" ] && [ -w /dev/shm ]; then export TMPDIR=/dev/shm; fi
run() { printf '\n== %s\n' "$*"; cargo test --locked --test kill -- --test-threads=1 --nocapture --exact --include-ignored "$@"; }
run at_every_point_with_windows
run at_every_point_with_late_rows
run at_random_moments
run at_random_moments_with_updates_at_once
run tables::complete_tables_at_random_moments
run owners::second_instance_is_refused_while_first_is_stopped
run owners::forks_at_random_moments
run outputs::at_random_moments_with_outputs_and_modes
run process::at_random_moments_with_timers_and_rules
run joins::at_random_moments_with_joins
run incremental::at_random_moments_with_tables
