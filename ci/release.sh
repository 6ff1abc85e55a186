#!/usr/bin/env bash
# Checks what a release needs, and names what it could not check. By hand: some steps need tools and the network.
set -uo pipefail
cd "$(dirname "$0")/.."
crates=(tidemill-operators tidemill-connectors tidemill-runtime tidemill)
failed=() unchecked=()
step() { # name, command …
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed+=("$name")
}
# Runs a tool of cargo, or notes how to install it.
tool() { # subcommand, name of the step, command …
    if cargo "$1" --version >/dev/null 2>&1; then
        step "${@:2}"
    else
        unchecked+=("$2: cargo install --locked cargo-$1")
    fi
}
# Packages a crate without a warning. The version of a sibling that the registry does not have cannot be resolved: so the first
# crate is packaged and built as `cargo publish` does it, and the others are packaged together with it. Cargo names each test that is
# not in a package; that is intended.
package() {
    local log
    log=$(cargo package --workspace --exclude tidemill-benches --allow-dirty --offline --no-verify 2>&1) || { echo "$log"; return 1; }
    echo "$log"
    ! grep '^warning' <<<"$log" | grep -vE '^warning: ignoring (test|benchmark|example) '
}
contents() { # No test file, script or result is in a package.
    local crate found
    for crate in "${crates[@]}"; do
        found=$(cargo package -p "$crate" --list --allow-dirty --offline | grep -E '^(tests|ci|benches|examples)/' || true)
        [ -z "$found" ] || { echo "$crate: $found"; return 1; }
    done
}
docs() { # As docs.rs builds them: the features of each item are shown.
    local crate features
    for crate in "${crates[@]}"; do
        case $crate in
        tidemill) features=async,cli,jiff,abomonation,latency,pinning ;;
        tidemill-operators) features=abomonation,async,jiff ;;
        tidemill-connectors) features=latency ;;
        *) features=async,cli,pinning ;;
        esac
        RUSTC_BOOTSTRAP=1 RUSTDOCFLAGS="--cfg docsrs -D warnings" cargo doc -p "$crate" --no-deps --offline --features "$features" || return 1
    done
}
minimum() {
    local version
    version=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)
    rustup toolchain list | grep -q "^$version" || { unchecked+=("minimum Rust version: rustup toolchain install $version"); return 0; }
    cargo "+$version" check --workspace --exclude tidemill-benches --all-features --locked
}
repository() {
    grep -q '^repository = ' Cargo.toml || { echo 'set `repository` in [workspace.package]'; return 1; }
}

step "the address of the repository" repository
step "packages without a warning" package
step "contents of the packages" contents
step "the first crate as it is published" cargo publish --dry-run -p tidemill-operators --allow-dirty
step "documentation as on docs.rs" docs
step "minimum Rust version" minimum
step "the template" bash ci/template.sh
tool deny "licences" cargo deny --workspace --all-features check licenses sources
tool deny "no crate twice in a program" cargo deny --all-features --exclude-dev check bans
tool deny "advisories" cargo deny --all-features check advisories
tool semver-checks "semantic versioning against the last release" cargo semver-checks --package tidemill
tool outdated "dependencies of which there is a newer major version" cargo outdated --workspace --root-deps-only --exit-code 1

printf '\n'
for what in "${unchecked[@]}"; do echo "not checked: $what"; done
for what in "${failed[@]}"; do echo "failed: $what"; done
[ ${#failed[@]} = 0 ]
