#!/bin/sh
# Runs the throughput jobs on Spark Structured Streaming and prints a line of JSON a run, for `--bin peers --include`.
#
#   benches/peers/spark/run.sh > target/peers/spark.jsonl
#
# Installs the package pyspark (460 MB) into target/peers/venv if it is not there. Needs python3 and Java 17. A batch of Spark
# takes a second or two whatever is in it, so it gets many events: EVENTS (20000000), SLIDING_EVENTS (2000000),
# PARALLELISM ("1 2"), RUNS (1) and JOBS may be set.
# The text is written by `--bin peers --write-text target/peers/text`.
set -eu
cd "$(dirname "$0")/../../.."
out=target/peers
mkdir -p "$out"
[ -x "$out/venv/bin/pip" ] || python3 -m venv "$out/venv"
"$out/venv/bin/python" -c 'import pyspark' 2>/dev/null || "$out/venv/bin/pip" install --quiet 'pyspark>=4,<5' >&2
[ -f "$out/text" ] || cargo run --release -p tidemill-benches --bin peers -- --write-text "$out/text" >&2
mkdir -p "$out/texts"
ln -f "$out/text" "$out/texts/text"

run() { # job, input, keys, panes
    for cores in ${PARALLELISM:-1 2}; do
        echo "spark: $1, $cores cores" >&2
        "$out/venv/bin/python" benches/peers/spark/jobs.py "$1" "$cores" "$2" "$3" "$4" "${RUNS:-1}"
    done
}

events=${EVENTS:-20000000}
for job in ${JOBS:-word-count windowed-1000 windowed-1000000 sliding-2 sliding-12 sliding-60 session}; do
    case $job in
        word-count) run "$job" "$out/texts" 0 0 ;;
        windowed-*) run "$job" "$events" "${job#windowed-}" 1 ;;
        # Spark counts an event in each of its windows, not in panes: fewer events, or it takes minutes.
        sliding-*) run "$job" "${SLIDING_EVENTS:-2000000}" 1000 "${job#sliding-}" ;;
        session) run "$job" "$events" 1000 1 ;;
    esac
done
