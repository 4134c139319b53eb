//! Tables of connection strings and what becomes of them.

use super::*;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn resolve_with(text: &str, variables: &[(&str, &str)]) -> (Option<Connection>, Report) {
    let mut report = Report::default();
    let text = Secret::new(text.to_owned());
    let environment = environment(variables);
    let text = (!text.expose().is_empty()).then_some(&text);
    let input = Input { key: "database.url", text, password: None, environment: &environment };
    let connection = resolve(input, &mut report);
    (connection, report)
}

fn connection(text: &str, variables: &[(&str, &str)]) -> Connection {
    let (connection, report) = resolve_with(text, variables);
    assert!(report.is_clean(), "{text}: {report:?}");
    connection.unwrap()
}

fn refused(text: &str, fragment: &str) {
    let (_, report) = resolve_with(text, &[]);
    assert!(!report.is_clean(), "{text} was accepted");
    let errors = report.into_errors().to_string();
    assert!(errors.contains(fragment), "{text}: {errors}");
    assert!(!errors.contains("hunter2"), "{text}: {errors}");
}

#[test]
fn a_string_gives_hosts_ports_and_the_rest() {
    let found = connection("postgresql://u:p@a:1,b:2/d?sslmode=verify-full&sslrootcert=/ca.pem&connect_timeout=7", &[]);
    assert_eq!(found.hosts, ["a", "b"]);
    assert_eq!(found.ports, [1, 2]);
    assert_eq!((found.user.as_str(), found.dbname.as_str()), ("u", "d"));
    assert_eq!(found.password.unwrap().expose(), "p");
    assert_eq!(found.sslmode, SslMode::VerifyFull);
    assert_eq!(found.sslrootcert, Some(PathBuf::from("/ca.pem")));
    assert_eq!(found.connect_timeout, Some(Duration::from_secs(7)));
}

#[test]
fn one_port_serves_all_hosts_and_the_database_is_named_like_the_user() {
    let found = connection("host=a,b port=5433 user=u options='-c x=y' application_name=z", &[]);
    assert_eq!((found.hosts.len(), found.ports.as_slice()), (2, [5433].as_slice()));
    assert_eq!(found.dbname, "u");
    assert_eq!(found.options.as_deref(), Some("-c x=y"));
    assert_eq!(found.sslmode, SslMode::Prefer);
}

#[test]
fn variables_fill_only_what_the_string_leaves_open() {
    let variables = [
        ("PGHOST", "other"),
        ("PGPORT", "6000"),
        ("PGUSER", "env"),
        ("PGPASSWORD", "secret"),
        ("PGDATABASE", "envdb"),
        ("PGSSLMODE", "verify-ca"),
        ("PGSSLROOTCERT", "/env.pem"),
        ("PGOPTIONS", "-c a=b"),
        ("PGCONNECT_TIMEOUT", "3"),
    ];
    let found = connection("postgres://string@h/", &variables);
    assert_eq!((found.hosts, found.ports), (vec!["h".to_owned()], vec![6000]));
    assert_eq!((found.user.as_str(), found.dbname.as_str()), ("string", "envdb"));
    assert_eq!(found.password.unwrap().expose(), "secret");
    assert_eq!((found.sslmode, found.connect_timeout), (SslMode::VerifyCa, Some(Duration::from_secs(3))));
    let alone = connection("", &variables);
    assert_eq!((alone.hosts, alone.user), (vec!["other".to_owned()], "env".to_owned()));
}

#[test]
fn the_login_may_be_restricted_by_string_or_variable() {
    let found = connection("postgres://u@h?require_auth=scram-sha-256&channel_binding=require", &[]);
    assert_eq!((found.require_auth, found.channel_binding), (Some(vec![LoginMethod::Scram]), ChannelBinding::Require));
    let variables = [("PGREQUIREAUTH", "!password"), ("PGCHANNELBINDING", "disable")];
    let found = connection("postgres://u@h", &variables);
    assert_eq!(found.require_auth.unwrap(), [LoginMethod::None, LoginMethod::Md5, LoginMethod::Scram]);
    assert_eq!(found.channel_binding, ChannelBinding::Disable);
    let found = connection("postgres://u@h", &[]);
    assert_eq!((found.require_auth, found.channel_binding), (None, ChannelBinding::Prefer));
}

