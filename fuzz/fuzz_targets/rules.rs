//! Runs `keyfall::fuzzing::rules::target`, which says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keyfall::fuzzing::rules::target(data));
