//! libpq's connection settings: connection string, then `PG*` variables, then `.pgpass`, then libpq's defaults.
//!
//! The driver knows neither `sslmode=verify-full` nor `PG*` nor `.pgpass`; this front end does, so that a string that
//! works with `psql` works here. It opens no connection. Service files and Kerberos are deliberately absent and are
//! refused by name. No message repeats a value that could be a password.

mod login;
mod parameters;
mod parse;
mod passfile;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::database::{ChannelBinding, LoginMethod, SslMode};
use super::report::{Report, nearest};
use super::secret::Secret;
use parameters::Treatment;

/// PostgreSQL's port.
const DEFAULT_PORT: u16 = 5432;
/// Where Debian's servers put their sockets.
const SOCKET_DIRECTORY: &str = "/var/run/postgresql";

/// What is known before libpq's own sources are asked.
pub(super) struct Input<'a> {
    /// Key of the connection string, for messages.
    pub(super) key: &'a str,
    /// The connection string.
    pub(super) text: Option<&'a Secret>,
    /// A password from `database.password` or its siblings.
    pub(super) password: Option<Secret>,
    /// The environment.
    pub(super) environment: &'a BTreeMap<String, String>,
}

/// Everything a connection needs.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) hosts: Vec<String>,
    pub(super) ports: Vec<u16>,
    pub(super) user: String,
    pub(super) password: Option<Secret>,
    pub(super) dbname: String,
    pub(super) sslmode: SslMode,
    pub(super) sslrootcert: Option<PathBuf>,
    pub(super) require_auth: Option<Vec<LoginMethod>>,
    pub(super) channel_binding: ChannelBinding,
    pub(super) client_certificate: Option<(PathBuf, PathBuf)>,
    pub(super) options: Option<String>,
    pub(super) connect_timeout: Option<Duration>,
    /// Parameter, value (masked) and origin, for `config show`.
    pub(super) shown: Vec<(String, String, String)>,
}

/// One parameter, and where it was set. Any of them may turn out to be a misplaced password, hence `Secret`.
#[derive(Debug)]
struct Setting {
    value: Secret,
    /// Key path or variable, for messages.
    key: String,
}