#[test]
fn system_roots_demand_verify_full() {
    let found = connection("postgres://u@h?sslrootcert=system", &[]);
    assert_eq!((found.sslmode, found.sslrootcert), (SslMode::VerifyFull, None));
    refused("postgres://u@h?sslrootcert=system&sslmode=require", "too weak");
}

#[test]
fn what_cannot_be_honoured_is_refused_with_a_reason() {
    refused("postgres://u@h?sslmode=allow", "in the clear");
    refused("postgres://u@h?sslmode=verify_full", "did you mean `verify-full`?");
    refused("postgres://u@h?sslmod=require", "did you mean `sslmode`?");
    refused("host=h user=u passwrd=hunter2", "did you mean `password`?");
    refused("host=h user=u password=a b hunter2=c", "has no `=`");
    refused("host=h user=u zzzz=hunter2", "unknown parameter");
    refused("service=x", "service files are not read");
    refused("postgres://u@h?channel_binding=yes", "disable, prefer, require");
    refused("postgres://u@h?require_auth=gss", "does not have");
    refused("host=/run/postgresql,h user=u", "one kind");
    refused("postgres://u@h?gssencmode=require", "Kerberos");
    refused("postgres://u@h?target_session_attrs=standby", "primary");
    refused("postgres://u:hunter2/x@h", "%2F");
    refused("postgres://u:hunter2", "port");
    refused("host=a,b,c port=1,2 user=u", "2 ports for 3 hosts");
    refused("host=h port=0 user=u", "port");
    refused("host=h user=u sslcert=/x", "sslkey");
    refused("host=h user=u connect_timeout=0", "connect_timeout");
    refused("host=h", "no user");
    refused("", "is required");
}

#[test]
fn parameters_that_change_nothing_are_accepted() {
    connection("postgres://u@h?channel_binding=prefer&gssencmode=disable&target_session_attrs=read-write", &[]);
    connection("postgres://u@h?application_name=x&keepalives=1&client_encoding=UTF8&sslcompression=0", &[]);
    connection(
        "postgres://u@h?sslsni=1&load_balance_hosts=disable&ssl_min_protocol_version=TLSv1.2&replication=false",
        &[],
    );
}

#[cfg(unix)]
#[test]
fn a_private_pgpass_is_used_and_a_shared_one_refused_with_a_warning() {
    use std::os::unix::fs::PermissionsExt;
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".pgpass");
    std::fs::write(&path, "h:5432:d:u:from-file\n").unwrap();
    let variables = [("HOME", home.path().to_str().unwrap())];
    for (mode, expected) in [(0o600, Some("from-file")), (0o640, None), (0o604, None)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let (found, report) = resolve_with("postgres://u@h/d", &variables);
        assert_eq!(found.unwrap().password.as_ref().map(Secret::expose), expected, "{mode:o}");
        let warnings = report.into_warnings();
        assert_eq!(warnings.iter().any(|warning| warning.contains("0600")), expected.is_none(), "{mode:o}");
    }
}

#[cfg(unix)]
#[test]
fn pgpassfile_goes_before_the_home_and_a_password_before_both() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    for name in [".pgpass", "other"] {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("*:*:*:*:{name}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    let home = folder.path().to_str().unwrap().to_owned();
    let other = folder.path().join("other").to_str().unwrap().to_owned();
    let variables = [("HOME", home.as_str()), ("PGPASSFILE", other.as_str())];
    assert_eq!(connection("postgres://u@h", &variables).password.unwrap().expose(), "other");
    assert_eq!(connection("postgres://u@h", &variables[..1]).password.unwrap().expose(), ".pgpass");
    assert_eq!(connection("postgres://u:string@h", &variables).password.unwrap().expose(), "string");
}

#[test]
fn nothing_shown_of_a_connection_holds_the_password() {
    let found = connection("postgres://u:hunter2@h/d", &[]);
    assert!(found.shown.contains(&("password".to_owned(), "***".to_owned(), "database.url".to_owned())));
    assert!(!format!("{found:?}").contains("hunter2"));
}
