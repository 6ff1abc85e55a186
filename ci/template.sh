#!/usr/bin/env bash
# Builds and tests a copy of `examples/template`, as a new program would start from it: a package of its own beside a clone of
# the repository. It shares the target directory and the versions of the workspace; only `tracing-subscriber` is fetched besides.
set -euo pipefail
cd "$(dirname "$0")/.."
root=$PWD
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
cp -r examples/template/. Cargo.lock "$copy"
sed -i "s#path = \"../..\"#path = \"$root\"#" "$copy/Cargo.toml"
cd "$copy"
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$root/target}"
cargo test
cargo run -- --mode continuous --workers 2
echo "the template builds, passes its tests and runs"
