#!/usr/bin/env bash
# Lists the public items of `tidemill` into docs/public-items/after.txt, or those of a commit into the file that is named:
#     ci/public-items.sh [COMMIT FILE]
# rustdoc's JSON is not stable: the script pins the toolchain and lets it accept unstable options.
set -euo pipefail
cd "$(dirname "$0")/.."
toolchain=1.95.0
crates=(tidemill tidemill-operators tidemill-runtime tidemill-connectors)
root=$PWD
out=$root/${2:-docs/public-items/after.txt}
target=${CARGO_TARGET_DIR:-$root/target}/public-items
source=$root
if [ $# -gt 0 ]; then
    source=$(mktemp -d)
    trap 'git -C "$root" worktree remove --force "$source"' EXIT
    git worktree add --quiet --detach --force "$source" "$1"
fi
files=()
for crate in "${crates[@]}"; do
    (cd "$source" && RUSTC_BOOTSTRAP=1 CARGO_TARGET_DIR=$target cargo "+$toolchain" rustdoc --quiet -p "$crate" --lib --all-features \
        -- -Z unstable-options --output-format json)
    files+=("$target/doc/${crate//-/_}.json")
done
mkdir -p "$(dirname "$out")"
cargo run --quiet -p tidemill-benches --bin public_items -- "${files[@]}" >"$out"
echo "$(wc -l <"$out") public items are in ${out#"$root"/}"
