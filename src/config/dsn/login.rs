//! `require_auth` and `channel_binding`, as libpq 16 reads them.

use super::super::database::{ChannelBinding, LoginMethod};

/// Methods libpq knows and keyfall does not have: naming them after `!` asks for what holds anyway.
const ABSENT: [&str; 3] = ["gss", "sspi", "oauth"];

/// The methods a list accepts: those it names, or with `!` all but those.
pub(super) fn required(text: &str) -> Result<Vec<LoginMethod>, &'static str> {
    let words: Vec<_> = text.split(',').map(str::trim).collect();
    let negated = words.iter().filter(|word| word.starts_with('!')).count();
    if negated != 0 && negated != words.len() {
        return Err("names methods with and without `!`");
    }
    let mut named = Vec::new();
    for word in words {
        let name = word.trim_start_matches('!');
        match LoginMethod::ALL.into_iter().find(|method| method.as_str() == name) {
            Some(method) => named.push(method),
            None if negated != 0 && ABSENT.contains(&name) => {}
            None => return Err("names a method that keyfall does not have"),
        }
    }
    let accepted: Vec<_> =
        LoginMethod::ALL.into_iter().filter(|method| named.contains(method) != (negated != 0)).collect();
    if accepted.is_empty() { Err("leaves no method at all") } else { Ok(accepted) }
}

/// How far the login must be bound to the TLS session.
pub(super) fn binding(text: &str) -> Option<ChannelBinding> {
    ChannelBinding::ALL.into_iter().find(|binding| binding.as_str() == text)
}

#[cfg(test)]
mod tests {
    use super::LoginMethod::{Md5, None, Password, Scram};
    use super::*;

    #[test]
    fn a_list_of_methods_is_read_as_libpq_reads_it() {
        for (text, expected) in [
            ("scram-sha-256", Ok(vec![Scram])),
            ("md5, scram-sha-256", Ok(vec![Md5, Scram])),
            ("!password,!md5", Ok(vec![None, Scram])),
            ("!gss", Ok(vec![None, Password, Md5, Scram])),
            ("gss", Err("names a method that keyfall does not have")),
            ("!md5,password", Err("names methods with and without `!`")),
            ("!none,!password,!md5,!scram-sha-256", Err("leaves no method at all")),
            ("", Err("names a method that keyfall does not have")),
        ] {
            assert_eq!(required(text), expected, "{text}");
        }
    }

    #[test]
    fn a_binding_is_one_of_three_words() {
        assert_eq!(binding("require"), Some(ChannelBinding::Require));
        assert_eq!(binding("yes"), Option::None);
    }
}
