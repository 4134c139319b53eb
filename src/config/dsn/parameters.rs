//! Every connection parameter libpq knows, and what keyfall makes of it.
//!
//! A parameter that promises something we cannot keep is refused rather than ignored; one that asks for what holds
//! anyway is accepted.

/// What becomes of a parameter.
#[derive(Debug, Clone, Copy)]
pub(super) enum Treatment {
    /// It is used.
    Used,
    /// It changes nothing that keyfall does not settle itself.
    Ignored,
    /// Only these values ask for what holds anyway; others are refused for the reason given.
    Only(&'static [&'static str], &'static str),
    /// It is refused for the reason given.
    Refused(&'static str),
}

use Treatment::{Ignored, Only, Refused, Used};

const OFF: &[&str] = &["0", "disable", "false", "off", "no"];
const KERBEROS: &str = "Kerberos is not supported; use a password or a client certificate";

/// libpq 17 and 18, in the order of its documentation.
pub(super) const PARAMETERS: &[(&str, Treatment)] = &[
    ("host", Used),
    ("hostaddr", Refused("it cannot be told apart from host here; write the address as host")),
    ("port", Used),
    ("dbname", Used),
    ("user", Used),
    ("password", Used),
    ("passfile", Used),
    ("require_auth", Used),
    ("channel_binding", Used),
    ("connect_timeout", Used),
    ("client_encoding", Only(&["utf8", "UTF8", "utf-8", "UTF-8", "auto"], "keyfall always speaks UTF-8")),
    ("options", Used),
    // keyfall names its connections itself, so that an operator finds them in pg_stat_activity.
    ("application_name", Ignored),
    ("fallback_application_name", Ignored),
    // keyfall sets its own keepalives on both ends of the connection.
    ("keepalives", Ignored),
    ("keepalives_idle", Ignored),
    ("keepalives_interval", Ignored),
    ("keepalives_count", Ignored),
    ("tcp_user_timeout", Ignored),
    ("replication", Only(OFF, "keyfall needs an ordinary connection")),
    ("gssencmode", Only(&["disable", "prefer"], KERBEROS)),
    ("sslmode", Used),
    ("requiressl", Refused("it is obsolete; use sslmode")),
    ("sslnegotiation", Only(&["postgres"], "TLS is negotiated the PostgreSQL way")),
    ("sslcompression", Only(OFF, "TLS compression is insecure and not supported")),
    ("sslcert", Used),
    ("sslkey", Used),
    (
        "sslpassword",
        Refused("encrypted client keys are not supported; decrypt the key into a file only keyfall can read"),
    ),
    ("sslcertmode", Only(&["allow"], "a client certificate is sent where sslcert names one")),
    ("sslrootcert", Used),
    ("sslcrl", Refused("revocation lists are not supported")),
    ("sslcrldir", Refused("revocation lists are not supported")),
    ("sslsni", Only(&["1"], "the server name is always sent")),
    ("sslkeylogfile", Refused("TLS keys are never written to a file")),
    ("requirepeer", Refused("the owner of a socket is not checked; protect the socket's directory")),
    ("ssl_min_protocol_version", Only(&["", "TLSv1", "TLSv1.1", "TLSv1.2"], "TLS 1.2 and 1.3 are accepted")),
    ("ssl_max_protocol_version", Only(&["", "TLSv1.3"], "TLS 1.2 and 1.3 are accepted")),
    ("min_protocol_version", Only(&["3.0"], "keyfall speaks protocol version 3.0")),
    ("max_protocol_version", Only(&["3.0", "3.2", "latest"], "keyfall speaks protocol version 3.0")),
    ("krbsrvname", Refused(KERBEROS)),
    ("gsslib", Refused(KERBEROS)),
    ("gssdelegation", Only(OFF, KERBEROS)),
    ("scram_client_key", Refused("use a password")),
    ("scram_server_key", Refused("use a password")),
    ("service", Refused("service files are not read; write the settings out")),
    ("servicefile", Refused("service files are not read; write the settings out")),
    // A loader needs a server that takes writes, whatever was asked for.
    ("target_session_attrs", Only(&["any", "read-write", "primary"], "keyfall writes, so it needs a primary")),
    ("load_balance_hosts", Only(&["disable"], "hosts are tried in the order they are written")),
    ("oauth_issuer", Refused("OAuth is not supported; use a password or a client certificate")),
    ("oauth_client_id", Refused("OAuth is not supported; use a password or a client certificate")),
    ("oauth_client_secret", Refused("OAuth is not supported; use a password or a client certificate")),
    ("oauth_scope", Refused("OAuth is not supported; use a password or a client certificate")),
];

/// The name as a constant of ours, and what becomes of it.
pub(super) fn treatment(name: &str) -> Option<(&'static str, Treatment)> {
    PARAMETERS.iter().find(|(known, _)| *known == name).copied()
}

/// The environment variables that fill what the connection string leaves open.
pub(super) const VARIABLES: &[(&str, &str)] = &[
    ("PGHOST", "host"),
    ("PGPORT", "port"),
    ("PGUSER", "user"),
    ("PGPASSWORD", "password"),
    ("PGDATABASE", "dbname"),
    ("PGSSLMODE", "sslmode"),
    ("PGSSLROOTCERT", "sslrootcert"),
    ("PGSSLCERT", "sslcert"),
    ("PGSSLKEY", "sslkey"),
    ("PGREQUIREAUTH", "require_auth"),
    ("PGCHANNELBINDING", "channel_binding"),
    ("PGPASSFILE", "passfile"),
    ("PGOPTIONS", "options"),
    ("PGCONNECT_TIMEOUT", "connect_timeout"),
];

/// Variables libpq would follow and keyfall does not: said once, so that nobody wonders.
pub(super) const IGNORED_VARIABLES: &[&str] = &[
    "PGHOSTADDR",
    "PGSERVICE",
    "PGSERVICEFILE",
    "PGGSSENCMODE",
    "PGREQUIRESSL",
    "PGSSLCRL",
    "PGSSLCRLDIR",
    "PGSSLNEGOTIATION",
    "PGSSLCERTMODE",
    "PGSSLMINPROTOCOLVERSION",
    "PGSSLMAXPROTOCOLVERSION",
    "PGREQUIREPEER",
    "PGTARGETSESSIONATTRS",
    "PGLOADBALANCEHOSTS",
];
