//! `.pgpass`: passwords by host, port, database and user.
//!
//! As in libpq a file that others may read is not used, with a warning, and a missing file is no error. The file is
//! only read, never written.

use std::path::Path;

use crate::config::report::Report;
use crate::config::secret::{Secret, read_small_file};

/// A password file of one person or service; larger ones are something else.
const MAX_PASSFILE_BYTES: u64 = 1 << 20;

/// What a line is looked up by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) dbname: &'a str,
    pub(super) user: &'a str,
}

/// The password for the first of the targets that has one.
pub(super) fn find(path: &Path, targets: &[Target<'_>], report: &mut Report) -> Option<Secret> {
    let shown = path.display();
    match access(path) {
        Ok(Access::Private) => {}
        Ok(Access::Shared) => {
            report.warn(format!(
                "password file {shown} is not used: group or others may read it; permissions should be u=rw (0600) or less"
            ));
            return None;
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        Err(error) => {
            report.warn(format!("password file {shown} is not used: {error}"));
            return None;
        }
    }
    match read_small_file(path, MAX_PASSFILE_BYTES) {
        Ok(text) => targets.iter().find_map(|target| lookup(&text, target)),
        Err(error) => {
            report.warn(format!("password file {shown} is not used: {error}"));
            None
        }
    }
}

enum Access {
    Private,
    Shared,
}

#[cfg(unix)]
fn access(path: &Path) -> std::io::Result<Access> {
    use std::os::unix::fs::PermissionsExt;
    let shared = std::fs::metadata(path)?.permissions().mode() & 0o077 != 0;
    Ok(if shared { Access::Shared } else { Access::Private })
}

#[cfg(not(unix))]
fn access(path: &Path) -> std::io::Result<Access> {
    std::fs::metadata(path).map(|_| Access::Private)
}

/// The password of the first line that matches.
fn lookup(text: &str, target: &Target<'_>) -> Option<Secret> {
    text.lines().filter(|line| !line.starts_with('#')).find_map(|line| password(line, target))
}

fn password(line: &str, target: &Target<'_>) -> Option<Secret> {
    let fields = split(line);
    let [host, port, dbname, user, password, ..] = fields.as_slice() else { return None };
    let is_socket = target.host.starts_with('/');
    let host_matches = matches(host, target.host) || (is_socket && host.text == "localhost");
    let all_match = host_matches
        && matches(port, &target.port.to_string())
        && matches(dbname, target.dbname)
        && matches(user, target.user);
    (all_match && !password.text.is_empty()).then(|| Secret::new(password.text.clone()))
}

/// One field, unescaped; an escaped `*` is an asterisk and no wildcard.
#[derive(Default)]
struct Field {
    text: String,
    escaped: bool,
}

fn matches(field: &Field, value: &str) -> bool {
    (field.text == "*" && !field.escaped) || field.text == value
}

fn split(line: &str) -> Vec<Field> {
    let mut fields = vec![];
    let mut field = Field::default();
    let mut rest = line.chars();
    while let Some(c) = rest.next() {
        match c {
            '\\' => {
                field.text.extend(rest.next());
                field.escaped = true;
            }
            ':' => fields.push(std::mem::take(&mut field)),
            _ => field.text.push(c),
        }
    }
    fields.push(field);
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Target<'_> = Target { host: "db", port: 5432, dbname: "d:b", user: "u" };

    fn check(text: &str, target: Target<'_>, expected: Option<&str>) {
        let found = lookup(text, &target);
        assert_eq!(found.as_ref().map(Secret::expose), expected, "{text:?}");
    }

    #[test]
    fn lines_match_by_field_wildcard_and_escape() {
        check("db:5432:d\\:b:u:pw", TARGET, Some("pw"));
        check("*:*:*:*:pw", TARGET, Some("pw"));
        check("db:5432:d:b:u:pw", TARGET, None);
        check("db:5433:*:u:pw", TARGET, None);
        check("other:*:*:*:no\ndb:*:*:*:first\n*:*:*:*:second", TARGET, Some("first"));
        check("#*:*:*:*:comment\n*:*:*:*:pw", TARGET, Some("pw"));
        check("*:*:*:*:p\\:w\\\\", TARGET, Some("p:w\\"));
        check("\\*:*:*:*:pw", TARGET, None);
        check("\\*:*:*:*:pw", Target { host: "*", ..TARGET }, Some("pw"));
        check("*:*:*:u:", TARGET, None);
        check("*:*:*", TARGET, None);
        check("", TARGET, None);
        check("*:*:*:*:pw\r\n", TARGET, Some("pw"));
    }

    #[test]
    fn localhost_stands_for_a_socket_directory_too() {
        let socket = Target { host: "/var/run/postgresql", ..TARGET };
        check("localhost:*:*:*:pw", socket, Some("pw"));
        check("/var/run/postgresql:*:*:*:pw", socket, Some("pw"));
        check("db:*:*:*:pw", socket, None);
    }
}
