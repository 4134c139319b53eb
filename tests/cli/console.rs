//! Running the binary in an environment that holds nothing of the machine's.

use std::ffi::OsStr;
use std::path::Path;

use assert_cmd::Command;

/// What a command left behind.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    /// Fails with everything the command said, unless it ended with this code.
    #[track_caller]
    pub(crate) fn exits(self, code: i32) -> Self {
        assert_eq!(self.code, code, "{self:#?}");
        assert!(!self.stderr.contains("panicked"), "{self:#?}");
        self
    }

    /// Fails unless standard output holds all of these texts.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stdout.contains(text), "{text:?} is not in the results: {self:#?}");
        }
        self
    }

    /// Fails unless standard error holds all of these texts.
    #[track_caller]
    pub(crate) fn complains(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(self.stderr.contains(text), "{text:?} is not on standard error: {self:#?}");
        }
        self
    }

    /// The results as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:#?}"))
    }
}

/// The binary, in this folder, with an empty environment.
pub(crate) fn keyfall(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keyfall"));
    command.env_clear().current_dir(folder).env("HOME", folder).timeout(std::time::Duration::from_mins(1));
    command
}

/// Runs the binary with these arguments.
pub(crate) fn run(folder: &Path, arguments: &[impl AsRef<OsStr>]) -> Ran {
    ran(keyfall(folder).args(arguments))
}

pub(crate) fn ran(command: &mut Command) -> Ran {
    let output = command.output().expect("the binary starts");
    Ran {
        code: output.status.code().expect("the binary ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("results are UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("messages are UTF-8"),
    }
}
