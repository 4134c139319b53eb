//! The two spellings of a libpq connection string: URL and `key=value`.
//!
//! Both give pairs of parameter and value, in the order they stand; what the parameters mean is not decided here. No
//! error repeats a part of the text, because any part of a mistyped string may be the password.

use crate::config::secret::Secret;

/// A parameter and its value.
pub(super) type Pair = (String, Secret);

/// Why a text is no connection string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ParseError {
    pub(super) message: String,
    pub(super) advice: &'static str,
}

fn error<T>(message: impl Into<String>, advice: &'static str) -> Result<T, ParseError> {
    Err(ParseError { message: message.into(), advice })
}

const EXAMPLES: &str =
    "write \"postgresql://user@host:5432/database?sslmode=verify-full\" or \"host=... dbname=... user=...\"";

/// Parses either spelling.
pub(super) fn parse(text: &str) -> Result<Vec<Pair>, ParseError> {
    let text = text.trim();
    if text.contains('\0') {
        return error("holds a NUL byte", EXAMPLES);
    }
    if let Some(rest) = text.strip_prefix("postgresql://").or_else(|| text.strip_prefix("postgres://")) {
        return url(rest);
    }
    match (text.find("://"), text.find('=')) {
        (Some(scheme), equals) if equals.is_none_or(|equals| scheme < equals) => {
            error("is a URL of another kind", "begin it with postgresql://")
        }
        (None, None) if !text.is_empty() => error("is neither a URL nor key=value settings", EXAMPLES),
        (None, None) => error("is empty", EXAMPLES),
        _ => key_values(text),
    }
}

/// What follows the scheme: `[user[:password]@][host[:port],…][/database][?parameter=value&…]`.
fn url(rest: &str) -> Result<Vec<Pair>, ParseError> {
    let mut pairs = Vec::new();
    // Like libpq: credentials end at the first `@` before the first `/`, so a `?` may stand in a password.
    let head = rest.split('/').next().unwrap_or_default();
    let rest = match head.split_once('@') {
        Some((credentials, _)) => {
            user_and_password(credentials, &mut pairs)?;
            rest.split_once('@').map_or(rest, |(_, after)| after)
        }
        None => rest,
    };
    let (address, query) = rest.split_once('?').map_or((rest, None), |(address, query)| (address, Some(query)));
    if address.contains('@') {
        return error(
            "has an `@` or a `/` where none may stand",
            "in user name and password write %40 for @, %2F for /, %3A for : and %25 for %",
        );
    }
    let (hosts, database) = address.split_once('/').map_or((address, ""), |(hosts, database)| (hosts, database));
    hosts_and_ports(hosts, &mut pairs)?;
    if !database.is_empty() {
        pairs.push(("dbname".to_owned(), decode("the database name", database)?));
    }
    for parameter in query.unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty()) {
        let Some((name, value)) = parameter.split_once('=') else {
            return error("has a parameter without `=` after the `?`", "write ?name=value&name=value");
        };
        let name = decode("a parameter's name", name)?.expose().to_owned();
        let value = decode("a parameter's value", value)?;
        pairs.push(match (name.as_str(), value.expose()) {
            // The JDBC spelling, which libpq understands as well.
            ("ssl", "true") => ("sslmode".to_owned(), Secret::new("require".to_owned())),
            _ => (name, value),
        });
    }
    Ok(pairs)
}

fn user_and_password(credentials: &str, pairs: &mut Vec<Pair>) -> Result<(), ParseError> {
    let (user, password) = credentials.split_once(':').map_or((credentials, None), |(u, p)| (u, Some(p)));
    if !user.is_empty() {
        pairs.push(("user".to_owned(), decode("the user name", user)?));
    }
    if let Some(password) = password.filter(|password| !password.is_empty()) {
        pairs.push(("password".to_owned(), decode("the password", password)?));
    }
    Ok(())
}

/// `host:port,[::1]:port,…` as a list of hosts and, where any port stands, a list of ports of the same length.
fn hosts_and_ports(text: &str, pairs: &mut Vec<Pair>) -> Result<(), ParseError> {
    if text.is_empty() {
        return Ok(());
    }
    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    for item in text.split(',') {
        let (host, port) = if let Some(bracketed) = item.strip_prefix('[') {
            let Some((address, after)) = bracketed.split_once(']') else {
                return error("has a `[` without `]`", "write IPv6 addresses as [::1]:5432");
            };
            match after.strip_prefix(':') {
                Some(port) => (address, port),
                None if after.is_empty() => (address, ""),
                None => return error("has text after `]`", "write IPv6 addresses as [::1]:5432"),
            }
        } else {
            item.split_once(':').unwrap_or((item, ""))
        };
        hosts.push(decode("a host", host)?.expose().to_owned());
        ports.push(port);
    }
    if hosts.iter().any(|host| !host.is_empty()) {
        pairs.push(("host".to_owned(), Secret::new(hosts.join(","))));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.push(("port".to_owned(), Secret::new(ports.join(","))));
    }
    Ok(())
}

