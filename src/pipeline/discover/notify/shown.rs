//! What of a message nobody understands may stand in a log. Pure.

/// Characters of a body that are shown.
const SHOWN: usize = 200;
/// Characters that are looked at: enough to fill the shown ones after addresses are taken out.
const LOOKED_AT: usize = 4096;

/// The beginning of a body on one line. Addresses are taken out: those of SNS hold tokens, and nobody should be led to
/// open one.
pub(super) fn excerpt(body: &str) -> String {
    let beginning: String = body.chars().take(LOOKED_AT).collect();
    let mut shown = String::new();
    let mut rest = beginning.as_str();
    while let Some(at) = find_address(rest) {
        let (before, address) = rest.split_at(at);
        shown.push_str(before);
        shown.push('…');
        let end = address.find(|c: char| c == '"' || c.is_whitespace()).unwrap_or(address.len());
        rest = address.split_at(end).1;
    }
    shown.push_str(rest);
    let escaped: String = shown.chars().flat_map(char::escape_debug).take(SHOWN).collect();
    if shown.chars().count() > SHOWN || body.chars().nth(LOOKED_AT).is_some() { escaped + "…" } else { escaped }
}

fn find_address(text: &str) -> Option<usize> {
    // ASCII letters keep their place when their case changes.
    text.to_ascii_lowercase().find("http")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_shown_on_one_line_and_in_part() {
        assert_eq!(excerpt("a\nb\u{1b}[31m"), "a\\nb\\u{1b}[31m");
        assert_eq!(excerpt(&"x".repeat(300)), "x".repeat(200) + "…");
        assert_eq!(excerpt(""), "");
    }

    #[test]
    fn addresses_are_taken_out_however_they_are_spelled() {
        for body in [
            r#"{"SubscribeURL":"https://169.254.169.254/?Token=2336","x":1}"#,
            r#"{"SubscribeURL":"HTTP:\/\/169.254.169.254\/?Token=2336","x":1}"#,
            r#"{\"SubscribeURL\":\"http://169.254.169.254/?Token=2336\","x":1}"#,
            "http://169.254.169.254/?Token=2336",
        ] {
            let shown = excerpt(body);
            assert!(!shown.contains("169.254") && !shown.contains("2336"), "{shown}");
        }
        assert!(excerpt(r#"{"u":"http://h/","x":1}"#).contains("\\\"x"));
    }
}
