//! A text that cannot be printed, and the three ways to give one: plainly, in a file, as a systemd credential.
//!
//! `Debug`, `Display` and `Serialize` all give `***`; only [`Secret::expose`] gives the text.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::report::Report;

/// A file that holds one secret is small; a larger one is the wrong file.
const MAX_SECRET_BYTES: u64 = 64 * 1024;

/// A secret: `Debug` and `Display` print `***`, memory is wiped on drop.
#[derive(Clone)]
pub struct Secret(SecretString);

impl Secret {
    /// Wraps a text.
    pub fn new(text: String) -> Self {
        Self(SecretString::from(text))
    }

    /// The text itself, for the one place that needs it.
    pub fn expose(&self) -> &str {
        self.0.expose_secret()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str("***")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

// `writeOnly` is how a JSON Schema says that a value is never given back; unknown to it is nothing of the text.
super::value::schema!(Secret, "Secret", { "type": "string", "writeOnly": true });

/// The alternatives for one secret, of which at most one may be used.
pub(crate) struct Alternatives<'a> {
    /// Key path of the plain value, such as `database.password`; the others add `_file` and `_credential`.
    pub(crate) key: &'a str,
    /// The value itself.
    pub(crate) plain: Option<&'a Secret>,
    /// A file that holds it.
    pub(crate) file: Option<&'a Path>,
    /// A file in `$CREDENTIALS_DIRECTORY` that holds it.
    pub(crate) credential: Option<&'a str>,
}

impl Alternatives<'_> {
    /// The secret, from whichever alternative was chosen.
    pub(crate) fn resolve(&self, environment: &BTreeMap<String, String>, report: &mut Report) -> Option<Secret> {
        let file_key = format!("{}_file", self.key);
        let credential_key = format!("{}_credential", self.key);
        let mut given = Vec::new();
        given.extend(self.plain.map(|_| self.key));
        given.extend(self.file.map(|_| file_key.as_str()));
        given.extend(self.credential.map(|_| credential_key.as_str()));
        if given.len() > 1 {
            report.problem(self.key, format!("{} are given together", given.join(" and ")), "keep one of them");
            return None;
        }
        if let Some(secret) = self.plain {
            report.not_blank(self.key, Some(secret.expose()));
            report.judge_exposure(self.key);
            return Some(secret.clone());
        }
        if let Some(path) = self.file {
            return read(&file_key, path, report);
        }
        let path = credential_path(&credential_key, self.credential?, environment, report)?;
        read(&credential_key, &path, report)
    }
}

/// Where systemd put the credential.
fn credential_path(
    key: &str,
    name: &str,
    environment: &BTreeMap<String, String>,
    report: &mut Report,
) -> Option<PathBuf> {
    if name.is_empty() || name.contains('/') || name == "." || name == ".." {
        report.problem(
            key,
            "is no name of a credential",
            "write the name before the colon of LoadCredential=, no path",
        );
        return None;
    }
    let Some(directory) = environment.get("CREDENTIALS_DIRECTORY").filter(|directory| !directory.is_empty()) else {
        let advice = format!("run under systemd with LoadCredential={name}:/path/to/file, or name a file instead");
        report.problem(key, "names a systemd credential, but CREDENTIALS_DIRECTORY is not set", advice);
        return None;
    };
    Some(Path::new(directory).join(name))
}

/// The content of a secret's file without its last line ending.
pub(crate) fn read(key: &str, path: &Path, report: &mut Report) -> Option<Secret> {
    let shown = path.display();
    let text = match read_small_file(path, MAX_SECRET_BYTES) {
        Ok(text) => text,
        Err(error) => {
            report.problem(key, format!("cannot read {shown}: {error}"), "check the path and who may read the file");
            return None;
        }
    };
    let text = text.strip_suffix('\n').unwrap_or(&text);
    let text = text.strip_suffix('\r').unwrap_or(text);
    if text.is_empty() {
        report.problem(key, format!("{shown} is empty"), "write the secret into the file, on one line");
        return None;
    }
    if text.contains(['\n', '\0']) {
        report.problem(key, format!("{shown} holds more than one line"), "write only the secret into the file");
        return None;
    }
    Some(Secret::new(text.to_owned()))
}

/// Reads a regular file of bounded size as UTF-8: a FIFO would block for ever and a device never end.
pub(crate) fn read_small_file(path: &Path, max_bytes: u64) -> Result<String, std::io::Error> {
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(std::io::Error::other("it is not a regular file"));
    }
    let too_large = || std::io::Error::other(format!("it is larger than {max_bytes} bytes"));
    if metadata.len() > max_bytes {
        return Err(too_large());
    }
    // Nor is the size believed: files of the kernel claim to be empty, and any other may grow meanwhile.
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(max_bytes.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > max_bytes {
        return Err(too_large());
    }
    // The bytes are not repeated: they may be the secret.
    String::from_utf8(bytes).map_err(|error| {
        std::io::Error::other(format!("it is not UTF-8, from byte {} on", error.utf8_error().valid_up_to()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(text: &str) -> (Option<Secret>, Report) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        std::fs::write(&path, text).unwrap();
        let mut report = Report::default();
        let secret = read("database.password_file", &path, &mut report);
        (secret, report)
    }

    #[test]
    fn a_file_that_is_larger_than_it_says_is_not_read_to_its_end() {
        let status = Path::new("/proc/self/status");
        assert_eq!(std::fs::metadata(status).unwrap().len(), 0, "it claims to be empty");
        assert!(read_small_file(status, 64 * 1024).unwrap().contains("VmPeak"));
        assert!(read_small_file(status, 10).unwrap_err().to_string().contains("larger than 10 bytes"));
    }

    #[test]
    fn a_secret_prints_as_stars() {
        let secret = Secret::new("hunter2".to_owned());
        assert_eq!(format!("{secret} {secret:?} {}", serde_json::to_string(&secret).unwrap()), "*** *** \"***\"");
    }

    #[test]
    fn one_line_ending_is_no_part_of_a_secret() {
        for (text, expected) in [("pw\n", "pw"), ("pw\r\n", "pw"), ("pw", "pw"), (" pw \n", " pw ")] {
            assert_eq!(resolve(text).0.unwrap().expose(), expected, "{text:?}");
        }
        for bad in ["", "\n", "a\nb\n", "a\0b"] {
            let (secret, report) = resolve(bad);
            assert!(secret.is_none() && !report.is_clean(), "{bad:?}");
        }
    }

    #[test]
    fn a_credential_cannot_leave_its_directory() {
        let environment = BTreeMap::from([("CREDENTIALS_DIRECTORY".to_owned(), "/run/credentials/x".to_owned())]);
        let mut report = Report::default();
        assert!(credential_path("k", "../../etc/passwd", &environment, &mut report).is_none());
        assert!(credential_path("k", "..", &environment, &mut report).is_none());
        assert_eq!(credential_path("k", "pg", &environment, &mut report), Some(PathBuf::from("/run/credentials/x/pg")));
    }
}
