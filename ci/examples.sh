#!/usr/bin/env bash
# Runs every example; each checks its own result. With `dev` in the profile of the tests, which build them anyway; otherwise
# in release, where the first build takes ten minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
profile="${1:-release}"
# The workspace, so that its features are those of `cargo test --workspace`.
cargo build --profile "$profile" --workspace --locked --examples
directory="${CARGO_TARGET_DIR:-target}/${profile/#dev/debug}"
for file in examples/*.rs; do
    name=$(basename "$file" .rs)
    [ "$name" = word_count ] && continue # has its own place
    printf -- '-- %s\n' "$name"
    "$directory/examples/$name"
done