#[derive(Debug, Default)]
struct Settings(BTreeMap<&'static str, Setting>);

/// Merges every source; none where something is wrong, which is then in the report.
pub(super) fn resolve(input: Input<'_>, report: &mut Report) -> Option<Connection> {
    let mut settings = Settings::default();
    if let Some(text) = input.text {
        settings.read(input.key, text, report)?;
    }
    settings.fill(input.environment, report);
    if input.text.is_none() && settings.get("host").is_none() && settings.get("dbname").is_none() {
        let advice = "set database.url or database.url_file, or PGHOST, PGDATABASE and PGUSER in the environment";
        report.missing("database.url", advice);
        return None;
    }
    settings.take_password(input.password, report);
    settings.user(input.environment, report);
    let mut connection = settings.connection(report)?;
    if connection.password.is_none() {
        connection.password = settings.password_from_file(&connection, input.environment, report);
    }
    connection.shown = settings.shown(&connection);
    Some(connection)
}

impl Settings {
    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|setting| setting.value.expose())
    }

    /// Where the parameter was set, for messages.
    fn key(&self, name: &str) -> String {
        self.0.get(name).map_or_else(|| "database.url".to_owned(), |setting| setting.key.clone())
    }

    /// Takes the connection string apart.
    fn read(&mut self, key: &str, text: &Secret, report: &mut Report) -> Option<()> {
        let pairs = match parse::parse(text.expose()) {
            Ok(pairs) => pairs,
            Err(error) => {
                report.problem(key, format!("the connection string {}", error.message), error.advice);
                return None;
            }
        };
        for (name, value) in pairs {
            let Some((name, treatment)) = parameters::treatment(&name) else {
                unknown(key, &name, report);
                continue;
            };
            match treatment {
                // An empty value means that nothing was set, as in libpq.
                Treatment::Used if value.expose().is_empty() => {}
                Treatment::Used => {
                    self.0.insert(name, Setting { value, key: key.to_owned() });
                }
                Treatment::Only(values, _) if values.contains(&value.expose()) => {}
                Treatment::Ignored => {}
                Treatment::Only(values, reason) => {
                    let known: Vec<_> = values.iter().filter(|value| !value.is_empty()).copied().collect();
                    let advice = format!("remove it or set it to {}: {reason}", known.join(" or "));
                    report.problem(key, format!("parameter {name} has a value that cannot be honoured"), advice);
                }
                Treatment::Refused(reason) => {
                    report.problem(key, format!("parameter {name} is not supported"), format!("remove it: {reason}"));
                }
            }
        }
        Some(())
    }

    /// Lets `PG*` fill what is missing.
    fn fill(&mut self, environment: &BTreeMap<String, String>, report: &mut Report) {
        for (variable, name) in parameters::VARIABLES {
            if let Some(value) = environment.get(*variable).filter(|value| !value.is_empty()) {
                self.0
                    .entry(name)
                    .or_insert_with(|| Setting { value: Secret::new(value.clone()), key: (*variable).to_owned() });
            }
        }
        for variable in parameters::IGNORED_VARIABLES {
            if environment.get(*variable).is_some_and(|value| !value.is_empty()) {
                report.warn(format!("{variable} is set and has no effect: write its meaning into database.url"));
            }
        }
    }

    /// The password of `database.password` and its siblings goes before `PGPASSWORD`, but not beside one in the string.
    fn take_password(&mut self, configured: Option<Secret>, report: &mut Report) {
        let in_string = self.0.get("password").is_some_and(|setting| setting.key != "PGPASSWORD");
        if in_string {
            // `database.url_file` names a file of its own, whose path is no secret.
            let key = self.key("password");
            if key == "database.url" {
                report.judge_exposure(&key);
            }
        }
        let Some(value) = configured else { return };
        if in_string {
            let message =
                "the connection string and database.password (or its file or credential) both give a password";
            report.problem(&self.key("password"), message, "keep one of them; a file or a credential is the safer one");
        }
        self.0.insert("password", Setting { value, key: "database.password".to_owned() });
    }

    /// The role: libpq falls back on the name of the account, and so do we where the environment tells it.
    fn user(&mut self, environment: &BTreeMap<String, String>, report: &mut Report) {
        if self.get("user").is_some() {
            return;
        }
        let account = ["USER", "LOGNAME"].into_iter().find_map(|name| Some((name, environment.get(name)?)));
        let Some((variable, account)) = account.filter(|(_, account)| !account.is_empty()) else {
            let advice = "write it into the connection string (postgresql://user@host/...), or set PGUSER";
            report.problem(&self.key("host"), "no user is named", advice);
            return;
        };
        self.0.insert("user", Setting { value: Secret::new(account.clone()), key: variable.to_owned() });
    }

    fn connection(&self, report: &mut Report) -> Option<Connection> {
        let hosts = self.hosts(report);
        let ports = self.ports(hosts.len(), report);
        let require_auth = self.require_auth(report);
        let channel_binding = self.channel_binding(report);
        let sslmode = self.sslmode(report);
        let client_certificate = self.client_certificate(report);
        let connect_timeout = self.connect_timeout(report);
        let user = self.get("user")?.to_owned();
        Some(Connection {
            hosts,
            ports: ports?,
            dbname: self.get("dbname").unwrap_or(&user).to_owned(),
            user,
            password: self.0.get("password").map(|setting| setting.value.clone()),
            sslmode: sslmode?,
            sslrootcert: self.get("sslrootcert").filter(|path| *path != "system").map(PathBuf::from),
            require_auth,
            channel_binding: channel_binding?,
            client_certificate,
            options: self.get("options").map(str::to_owned),
            connect_timeout,
            shown: Vec::new(),
        })
    }

    fn hosts(&self, report: &mut Report) -> Vec<String> {
        let has_sockets = Path::new(SOCKET_DIRECTORY).is_dir();
        let default = || if has_sockets { SOCKET_DIRECTORY.to_owned() } else { "localhost".to_owned() };
        let named = self.get("host").unwrap_or_default().split(',').map(str::trim);
        let hosts: Vec<_> = named.map(|host| if host.is_empty() { default() } else { host.to_owned() }).collect();
        let sockets = hosts.iter().filter(|host| host.starts_with('/')).count();
        // Sockets know no TLS: what is demanded of one host could not hold for the other.
        if sockets != 0 && sockets != hosts.len() {
            let message = "socket directories and host names stand side by side";
            report.problem(&self.key("host"), message, "name hosts of one kind");
        }
        hosts
    }

    fn require_auth(&self, report: &mut Report) -> Option<Vec<LoginMethod>> {
        match login::required(self.get("require_auth")?) {
            Ok(methods) => Some(methods),
            Err(problem) => {
                let known = LoginMethod::ALL.map(LoginMethod::as_str).join(", ");
                let advice = format!("write one or more of {known} with commas between, all with `!` or none");
                report.problem(&self.key("require_auth"), format!("require_auth {problem}"), advice);
                None
            }
        }
    }

    fn channel_binding(&self, report: &mut Report) -> Option<ChannelBinding> {
        let Some(text) = self.get("channel_binding") else { return Some(ChannelBinding::Prefer) };
        let binding = login::binding(text);
        if binding.is_none() {
            let known = ChannelBinding::ALL.map(ChannelBinding::as_str).join(", ");
            let advice = format!("write one of {known}");
            report.problem(&self.key("channel_binding"), "channel_binding has an unknown value", advice);
        }
        binding
    }

    fn ports(&self, hosts: usize, report: &mut Report) -> Option<Vec<u16>> {
        let key = self.key("port");
        let mut ports = Vec::new();
        for port in self.get("port").unwrap_or_default().split(',').map(str::trim) {
            match port.parse::<u16>() {
                Ok(port) if port > 0 => ports.push(port),
                _ if port.is_empty() => ports.push(DEFAULT_PORT),
                _ => {
                    // Not repeated: after an unescaped `/` or `:` this is a part of the password.
                    let advice = "write a number from 1 to 65535; in a password write %3A for : and %2F for /";
                    report.problem(&key, "the port is not a port number", advice);
                    return None;
                }
            }
        }
        if ports.len() != 1 && ports.len() != hosts {
            let message = format!("there are {} ports for {hosts} hosts", ports.len());
            report.problem(&key, message, "write one port for all hosts, or one for each");
            return None;
        }
        Some(ports)
    }

    fn sslmode(&self, report: &mut Report) -> Option<SslMode> {
        let key = self.key("sslmode");
        let system_roots = self.get("sslrootcert") == Some("system");
        let Some(text) = self.get("sslmode") else {
            return Some(if system_roots { SslMode::VerifyFull } else { SslMode::Prefer });
        };
        if text == "allow" {
            let message = "sslmode=allow is refused: it tries without TLS first and so sends the password in the clear";
            report.problem(&key, message, "use verify-full, or prefer where TLS is really optional");
            return None;
        }
        let Some(mode) = SslMode::ALL.into_iter().find(|mode| mode.as_str() == text) else {
            let known = SslMode::ALL.map(SslMode::as_str);
            let advice = match nearest(text, known) {
                Some(word) => format!("did you mean `{word}`?"),
                None => format!("write one of {}", known.join(", ")),
            };
            report.problem(&key, "sslmode has an unknown value", advice);
            return None;
        };
        if system_roots && mode != SslMode::VerifyFull {
            let message = format!("sslmode={text} is too weak for sslrootcert=system");
            report.problem(
                &key,
                message,
                "use sslmode=verify-full: anybody can get a certificate for a name of their own",
            );
            return None;
        }
        Some(mode)
    }

    fn client_certificate(&self, report: &mut Report) -> Option<(PathBuf, PathBuf)> {
        match (self.get("sslcert"), self.get("sslkey")) {
            (Some(certificate), Some(key)) => Some((certificate.into(), key.into())),
            (Some(_), None) => {
                report.problem(&self.key("sslcert"), "sslcert is given without sslkey", "give both, or neither");
                None
            }
            (None, Some(_)) => {
                report.problem(&self.key("sslkey"), "sslkey is given without sslcert", "give both, or neither");
                None
            }
            (None, None) => None,
        }
    }

    fn connect_timeout(&self, report: &mut Report) -> Option<Duration> {
        let seconds = self.get("connect_timeout")?.trim().parse::<u32>();
        if let Ok(seconds @ 1..=86_400) = seconds {
            return Some(Duration::from_secs(u64::from(seconds)));
        }
        let advice = "write whole seconds from 1 to 86400: no wait is without end here";
        report.problem(&self.key("connect_timeout"), "connect_timeout is out of range", advice);
        None
    }

    fn password_from_file(
        &self,
        connection: &Connection,
        environment: &BTreeMap<String, String>,
        report: &mut Report,
    ) -> Option<Secret> {
        let home = environment.get("HOME").filter(|home| !home.is_empty());
        let path = match self.get("passfile") {
            Some(path) => PathBuf::from(path),
            None => Path::new(home?).join(".pgpass"),
        };
        let ports = connection.ports.iter().copied().cycle();
        let targets: Vec<_> = connection
            .hosts
            .iter()
            .zip(ports)
            .map(|(host, port)| passfile::Target { host, port, dbname: &connection.dbname, user: &connection.user })
            .collect();
        passfile::find(&path, &targets, report)
    }

    /// What the connection will be, for a person; the origin is the key or variable that set it.
    fn shown(&self, connection: &Connection) -> Vec<(String, String, String)> {
        let ports: Vec<_> = connection.ports.iter().map(u16::to_string).collect();
        let origin = |name: &str| self.0.get(name).map_or_else(|| "default".to_owned(), |setting| setting.key.clone());
        let line = |name: &str, value: String| (name.to_owned(), value, origin(name));
        let mut lines = vec![
            line("host", connection.hosts.join(",")),
            line("port", ports.join(",")),
            line("dbname", connection.dbname.clone()),
            line("user", connection.user.clone()),
            line("sslmode", connection.sslmode.as_str().to_owned()),
        ];
        for name in ["sslrootcert", "require_auth", "channel_binding"] {
            if let Some(value) = self.get(name) {
                lines.push(line(name, value.to_owned()));
            }
        }
        if connection.password.is_some() {
            // `origin` knows only settings; a password without one came out of the password file.
            let origin = self.0.get("password").map_or(".pgpass", |setting| setting.key.as_str());
            lines.push(("password".to_owned(), "***".to_owned(), origin.to_owned()));
        }
        lines
    }
}

/// An unknown parameter. Its name is repeated only where it looks like one: it may be a piece of an unquoted password.
fn unknown(key: &str, name: &str, report: &mut Report) {
    let known = parameters::PARAMETERS.iter().map(|(known, _)| *known);
    if let Some(word) = nearest(name, known) {
        report.problem(key, format!("unknown connection parameter {name:?}"), format!("did you mean `{word}`?"));
    } else {
        let advice = "remove it, write only parameters of libpq, and quote values that hold spaces";
        report.problem(key, "the connection string has an unknown parameter", advice);
    }
}

#[cfg(test)]
mod tests;
