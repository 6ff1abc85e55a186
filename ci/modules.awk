# Prints an arrow "from to" for each use that a top-level module of a crate makes of another. Tests do not count.
# awk -v root=runtime/src -f ci/modules.awk runtime/src/lib.rs FILE…
FNR == 1 {
    path = substr(FILENAME, length(root) + 2)
    split(path, parts, "/")
    from = parts[1]
    sub(/\.rs$/, "", from)
    is_root = path == "lib.rs"
    test = 0
}
# What the root exports under a name of its own belongs to the module that it comes from.
is_root && /^(pub )?(\(crate\) )?mod [a-z_]+;|^pub mod [a-z_]+;/ { name = $0; sub(/.*mod /, "", name); sub(/;.*/, "", name); module[name] = 1 }
is_root && /^pub use / { exports = ""; collecting = 1 }
is_root && collecting {
    exports = exports " " $0
    if (/;/) {
        collecting = 0
        sub(/^ *pub use (self::)?/, "", exports)
        of = exports
        sub(/::.*/, "", of)
        gsub(/[^A-Za-z_]+/, " ", exports)
        count = split(exports, names, " ")
        for (i = 2; i <= count; i++) exported[names[i]] = of
    }
}
is_root { next }
/^ *#\[cfg\(test\)\]/ { test = 1; next }
test == 1 && /mod [a-z_]+ \{/ { test = 2 }
test == 1 { test = 0; next }
test == 2 { if (/^}/) test = 0; next }
{
    line = $0
    sub(/\/\/.*/, "", line)
    while (match(line, /crate::[A-Za-z_]+/)) {
        arrow(substr(line, RSTART + 7, RLENGTH - 7))
        line = substr(line, RSTART + RLENGTH)
    }
    if ($0 ~ /^use crate::\{/) grouped = 1
    if (grouped) {
        group = $0
        gsub(/[^A-Za-z_]+/, " ", group)
        count = split(group, names, " ")
        for (i = 1; i <= count; i++) arrow(names[i])
        if (/;/) grouped = 0
    }
}
function arrow(name) {
    if (name in exported) name = exported[name]
    if (name in module && name != from) print from, name
}
