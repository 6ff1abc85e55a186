#!/usr/bin/env bash
# The crates depend on each other in one direction, their modules too; timely is named in engine/ and table/ only, differential
# dataflow in table/ only.
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
absent tidemill-runtime tidemill-connectors clap differential-dataflow
absent tidemill differential-dataflow abomonation clap tokio axum rdkafka object_store plotters hyper
if grep -rnE '(use|::) *timely\b|timely::' --include='*.rs' src operators/src connectors/src runtime/src \
    | grep -vE '^runtime/src/(engine|table)/'; then
    echo "timely is named outside runtime/src/engine and runtime/src/table" >&2
    exit 1
fi
if grep -rnE 'differential_dataflow' --include='*.rs' src operators/src connectors/src runtime/src | grep -v '^runtime/src/table/'; then
    echo "differential dataflow is named outside runtime/src/table" >&2
    exit 1
fi
# No cycle between the top-level modules of a crate.
for root in operators/src runtime/src connectors/src; do
    # The files of modules that are compiled for tests only.
    tests=$(grep -rhE -A1 --include='*.rs' '^ *#\[cfg\(test\)\]' "$root" | grep -oE 'mod [a-z_]+;' | sed -E 's/mod ([a-z_]+);/-o -path *\/\1.rs -o -path *\/\1\/*/' | sort -u | tr '\n' ' ')
    set -f
    # shellcheck disable=SC2086
    files=$(find "$root" -name '*.rs' -not \( -path '*/bin/*' $tests \) -not -name lib.rs | sort)
    set +f
    # shellcheck disable=SC2086
    if ! awk -v root="$root" -f ci/modules.awk "$root/lib.rs" $files | sort -u | tsort >target/modules.txt 2>&1; then
        echo "modules of $root depend on each other in a circle:" >&2
        grep '^tsort' target/modules.txt >&2
        exit 1
    fi
done
echo "the arrows point one way"
