//! What the fuzz targets check, one function each; nothing else calls it.
//!
//! Each `target` takes any bytes and panics where something that must hold does not. `fuzz/fuzz_targets` hands them to
//! libFuzzer, and `fuzzing/tests.rs` replays the seeds of `fuzz/corpus` and mutations of them in every `make test`, so
//! that the two can never check different things.
//!
//! Compiled for tests and under `cfg(fuzzing)` only, which cargo-fuzz sets: no feature, nothing of it in a release, and
//! still inside the crate, where what is private to us can be reached.
#![expect(clippy::missing_panics_doc, reason = "a panic is a target's verdict")]

pub mod avro;
pub mod cell;
pub mod compression;
pub mod config;
pub mod csv;
pub mod fixture;
pub mod json;
pub mod notification;
pub mod object_key;
pub mod parquet;
pub mod pattern;
pub mod records;
pub mod rules;

#[cfg(test)]
mod tests;

/// Takes choices off the front of the bytes, so that small changes of the input are small changes of what is done.
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl<'a> Choices<'a> {
    /// All choices that these bytes hold.
    pub fn new(data: &'a [u8]) -> Self {
        Self { rest: data }
    }

    /// The next byte; zero at the end.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.rest.split_first().unwrap_or((&0, &[]));
        self.rest = rest;
        *first
    }

    /// One of these. There must be one.
    pub fn one<T: Copy>(&mut self, of: &[T]) -> T {
        let byte = usize::from(self.byte());
        of.iter().copied().cycle().nth(byte % of.len().max(1)).unwrap_or_else(|| unreachable!("nothing to choose from"))
    }

    /// What is left.
    pub fn rest(self) -> &'a [u8] {
        self.rest
    }
}

/// The bytes in pieces whose lengths follow from the seed: mostly short ones, none empty.
pub fn pieces(data: &[u8], seed: u64) -> Vec<Vec<u8>> {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut rest = data;
    let mut pieces = Vec::new();
    while !rest.is_empty() {
        let longest = if random.u8(..) < 8 { 5000 } else { 12 };
        let (piece, after) = rest.split_at(random.usize(1..=longest).min(rest.len()));
        pieces.push(piece.to_vec());
        rest = after;
    }
    pieces
}

/// Runs a future that never waits for anything outside.
pub fn run<F: Future>(future: F) -> F::Output {
    let built = tokio::runtime::Builder::new_current_thread().build();
    built.unwrap_or_else(|error| unreachable!("a runtime without drivers: {error}")).block_on(future)
}
