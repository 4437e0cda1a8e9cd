# Lists the functions that we stand in front of, a line each, from the REAL_…_HOOKED tables of engine/upstream/real.h.

/^#define REAL_[A-Z]+_HOOKED/ { on = 1 }

on && match($0, /[*)] *[_a-zA-Z0-9]+, \(|, [_a-zA-Z0-9]+, \(/) {
    name = substr($0, RSTART, RLENGTH)
    gsub(/[^_a-zA-Z0-9]/, "", name)
    print "        " name
}

!/\\$/ { on = 0 }
