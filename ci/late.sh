#!/usr/bin/env bash
# Files that appear 3 ms and 100 ms apart while a continuous query idles: 100 runs each with 2, 3 and 4 workers, and no
# record that keeps the promise of its watermark may be late. Takes 20 minutes; LATE_RUNS=5 makes it shorter.
set -euo pipefail
cd "$(dirname "$0")/.."
TIDEMILL_LATE_RUNS="${LATE_RUNS:-100}" cargo test --release --locked -p tidemill --test late
