//! Runs `keyfall::fuzzing::compression::target`, which says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keyfall::fuzzing::compression::target(data));
