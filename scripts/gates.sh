#!/usr/bin/env bash
# The security gates: one line each, `PASS|FAIL|NOT RUN  Sxx  title  (figure or reason)`, and a summary.
#
#   scripts/gates.sh [S01 S28 ...]
#
# A gate is a list of named tests, or a function below where a finished program has to be looked at. A named test that
# does not exist, is ignored or did not finish fails its gate. NOT RUN fails nothing and says exactly what is missing;
# a network that fails is NOT RUN, never PASS. Exit status: 1 where a gate failed, 2 where the gates could not be run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
exec </dev/null

readonly deny_version=0.20.2
readonly only=("$@")
export CARGO_TERM_COLOR=never RUST_BACKTRACE=0

die() {
    printf 'gates: %s\n' "$*" >&2
    exit 2
}

ids=() titles=() checks=()

# gate ID TITLE CHECK...: a check is `target::path::of::a::test`, or `run:function`.
gate() {
    if ((${#only[@]} > 0)) && [[ " ${only[*]} " != *" $1 "* ]]; then
        return 0
    fi
    ids+=("$1") titles+=("$2")
    shift 2
    checks+=("$*")
}

gate S01 "names become SQL in one module, quoted; no other text is put into SQL" \
    tidy::security::sql_is_put_together_only_in_the_reviewed_places \
    tidy::security::statements_are_constants_sent_by_the_store_alone_but_for_the_reviewed_ones \
    tidy::security::names_become_identifiers_in_one_module \
    lib::store::identifier::tests::names_cannot_leave_their_quotes \
    it::targets::names_of_any_characters_are_quoted_and_mapped_by_name_or_position_in_any_order \
    it::hostile::any_names_of_schema_table_and_columns_survive_create_copy_read_and_drop
gate S02 "our statements see no schema but PostgreSQL's own" \
    it::privileges::nothing_in_a_schema_of_the_roles_path_is_called_by_our_statements_and_triggers_keep_that_path \
    it::privileges::the_sessions_of_the_ledger_have_an_empty_search_path_whatever_was_asked_for
gate S03 "keys never become file paths; an archive key is prefix and key" \
    tidy::security::modules_that_handle_keys_know_neither_files_nor_programs \
    it::hostile::a_key_forges_no_log_line_and_its_archive_key_is_the_prefix_and_the_key
gate S05 "everything an object can claim is capped, exactly" \
    it::corpus::csv_streamed_one_by_one \
    it::corpus::bombs_in_bounded_memory \
    it::corpus::endless_lines_within_the_caps_that_hold_by_default \
    config::default_toml_names_every_key_and_states_every_default
gate S06 "a panic unwinds in every profile" \
    tidy::security::a_panic_unwinds_in_every_profile
gate S08 "no unsafe code of ours" \
    tidy::security::nothing_unsafe_and_no_verifier_of_our_own_elsewhere run:crate_forbids_unsafe
gate S09 "keys and messages forge no log line and no output" \
    it::hostile::a_key_forges_no_log_line_and_its_archive_key_is_the_prefix_and_the_key \
    lib::telemetry::tracing::tests::keys_cannot_forge_text_lines \
    lib::telemetry::tracing::tests::keys_cannot_forge_json_lines_and_are_read_back_whole \
    cli::operator::keys_that_would_forge_output_are_escaped
gate S11 "loopback by default, and one listener alone" \
    it::secrets::by_default_only_loopback_is_listened_on \
    it::secrets::a_running_daemon_shows_no_secret_and_listens_on_loopback_alone \
    deploy::nothing_is_published_beyond_loopback_and_the_database_not_at_all
gate S15 "slow, large and many requests meet their limits" \
    lib::http::server::tests::a_header_that_does_not_end_is_closed_in_time \
    lib::http::server::tests::a_header_that_trickles_is_closed_in_time \
    lib::http::server::tests::a_body_that_does_not_come_is_answered_and_closed_in_time \
    lib::http::server::tests::a_client_that_does_not_read_is_closed_in_time \
    lib::http::server::tests::bodies_over_the_limit_are_refused \
    lib::http::server::tests::connections_over_the_cap_wait_for_a_place
gate S16 "no address in a message is opened or shown" \
    lib::domain::notification::tests::a_subscription_is_left_to_a_person_and_its_reason_names_no_url \
    lib::pipeline::discover::notify::shown::tests::addresses_are_taken_out_however_they_are_spelled \
    it::notifications::a_message_nobody_understands_stays_and_holds_up_no_other
gate S20 "every HTTP answer says no-store and nosniff, none names the server" \
    lib::http::server::tests::every_answer_says_that_it_is_not_to_be_kept_and_is_what_its_type_says
gate S22 "metric labels come from a closed list" \
    metrics::labels_are_few_and_known \
    metrics::the_document_lists_the_label_values_that_exist \
    lib::http::server::tests::paths_that_clients_make_up_become_no_labels \
    it::secrets::a_running_daemon_shows_no_secret_and_listens_on_loopback_alone
gate S23 "secrets come from files, credentials or the environment, never from arguments" \
    config::secrets_come_from_file_credential_or_value_and_only_from_one \
    config::a_secret_on_the_command_line_is_refused \
    it::secrets::a_running_daemon_shows_no_secret_and_listens_on_loopback_alone
gate S24 "no secret in results, messages, logs, metrics, the ledger or errors" \
    it::secrets::no_secret_is_seen_whatever_goes_right_or_wrong \
    it::secrets::a_running_daemon_shows_no_secret_and_listens_on_loopback_alone \
    config::secrets_are_in_no_output config::secrets_are_in_no_error \
    lib::telemetry::tracing::tests::libraries_that_print_secrets_stay_at_info
gate S25 "no core dumps" \
    it::secrets::a_daemon_that_dies_leaves_no_core_dump \
    deploy::the_unit_keeps_the_daemons_contract
gate S27 "no secrets in the repository" \
    tidy::security::no_file_of_the_repository_holds_a_secret \
    deploy::the_environment_example_holds_settings_and_no_secret
gate S28 "TLS to PostgreSQL verifies as sslmode says and never falls back" \
    it::tls::verify_full_loads_objects_and_shows_nothing_on_the_wire \
    it::tls::a_server_that_is_not_the_right_one_is_refused_by_name \
    it::tls::a_server_without_tls_and_one_whose_tls_is_stripped_get_nothing_from_those_who_demand_it \
    it::tls::disable_and_prefer_do_what_their_names_say \
    tidy::security::nothing_unsafe_and_no_verifier_of_our_own_elsewhere
gate S29 "SCRAM with channel binding; no password in the clear or as MD5 without TLS" \
    it::tls::a_login_can_be_bound_to_its_tls_session \
    it::tls::no_password_is_given_away_without_tls_unless_that_is_allowed \
    lib::store::login::tests::a_password_is_asked_for_in_the_clear_only_under_tls_or_where_that_is_allowed
gate S30 "no client library with a known hole in the protocol" run:minimum_versions
gate S32 "the documented grants suffice, and allow nothing else" \
    it::privileges::the_documented_grants_are_enough_to_load_and_for_nothing_else
gate S33 "COPY names neither a program nor a file" \
    tidy::security::copy_never_names_a_program_or_a_file
gate S35 "the shipped IAM policy is narrow, and keyfall stays inside it" \
    it::policy::the_policy_names_no_bare_star_and_deletes_only_under_a_condition \
    it::policy::everything_that_keyfall_asks_of_the_store_is_in_the_policy
gate S37 "the unit's exposure is 1.5 or less" deploy::the_unit_stays_under_its_exposure_limit
gate S38 "systemd accepts the unit" deploy::systemd_accepts_the_unit_without_a_word
gate S42 "the image runs as a number, from tagged bases" \
    deploy::the_final_stage_runs_as_a_number_and_watches_its_own_health \
    deploy::every_base_image_has_a_tag_that_is_not_latest
gate S42 "the image's bases are pinned to digests" run:base_digests
gate S43 "every compose service is hardened, bounded and watched" \
    deploy::every_service_is_hardened_bounded_and_watched \
    deploy::secrets_come_from_files_that_exist \
    deploy::mounted_files_exist_and_are_read_only
gate S45 "Cargo.lock decides about every build" run:locked
gate S46 "bans, licences and sources of dependencies" run:dependencies
gate S46 "advisories about dependencies" run:advisories
gate S48 "workflows are pinned and read-only" \
    tidy::security::workflows_are_pinned_and_read_only run:workflows
gate S49 "the release binary holds no demo server" run:no_demo
gate S49 "the release binary holds no failpoints" run:no_failpoints
gate S50 "SECURITY.md has the threat model" \
    tidy::security::the_threat_model_names_assets_actors_and_gates

# Gates on other things than tests. Each prints a figure or a reason; 0 is PASS, 1 FAIL, 3 NOT RUN.

crate_forbids_unsafe() {
    local lint
    lint=$(awk '/^\[/ { in_lints = ($0 == "[lints.rust]") } in_lints && /^unsafe_code *=/ { print $3 }' Cargo.toml)
    [[ $lint == '"forbid"' ]] || {
        echo "unsafe_code is not forbidden in Cargo.toml"
        return 1
    }
}

locked_version() {
    awk -v name="\"$1\"" '$1 == "name" { found = ($3 == name) } found && $1 == "version" { gsub("\"", "", $3); print $3 }' Cargo.lock
}

# RUSTSEC-2026-0178 to -0180: a malicious server could take the client down.
minimum_versions() {
    local crate least version told=()
    for crate in tokio-postgres:0.7.18 postgres-protocol:0.6.12; do
        least=${crate#*:} crate=${crate%:*}
        version=$(locked_version "$crate")
        if [[ -z $version || $(printf '%s\n' "$least" "$version" | sort -V | head -n 1) != "$least" ]]; then
            echo "$crate is ${version:-missing}, at least $least is needed"
            return 1
        fi
        told+=("$crate $version")
    done
    echo "${told[*]}"
}

base_digests() {
    local bases unpinned
    bases=$(grep -c '^FROM ' deploy/Dockerfile)
    unpinned=$(grep '^FROM ' deploy/Dockerfile | grep -vc '@sha256:[0-9a-f]\{64\}' || true)
    if ((unpinned > 0)); then
        echo "$unpinned of $bases bases have a tag and no digest: a release needs a registry to resolve them"
        return 3
    fi
    echo "$bases bases"
}

locked() {
    [[ -f Cargo.lock ]] || {
        echo "there is no Cargo.lock"
        return 1
    }
    if git rev-parse --git-dir >/dev/null 2>&1 && ! git ls-files --error-unmatch Cargo.lock >/dev/null 2>&1; then
        echo "Cargo.lock is not committed"
        return 1
    fi
    # CARGO_TEST_FLAGS begins with --locked, which is looked at as well.
    local free
    grep -q '^CARGO_TEST_FLAGS := --locked' Makefile || {
        echo "CARGO_TEST_FLAGS in the Makefile is not locked"
        return 1
    }
    free=$(grep -nE '(\$\(CARGO\)|\bcargo) (build|test|clippy|bench|run|install|doc)\b' \
        Makefile deploy/Dockerfile scripts/setup.sh scripts/gates.sh .ci/run |
        grep -vE -- '--locked|CARGO_TEST_FLAGS|:[0-9]+: *#|grep|say ' || true)
    if [[ -n $free ]]; then
        echo "without --locked: $(head -n 1 <<<"$free")"
        return 1
    fi
    echo "built with --locked, $(rustc --version | cut -d' ' -f2)"
}

find_deny() {
    local own=${XDG_CACHE_HOME:-${HOME:-/nonexistent}/.cache}/keyfall-gates/cargo-deny-$deny_version/bin/cargo-deny
    if [[ -x $own ]]; then
        echo "$own"
    else
        command -v cargo-deny
    fi
}

dependencies() {
    local deny said
    deny=$(find_deny) || {
        echo "cargo-deny $deny_version is not installed: scripts/setup.sh gates"
        return 3
    }
    if ! said=$("$deny" --locked --offline --all-features check bans licenses sources 2>&1); then
        # Crates that are not on this machine are a matter of the network, not of the rules.
        if grep -q 'attempting to make an HTTP request, but --offline' <<<"$said"; then
            echo "not every crate of Cargo.lock is on this machine: cargo fetch --locked"
            return 3
        fi
        echo "$(grep -m 1 '^error' <<<"$said" || tail -n 1 <<<"$said"); cargo deny check bans licenses sources"
        return 1
    fi
    grep -q 'bans ok, licenses ok, sources ok' <<<"$said" || {
        echo "cargo-deny did not say ok: $(tail -n 1 <<<"$said")"
        return 1
    }
    echo "$(grep -c '^name = ' Cargo.lock) packages, $(grep -c '^warning\[duplicate\]' <<<"$said" || true) in two versions"
}

advisories() {
    local deny said
    deny=$(find_deny) || {
        echo "cargo-deny $deny_version is not installed: scripts/setup.sh gates"
        return 3
    }
    if said=$(timeout 120 "$deny" --locked --all-features check advisories 2>&1); then
        grep -q 'advisories ok' <<<"$said" || {
            echo "cargo-deny did not say ok: $(tail -n 1 <<<"$said")"
            return 1
        }
        echo "database fetched now"
    elif grep -qE '^error\[' <<<"$said"; then
        grep -m 1 '^error\[' <<<"$said"
        return 1
    else
        echo "the RustSec database cannot be fetched: $(grep -m 1 -oE 'fatal: .*|Could not resolve.*' <<<"$said" || echo 'no answer')"
        return 3
    fi
}

workflows() {
    if [[ ! -d .github/workflows ]]; then
        echo "there are no workflows (.github/workflows)"
        return 3
    fi
    echo "$(find .github/workflows -type f | wc -l) workflows"
}

# What a release holds, without its optimisation: no features, no debug assertions. It shares the dependencies of the
# test build and is put aside, because cargo gives both programs the same name.
build_release() {
    local target
    target=$(cargo metadata --locked --offline --no-deps --format-version 1 | jq -r .target_directory)
    cargo build --locked --quiet --bin keyfall --config 'profile.dev.package.keyfall.debug-assertions=false' ||
        die "the program does not build without features"
    release_binary=$work/release
    cp "$target/debug/keyfall" "$release_binary"
}

# The demo's own words: its S3 secret and its watchdog's script. Both must stand in the build that has the feature.
no_demo() {
    local release=$release_binary words word
    words=("keyfall-demo-secret" "keyfall-pg-")
    for word in "${words[@]}"; do
        if ! grep -aqF -- "$word" "$debug_binary"; then
            echo "$word is not in the build with the demo either: this gate looks for the wrong words"
            return 1
        fi
        if grep -aqF -- "$word" "$release"; then
            echo "$word is in the release binary"
            return 1
        fi
    done
    if "$release" demo --help >/dev/null 2>&1; then
        echo "the release binary knows the command demo"
        return 1
    fi
    if ! "$release" --version | grep -qx 'build: release'; then
        echo "the binary was built with debug assertions"
        return 1
    fi
    if ! "$release" --version | grep -qx 'features: none'; then
        echo "the release binary has features: $("$release" --version | grep '^features')"
        return 1
    fi
    echo "${#words[@]} texts and the command"
}

no_failpoints() {
    if [[ $features != *failpoints* ]]; then
        echo "this version has no feature failpoints"
        return 3
    fi
    local release=$release_binary names name
    mapfile -t names < <("$debug_binary" failpoints list | grep -oE '^ *[a-z_]+(\.[a-z_]+)+' | tr -d ' ' | sort -u)
    if ((${#names[@]} == 0)); then
        echo "\`keyfall failpoints list\` names none: this gate cannot know what to look for"
        return 1
    fi
    for name in "${names[@]}"; do
        if ! grep -aqF -- "$name" "$debug_binary"; then
            echo "$name is not in the build with failpoints either: this gate looks for the wrong words"
            return 1
        fi
        if grep -aqF -- "$name" "$release"; then
            echo "$name is in the release binary"
            return 1
        fi
    done
    if "$release" failpoints list >/dev/null 2>&1; then
        echo "the release binary knows the command failpoints"
        return 1
    fi
    echo "${#names[@]} names"
}

# Building and running the tests.

features=demo
if awk '/^\[/ { in_features = ($0 == "[features]") } in_features && /^failpoints *=/ { found = 1 } END { exit !found }' Cargo.toml; then
    features=demo,failpoints
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
debug_binary='' release_binary=''
declare -A executables=() outcomes=()

((${#ids[@]} > 0)) || die "no such gate: ${only[*]}"

# `lib`, and each test by its name.
build_tests() {
    local name executable
    cargo test --locked --no-run --features "$features" --lib --tests --message-format json-render-diagnostics \
        >"$work/artifacts" || die "the tests do not build"
    jq -r 'select(.reason == "compiler-artifact" and .executable != null and .profile.test)
           | [(if (.target.kind | index("lib")) then "lib" else .target.name end), .executable] | @tsv' \
        "$work/artifacts" >"$work/executables"
    while IFS=$'\t' read -r name executable; do
        executables[$name]=$executable
    done <"$work/executables"
    debug_binary=$(jq -r 'select(.reason == "compiler-artifact" and .executable != null and (.profile.test | not)
                                 and .target.name == "keyfall") | .executable' "$work/artifacts" | tail -n 1)
    [[ -x $debug_binary ]] || die "cargo did not build the program itself"
}

# run_tests TARGET NAME...: outcomes by `target::name`.
run_tests() {
    local target=$1 name outcome log=$work/$1.log
    shift
    if [[ -z ${executables[$target]:-} ]]; then
        return 0
    fi
    "${executables[$target]}" --exact "$@" >"$log" 2>&1 || true
    while read -r name outcome; do
        outcomes[$target::$name]=$outcome
    done < <(sed -nE 's/^test (.*) \.\.\. (ok|FAILED|ignored).*$/\1 \2/p' "$log")
}

declare -A wanted=()
for list in "${checks[@]}"; do
    for check in $list; do
        if [[ $check != run:* ]]; then
            target=${check%%::*}
            wanted[$target]+=" ${check#*::}"
        fi
    done
done
if [[ " ${checks[*]} " == *" run:no_"* ]]; then
    build_release
fi
build_tests
for target in "${!wanted[@]}"; do
    mapfile -t names < <(tr ' ' '\n' <<<"${wanted[$target]}" | grep . | sort -u)
    run_tests "$target" "${names[@]}"
done

# Verdicts.

passed=0 failed=0 not_run=0
verdict() {
    printf '%-7s  %s  %s%s\n' "$1" "$2" "$3" "${4:+  ($4)}"
}

judge() {
    local id=$1 title=$2 check outcome said status tests=0 details=() wrong=() lacking=()
    for check in $3; do
        if [[ $check == run:* ]]; then
            status=0
            said=$("${check#run:}" 2>"$work/stderr") || status=$?
            case $status in
            0) [[ -z $said ]] || details+=("$said") ;;
            3) lacking+=("$said") ;;
            *) wrong+=("${said:-$(tail -n 1 "$work/stderr")}") ;;
            esac
            continue
        fi
        outcome=${outcomes[$check]:-missing}
        case $outcome in
        ok) tests=$((tests + 1)) ;;
        missing) wrong+=("no outcome of test $check") ;;
        *) wrong+=("$check: $outcome") ;;
        esac
    done
    if ((tests > 0)); then
        details=("$tests test$( ((tests == 1)) || echo s)" "${details[@]}")
    fi
    local separator='; ' text
    join() { text=$(printf "%s$separator" "$@") && printf '%s' "${text%"$separator"}"; }
    if ((${#wrong[@]} > 0)); then
        failed=$((failed + 1))
        verdict FAIL "$id" "$title" "$(join "${wrong[@]}")"
    elif ((${#lacking[@]} > 0)); then
        not_run=$((not_run + 1))
        verdict "NOT RUN" "$id" "$title" "$(join "${lacking[@]}")"
    else
        passed=$((passed + 1))
        verdict PASS "$id" "$title" "$( ((${#details[@]} == 0)) || join "${details[@]}")"
    fi
}

for index in "${!ids[@]}"; do
    judge "${ids[$index]}" "${titles[$index]}" "${checks[$index]}"
done

printf '%s\n' "gates: $passed passed, $failed failed, $not_run not run"
if ((failed > 0)); then
    for log in "$work"/*.log; do
        if [[ -f $log ]] && grep -q '^failures:' "$log"; then
            printf '\n%s:\n' "$(basename "$log" .log)" >&2
            sed -n '/^failures:/,/^test result/p' "$log" | cut -c 1-600 | head -n 80 >&2
        fi
    done
    exit 1
fi
