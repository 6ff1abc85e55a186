#!/usr/bin/env bash
# What is unsafe, under valgrind: the rows that are kept as they lie in memory, and asking for memory ahead. Nothing is
# read or written outside its allocation, and (where rows have no padding, whose bytes have no value) nothing depends on
# what was never written.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v valgrind > /dev/null || { apt-get update -qq && apt-get install -y -qq valgrind; }
program=$(cargo test --locked -p tidemill-operators --features abomonation --test abomonated --no-run --message-format=json \
    | sed -n 's/.*"executable":"\([^"]*abomonated-[^"]*\)".*/\1/p')
under_valgrind() { valgrind --quiet --error-exitcode=1 --leak-check=full --show-leak-kinds=definite --errors-for-leak-kinds=definite "$@" --test-threads=1; }
under_valgrind "$program" solid
under_valgrind --undef-value-errors=no "$program"
program=$(cargo test --locked -p tidemill-operators --lib --no-run --message-format=json \
    | sed -n 's/.*"executable":"\([^"]*tidemill_operators-[^"]*\)".*/\1/p')
under_valgrind "$program" state::reach
echo "valgrind has nothing to say"
