//! Every target over its seeds and over random changes of them: what libFuzzer does for hours, for seconds.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

/// A target by the name of its corpus and of its file in `fuzz/fuzz_targets`.
type Target = (&'static str, fn(&[u8]));

const TARGETS: [Target; 11] = [
    ("avro", super::avro::target),
    ("cell", super::cell::target),
    ("compression", super::compression::target),
    ("config", super::config::target),
    ("csv", super::csv::target),
    ("json", super::json::target),
    ("notification", super::notification::target),
    ("object_key", super::object_key::target),
    ("parquet", super::parquet::target),
    ("pattern", super::pattern::target),
    ("rules", super::rules::target),
];

/// Changed seeds per target.
const MUTATIONS: usize = 400;

/// Most bytes of all seeds together: they are committed.
const MOST_BYTES: u64 = 300_000;

fn fuzz() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Runs one input; a failure shows how to run it again.
fn check((name, target): Target, input: &[u8], origin: &str) {
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    assert!(outcome.is_ok(), "{name} failed on {origin}; the input: {}", input.escape_ascii());
}

/// One seed with a few bytes changed, or two of them spliced.
fn mutated(seeds: &[Vec<u8>], random: &mut fastrand::Rng) -> Vec<u8> {
    const TELLING: &[u8] = b"\0\"'\\\n\r,;{}[]%*/-+.:0129eTZu\x1f\x8b\xff\xef\xbb\xbf";
    let mut input = seeds[random.usize(..seeds.len())].clone();
    for _ in 0..random.usize(1..5) {
        let at = random.usize(..=input.len());
        match random.u8(..6) {
            0 => input.insert(at, TELLING[random.usize(..TELLING.len())]),
            1 if at < input.len() => drop(input.remove(at)),
            2 if at < input.len() => input[at] = random.u8(..),
            3 if at < input.len() => input[at] = TELLING[random.usize(..TELLING.len())],
            4 => input.truncate(at),
            _ => {
                let other = &seeds[random.usize(..seeds.len())];
                let (from, to) = (random.usize(..=other.len()), random.usize(..=other.len()));
                let piece = other[from.min(to)..from.max(to)].to_vec();
                input.splice(at..at, piece);
            }
        }
    }
    input.truncate(16_384);
    input
}

#[test]
fn every_target_holds_on_its_seeds_and_on_changes_of_them() {
    let given = crate::config::environment().remove("KEYFALL_SEED");
    let seed = given.and_then(|seed| seed.parse().ok()).unwrap_or_else(|| fastrand::u64(..));
    println!("KEYFALL_SEED={seed}");
    for target in TARGETS {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut seeds = vec![Vec::new()];
        for file in files(&fuzz().join("corpus").join(target.0)) {
            let input = std::fs::read(&file).unwrap();
            check(target, &input, &file.display().to_string());
            seeds.push(input);
        }
        assert!(seeds.len() > 5, "{} has hardly any seeds", target.0);
        for number in 0..MUTATIONS {
            let input = mutated(&seeds, &mut random);
            check(target, &input, &format!("mutation {number} of KEYFALL_SEED={seed}"));
        }
    }
}

#[test]
fn every_target_has_its_program_and_small_seeds_and_the_other_way_round() {
    let names = TARGETS.map(|(name, _)| name.to_owned());
    let stems = |folder: &str| -> Vec<String> {
        let stem = |file: &PathBuf| file.file_stem().unwrap().to_string_lossy().into_owned();
        files(&fuzz().join(folder)).iter().map(stem).collect()
    };
    assert_eq!(stems("fuzz_targets"), names);
    assert_eq!(stems("corpus"), names);
    let manifest = std::fs::read_to_string(fuzz().join("Cargo.toml")).unwrap();
    for name in &names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is not in the manifest");
    }
    let seeds = names.iter().flat_map(|name| files(&fuzz().join("corpus").join(name)));
    let bytes: u64 = seeds.map(|file| file.metadata().unwrap().len()).sum();
    assert!(bytes < MOST_BYTES, "{bytes} bytes of seeds");
}
