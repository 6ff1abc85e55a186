#!/bin/sh
# Runs the throughput jobs on Flink and prints a line of JSON a run, for `--bin peers --include`.
#
#   benches/peers/flink/run.sh > target/peers/flink.jsonl
#
# Installs the package apache-flink-libraries (330 MB) into target/peers/venv if it is not there. Needs python3 and a JDK of
# version 17. EVENTS (2000000), SLIDING_EVENTS (500000), PARALLELISM ("1 2"), RUNS (3), HEAP (4g) and JOBS may be set.
# The text is written by `--bin peers --write-text target/peers/text`.
set -eu
cd "$(dirname "$0")/../../.."
out=target/peers
mkdir -p "$out/flink"
[ -x "$out/venv/bin/pip" ] || python3 -m venv "$out/venv"
find "$out/venv" -name 'flink-dist-*.jar' | grep -q . ||
    "$out/venv/bin/pip" install --quiet --no-deps 'apache-flink-libraries>=2.3,<3' >&2
lib=$(dirname "$(find "$out/venv" -name 'flink-dist-*.jar' | head -n 1)")
[ -f "$out/text" ] || cargo run --release -p tidemill-benches --bin peers -- --write-text "$out/text" >&2
javac -nowarn -Xlint:none -cp "$lib/*" -d "$out/flink" benches/peers/flink/Jobs.java >&2

run() { # job, input, keys, panes
    for parallelism in ${PARALLELISM:-1 2}; do
        echo "flink: $1, parallelism $parallelism" >&2
        java -Xmx"${HEAP:-4g}" -Dlog4j.rootLogger.level=OFF -Dlog4j2.level=OFF \
            --add-opens=java.base/java.util=ALL-UNNAMED --add-opens=java.base/java.lang=ALL-UNNAMED \
            -cp "$lib/*:$out/flink" Jobs "$1" "$parallelism" "$2" "$3" "$4" "${RUNS:-3}"
    done
}

events=${EVENTS:-2000000}
for job in ${JOBS:-word-count windowed-1000 windowed-1000000 sliding-2 sliding-12 sliding-60 session}; do
    case $job in
        word-count) run "$job" "$out/text" 0 0 ;;
        windowed-*) run "$job" "$events" "${job#windowed-}" 1 ;;
        # Flink counts an event in each of its windows, not in panes: fewer events, or it takes minutes.
        sliding-*) run "$job" "${SLIDING_EVENTS:-500000}" 1000 "${job#sliding-}" ;;
        session) run "$job" "$events" 1000 1 ;;
    esac
done
