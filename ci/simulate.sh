#!/usr/bin/env bash
# Simulates every graph of tests/simulate: ci/simulate.sh [seeds of each graph] [seconds] [first seed]
# Takes seeds in pieces until there have been this many, or this many seconds have passed, or one fails.
set -euo pipefail
cd "$(dirname "$0")/.."
most=${1:-2500} seconds=${2:-86400} first=${3:-1000}
log=$(mktemp); trap 'rm -f "$log"' EXIT
piece=25
export CARGO_TERM_COLOR=never
cargo test --workspace --quiet --locked --test simulate --no-run
graphs=$(cargo test --workspace --quiet --locked --test simulate -- --list 2>/dev/null | grep -c ': test$')
graphs=$((graphs - 1)) # One checks that seeds replay.
begun=$SECONDS done=0
while [ "$done" -lt "$most" ] && [ $((SECONDS - begun)) -lt "$seconds" ]; do
    from=$((first + done)) to=$((first + done + piece))
    if ! TIDEMILL_SEEDS=$from..$to cargo test --workspace --quiet --locked --test simulate >"$log" 2>&1; then
        cat "$log"
        echo "a seed of $from..$to fails after $((SECONDS - begun)) s" >&2
        exit 1
    fi
    done=$((done + piece))
done
took=$((SECONDS - begun)) all=$((done * graphs))
echo "$all seeds of $graphs graphs, 0 violations, $((all * 60 / (took > 0 ? took : 1))) seeds a minute"
