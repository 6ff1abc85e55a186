#!/usr/bin/env bash
# Builds the guide with mdBook into target/guide, and checks the links and anchors of all documents. Without an argument it
# installs mdBook into target/tools first where it is missing, which takes about a minute and a half; `links` checks the
# links alone, without mdBook. The programs of the guide are doctests of the crate `tidemill` (src/guide.rs).
set -euo pipefail
cd "$(dirname "$0")/.."
version=0.5.4
cargo test -p tidemill --test guide --locked
[ "${1:-}" = links ] && exit 0
mdbook="target/tools/bin/mdbook"
if [ "$("$mdbook" --version 2>/dev/null)" != "mdbook v$version" ]; then
    # A debug build: it compiles in half the time, and has one small book to build.
    CARGO_TARGET_DIR=target/tools/build cargo install mdbook --locked --debug --no-default-features --version "$version" --root target/tools
    rm -rf target/tools/build
fi
"$mdbook" build docs/guide
for chapter in docs/guide/src/*.md; do
    name=$(basename "$chapter" .md)
    [ "$name" = SUMMARY ] && continue
    [ -s "target/guide/$name.html" ] || { echo "mdbook has left out $chapter" >&2; exit 1; }
done
echo "the guide is in target/guide/index.html"
