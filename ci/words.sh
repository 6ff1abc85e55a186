#!/usr/bin/env bash
# Rejects words that a reader has to guess, test names of more than 60 characters, doc examples that cannot be pasted into a
# program, and entries of the changelog of more than three lines. Checks first that each rule finds what is planted.
set -euo pipefail
cd "$(dirname "$0")/.."
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# A pattern (grep -E) in prose, comments and messages, and what to write instead.
rules='
\b[Nn]obody [a-z]|\bnobody\b	name the subject that does not act: no worker, no reader
\b[Ss]o many\b	the number: this many, `n`
\b[Pp]ut by\b	buffered
\b([Ll]ays?|[Ll]aid) (it |them )?down\b	materialise
\b([Ll]ets?|letting) go of\b	release
\b(goes|went|gone|going) on\b|\b(to|can|cannot|must|may|will|not|and) go on\b	resume, continue
\b([Tt]akes?|taken|took|taking) back\b	retract, remove, roll back
\b([Bb]egins?|began|begun|beginning) anew\b	start from the beginning, start empty, reset
\b([Mm]oves?|moved|moving) on\b	advance
\b([Hh]ands?|handed|handing) over\b|\b[Hh]ands? on what\b	emit, send, pass
\b([Dd]eals?|dealt|dealing) (it |them )?out\b	route, distribute
\b(asked again|called back)\b	polled again, woken
\bhad better\b	should; prefers
\blast word\b	last report
\bsays no\b|error that says so	refuses with an error
\b(what is there|what there is)\b	name it: the available input, the files that exist
\blonger than nothing\b	greater than zero
\bin the place of the one there is\b	replaces
\bended event time\b	its watermark advances to `EventTime::MAX`
\b(is|are|was|were|be|been) said (once|twice|again|at once|when|last)\b	emit
\b[Uu]nless (said|told otherwise)\b|\bif nothing is said\b	by default
\b[Ww]hoever\b	name it: the reader, the caller, the next run
\b([Bb]reaks?|broke|broken) off\b	is truncated
\b[Ww]hat becomes of\b	how it is handled, written, read
\b([Ww]rites?|[Ww]ritten|wrote|[Ww]riting) (it |them )?down\b	write, record, store
\b([Tt]hrows?|[Tt]hrown|threw) (it |them )?away\b	drop, remove
\b[Cc]ut back to\b	truncate to
\b[Dd]o(es)? no harm\b	is harmless, is idempotent
\b[Ii]n vain\b	without effect, without a result
\b[Aa]new\b	again
\b([Ss]ittings?|session of work|work session)\b	leave out how the work was done
'

# Prints each line of the files that breaks a rule.
words() {
    local pattern instead found status=0
    while IFS=$'\t' read -r pattern instead; do
        [ -n "$pattern" ] || continue
        found=$(grep -nHE "$pattern" "$@" /dev/null || true)
        [ -z "$found" ] && continue
        printf '%s\n    write instead: %s\n' "$found" "$instead"
        status=1
    done <<<"$rules"
    return $status
}

# Prints names of tests that are too long to read.
test_names() {
    awk '
        FNR == 1 { is_test = 0 }
        /^[ \t]*#\[test\]/ { is_test = 1; next }
        is_test && /^[ \t]*fn [a-z0-9_]+/ {
            name = $0; sub(/^[ \t]*fn /, "", name); sub(/[^a-z0-9_].*/, "", name)
            if (length(name) > 60) { print FILENAME ":" FNR ": " name " has " length(name) " characters, of at most 60"; bad = 1 }
            is_test = 0
        }
        END { exit bad }
    ' "$@"
}

# Prints lines of doc examples that name another crate of the workspace than `tidemill`.
examples() {
    awk '
        FNR == 1 { in_code = 0 }
        !/^[ \t]*\/\/[\/!]/ { in_code = 0; next }
        /^[ \t]*\/\/[\/!] *```/ { in_code = !in_code; next }
        in_code && /tidemill_(operators|runtime|connectors)/ { print FILENAME ":" FNR ": " $0 "\n    write instead: tidemill::"; bad = 1 }
        END { exit bad }
    ' "$@"
}

# Prints entries of the changelog of more than three lines.
entries() {
    awk '
        /^- / { entry = FNR; next }
        /^(#|$)/ { entry = 0; next }
        entry && FNR == entry + 3 { print FILENAME ":" entry ": an entry of more than three lines"; bad = 1 }
        END { exit bad }
    ' "$@"
}

# Each rule finds a line that breaks it, and passes one that does not.
planted() { # check, what it must find
    printf '%b\n' "$2" >"$scratch/planted"
    if "$1" "$scratch/planted" >/dev/null; then
        echo "ci/words.sh: \`$1\` does not find: $2" >&2
        exit 1
    fi
}
for line in '// nobody reads it' '/// At most so many rows.' '// rows put by' '// is laid down' '// lets go of it' \
    '// the query goes on' '// cannot go on' '// are taken back' '// begins anew' '// moves on' '// hands over rows' \
    '// dealt out' '// asked again' '// it had better' '// its last word' '// says no' '// reads what is there' \
    '"must be longer than nothing"' '// has ended event time' '// an earlier sitting' \
    '// a window is said once' '// 8 unless said' '// whoever asks' \
    '// the log breaks off' '// what becomes of it' '// writes it down' '// is thrown away' '// is cut back to the commit' \
    '// does no harm' '// asks in vain' '// counts anew'; do
    planted words "$line"
done
planted test_names "#[test]\nfn $(printf 'a%.0s' {1..61})() {"
planted examples '/// ```\n/// use tidemill_operators::Graph;\n/// ```'
planted entries '- one\n  two\n  three\n  four'
printf '%b\n' '/// Emits one row. [a](tidemill_operators::Graph)' '#[test]' 'fn a_b() {}' '- one' '  two' '  three' >"$scratch/planted"
for check in words test_names examples entries; do
    "$check" "$scratch/planted" || { echo "ci/words.sh: \`$check\` rejects what is right" >&2; exit 1; }
done

mapfile -t rust < <(git ls-files '*.rs')
mapfile -t prose < <(git ls-files '*.md' '*.sh' '*.toml' '.ci/run' | grep -vxE 'ci/words.sh|benches/results/.*')
status=0
words "${rust[@]}" "${prose[@]}" || status=1
test_names "${rust[@]}" || status=1
examples "${rust[@]}" || status=1
entries CHANGELOG.md || status=1
[ "$status" = 0 ] && echo "words: nothing to reject"
exit "$status"