/// Percent-decoding; a `+` stays a plus, as in libpq.
fn decode(what: &str, text: &str) -> Result<Secret, ParseError> {
    let advice = "write % itself as %25, and other bytes as % and two hexadecimal digits";
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        match (rest.next().and_then(hex_digit), rest.next().and_then(hex_digit)) {
            (Some(0), Some(0)) => return error(format!("{what} holds %00"), "PostgreSQL knows no NUL byte"),
            (Some(high), Some(low)) => bytes.push(high << 4 | low),
            _ => return error(format!("{what} has a % that is not followed by two hexadecimal digits"), advice),
        }
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Secret::new(text)),
        Err(_) => error(format!("{what} is not UTF-8 once decoded"), advice),
    }
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

/// `key = 'quoted value' key=plain\ value`, as libpq reads it.
fn key_values(text: &str) -> Result<Vec<Pair>, ParseError> {
    let mut pairs = Vec::new();
    let mut rest = text.chars().peekable();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.peek().is_none() {
            return Ok(pairs);
        }
        let mut key = String::new();
        while let Some(c) = rest.next_if(|c| !c.is_whitespace() && *c != '=') {
            key.push(c);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next() != Some('=') || key.is_empty() {
            let advice = "write key=value settings between spaces, and values with spaces in single quotes";
            return error(format!("has no `=` after its setting {}", pairs.len() + 1), advice);
        }
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        pairs.push((key, value(&mut rest)?));
    }
}

fn value(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Secret, ParseError> {
    let quoted = rest.next_if_eq(&'\'').is_some();
    let mut value = String::new();
    loop {
        match rest.next() {
            Some('\'') if quoted => return Ok(Secret::new(value)),
            Some('\\') => value.extend(rest.next()),
            Some(c) if !quoted && c.is_whitespace() => return Ok(Secret::new(value)),
            Some(c) => value.push(c),
            None if quoted => return error("has a quote that does not end", "close it with '; write ' itself as \\'"),
            None => return Ok(Secret::new(value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let pairs = parse(text).unwrap_or_else(|error| panic!("{text}: {error:?}"));
        let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.expose())).collect();
        assert_eq!(pairs, expected, "{text}");
    }

    #[test]
    fn urls_are_read_as_libpq_reads_them() {
        check("postgresql://", &[]);
        check("postgres://h", &[("host", "h")]);
        check("postgres://h:1/d", &[("host", "h"), ("port", "1"), ("dbname", "d")]);
        check("postgres:///d", &[("dbname", "d")]);
        check("postgres://u@/d", &[("user", "u"), ("dbname", "d")]);
        check("postgres://u:p@h", &[("user", "u"), ("password", "p"), ("host", "h")]);
        check("postgres://u:p%40%2F%3a%25@h", &[("user", "u"), ("password", "p@/:%"), ("host", "h")]);
        check("postgres://u:p?x=1&y@h/d", &[("user", "u"), ("password", "p?x=1&y"), ("host", "h"), ("dbname", "d")]);
        check("postgres://a,b:2/d", &[("host", "a,b"), ("port", ",2"), ("dbname", "d")]);
        check("postgres://[::1]:5433,[fe80::1]/d", &[("host", "::1,fe80::1"), ("port", "5433,"), ("dbname", "d")]);
        check("postgres://%2Fvar%2Frun/d", &[("host", "/var/run"), ("dbname", "d")]);
        check("postgres:///d?host=/var/run&port=5433", &[("dbname", "d"), ("host", "/var/run"), ("port", "5433")]);
        check(
            "postgres://h?options=-c%20a%3Db&ssl=true",
            &[("host", "h"), ("options", "-c a=b"), ("sslmode", "require")],
        );
        check(
            "postgres://h/d%20e?application_name=a+b",
            &[("host", "h"), ("dbname", "d e"), ("application_name", "a+b")],
        );
    }

    #[test]
    fn key_value_settings_are_read_as_libpq_reads_them() {
        check("host=h", &[("host", "h")]);
        check("  host = h\tdbname='a b'\n", &[("host", "h"), ("dbname", "a b")]);
        check(r"password='it\'s \\' user=u\ v", &[("password", r"it's \"), ("user", "u v")]);
        check("password='' user=u", &[("password", ""), ("user", "u")]);
        check("password=a=b", &[("password", "a=b")]);
        check("password=x://y", &[("password", "x://y")]);
        check("options='-c search_path=a,b'", &[("options", "-c search_path=a,b")]);
    }

    #[test]
    fn broken_strings_are_refused_without_repeating_any_of_them() {
        for text in [
            "",
            "hunter2",
            "mysql://u:hunter2@h/d",
            "jdbc:postgresql://h/d?password=hunter2",
            "postgres://u:hunter2%zz@h",
            "postgres://u:hunter2%4@h",
            "postgres://u:hunter2%00@h",
            "postgres://u:hunter2%ff@h",
            "postgres://u:hunter2@x@h/d",
            "postgres://u:hunter2/x@h/d",
            "postgres://[::1/d",
            "postgres://[::1]x/d",
            "postgres://h?hunter2",
            "host=h hunter2",
            "password='hunter2",
            "=hunter2",
        ] {
            let error = parse(text).expect_err(text);
            assert!(!format!("{error:?}").contains("hunter2"), "{text}: {error:?}");
        }
    }
}
