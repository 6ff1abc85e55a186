#!/usr/bin/env bash
# The crates depend on each other in one direction, and the engine underneath is named in one room only.
set -euo pipefail
cd "$(dirname "$0")/.."
tree() { cargo tree --locked --edges normal --prefix none "$@" | awk '{print $1}' | sort -u; }
absent() { # package, names that must not be below it
    local package=$1; shift
    for name in "$@"; do
        if tree -p "$package" | grep -qx "$name"; then
            echo "$package must not depend on $name" >&2
            exit 1
        fi
    done
}
absent tidemill-operators timely differential-dataflow crossbeam-channel clap tidemill-runtime tidemill-connectors
absent tidemill-connectors timely tidemill-runtime
absent tidemill-runtime tidemill-connectors clap
absent tidemill abomonation clap tokio axum rdkafka object_store plotters hyper
if grep -rnE '(use|::) *timely\b|timely::' --include='*.rs' src operators/src connectors/src runtime/src \
    | grep -v '^runtime/src/engine/'; then
    echo "timely is named outside runtime/src/engine" >&2
    exit 1
fi
echo "the arrows point one way"
