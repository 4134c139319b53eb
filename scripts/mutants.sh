#!/usr/bin/env bash
# Takes guards away, one at a time, and looks whether the fault lab notices.
#
#   scripts/mutants.sh [ID ...]
#
# Each tests/faults/mutants/*.patch removes one guard and is named after the case that has to fail without it:
# `F07.patch`, or `F07-words.patch` where a case has several. The tree is copied to target/mutants, never changed here.
# Exits with 1 if a case passes without its guard, a patch does not apply, or what it makes does not build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

readonly root=$PWD
readonly tree=$root/target/mutants/tree
readonly log=$root/target/mutants/log
export CARGO_TARGET_DIR=$root/target/mutants/target
# The copy lies inside this repository, and `git apply` would look at that one instead.
export GIT_CEILING_DIRECTORIES=$root/target/mutants
readonly seed=${SEED:-42}
failures=0

# What git knows and what is new, without what is ignored. Times are kept, so that unchanged files build nothing.
copy_tree() {
    rm -rf "$tree"
    mkdir -p "$tree"
    git ls-files -z --cached --others --exclude-standard | while IFS= read -r -d '' file; do
        [[ ! -e $file ]] || printf '%s\0' "$file"
    done | xargs -0 cp -p --parents -t "$tree"
}

lab() {
    (cd "$tree" && cargo test --quiet --locked --features demo,failpoints --test faults -- "$@")
}

# The case that a patch is named after: the longest id that its name begins with.
case_of() {
    local name=$1
    while ! grep -qxF -- "$name" <<<"$ids"; do
        [[ $name == *-* ]] || return 1
        name=${name%-*}
    done
    printf '%s\n' "$name"
}

fail() {
    printf '%s\n' "$1"
    failures=$((failures + 1))
}

# Verdict on one patch.
judge() {
    local patch=$1 name id guard
    name=$(basename "$patch" .patch)
    guard=$(sed -n '1s/^# guard: //p' "$patch")
    if [[ -z $guard ]]; then
        fail "UNNAMED  $name: the first line must be \`# guard: …\`"
        return
    fi
    if ! id=$(case_of "$name"); then
        fail "UNKNOWN  $name: no case is called so"
        return
    fi
    if ! (cd "$tree" && git apply "$patch") 2>"$log"; then
        fail "STALE    $name: the patch does not apply ($guard)"
        cat "$log"
        return
    fi
    if ! (cd "$tree" && cargo test --quiet --locked --features demo,failpoints --test faults --no-run) >"$log" 2>&1; then
        fail "BROKEN   $name: it does not build ($guard)"
        tail -n 30 "$log"
    elif lab "$id" --seed "$seed" >"$log" 2>&1; then
        fail "SURVIVED $name: $id passes without its guard ($guard)"
    elif grep -q "^FAIL $id " "$log"; then
        printf 'killed   %s (%s)\n' "$name" "$guard"
        sed -n "/^FAIL $id /{s/^FAIL [^ ]* */         /;p;n;s/^ */         /;p;q}" "$log" | cut -c1-200
    else
        fail "BROKEN   $name: $id did not run"
        tail -n 30 "$log"
    fi
    (cd "$tree" && git apply -R "$patch")
}

copy_tree
ids=$(lab --list | awk '{ print $1 }')
readonly ids
wanted=("$@")
patches=("$root"/tests/faults/mutants/*.patch)
if ((${#wanted[@]} > 0)); then
    patches=("${wanted[@]/#/$root/tests/faults/mutants/}")
    patches=("${patches[@]/%/.patch}")
fi
for patch in "${patches[@]}"; do
    judge "$patch"
done
printf '%d mutants, %d that the lab does not kill\n' "${#patches[@]}" "$failures"
((failures == 0))
