//! Runs `keyfall::fuzzing::parquet::target`, which says what must hold.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| keyfall::fuzzing::parquet::target(data));
