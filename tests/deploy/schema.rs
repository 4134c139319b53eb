//! The part of JSON Schema 2020-12 that the compose schema uses, enough to check one document against it.
//!
//! A complete validator would double the build of the heaviest dependencies through feature unification; these
//! keywords fit on two screens. It guarantees that a keyword it does not know is an error of the schema, so a newer
//! schema can never pass by being half understood. It deliberately knows no `format` and no remote references.

use regex_lite::Regex;
use serde_json::{Map, Value};

/// Keywords that say nothing about whether a document is valid.
const ANNOTATIONS: [&str; 8] = ["$schema", "$id", "$defs", "title", "description", "default", "deprecated", "format"];

/// A schema document.
pub(crate) struct Schema {
    root: Value,
}

impl Schema {
    /// Wraps a parsed schema.
    pub(crate) fn new(root: Value) -> Self {
        Self { root }
    }

    /// Everything wrong with `document`, each with the path at which it stands; empty when it is valid.
    pub(crate) fn problems(&self, document: &Value) -> Vec<String> {
        self.check(&self.root, document, "")
    }

    fn check(&self, schema: &Value, value: &Value, at: &str) -> Vec<String> {
        let keywords = match schema {
            Value::Bool(true) => return Vec::new(),
            Value::Object(keywords) => keywords,
            _ => return vec![format!("{at}: nothing may stand here")],
        };
        let by_keyword = keywords.iter().flat_map(|(keyword, rule)| match keyword.as_str() {
            "$ref" => self.check(self.referenced(rule), value, at),
            "allOf" => rule.as_array().unwrap().iter().flat_map(|part| self.check(part, value, at)).collect(),
            "oneOf" => self.check_choice(rule, value, at, 1),
            "anyOf" => self.check_choice(rule, value, at, usize::MAX),
            "items" => self.check_items(rule, value, at),
            "properties" | "patternProperties" | "additionalProperties" | "unevaluatedProperties" => Vec::new(),
            _ => check_plain(keyword, rule, value, at),
        });
        let members = value.as_object().into_iter().flat_map(|members| self.check_members(keywords, members, at));
        by_keyword.chain(members).collect()
    }

    fn referenced(&self, rule: &Value) -> &Value {
        let pointer = rule.as_str().and_then(|text| text.strip_prefix('#')).expect("a reference inside the schema");
        self.root.pointer(pointer).unwrap_or_else(|| panic!("the schema has nothing at {pointer}"))
    }

    /// At least one and at most `most` of the forms must fit.
    fn check_choice(&self, forms: &Value, value: &Value, at: &str, most: usize) -> Vec<String> {
        let attempts: Vec<_> = forms.as_array().unwrap().iter().map(|form| self.check(form, value, at)).collect();
        match attempts.iter().filter(|found| found.is_empty()).count() {
            0 => vec![format!("{at}: fits none of the forms allowed here: {:?}", attempts.concat())],
            fitting if fitting > most => vec![format!("{at}: fits {fitting} forms, only {most} may fit")],
            _ => Vec::new(),
        }
    }

    fn check_items(&self, rule: &Value, value: &Value, at: &str) -> Vec<String> {
        let items = value.as_array().into_iter().flatten().enumerate();
        items.flat_map(|(index, item)| self.check(rule, item, &format!("{at}/{index}"))).collect()
    }

    fn check_members(&self, keywords: &Map<String, Value>, members: &Map<String, Value>, at: &str) -> Vec<String> {
        let closing = keywords.get("additionalProperties").or_else(|| keywords.get("unevaluatedProperties"));
        let checked = members.iter().flat_map(|(name, member)| {
            let mut rules = rules_for(keywords, name);
            if rules.is_empty() && !self.named_in_all_of(keywords, name) {
                rules.extend(closing);
            }
            rules.into_iter().flat_map(|rule| self.check(rule, member, &format!("{at}/{name}"))).collect::<Vec<_>>()
        });
        checked.collect()
    }

    /// Whether a part of `allOf` names the member: `unevaluatedProperties` looks through it.
    fn named_in_all_of(&self, keywords: &Map<String, Value>, name: &str) -> bool {
        keywords.get("allOf").and_then(Value::as_array).into_iter().flatten().any(|part| {
            let part = part.get("$ref").map_or(part, |rule| self.referenced(rule));
            part.as_object().is_some_and(|keywords| !rules_for(keywords, name).is_empty())
        })
    }
}

/// The schemas that `properties` and `patternProperties` hold for one member.
fn rules_for<'a>(keywords: &'a Map<String, Value>, name: &str) -> Vec<&'a Value> {
    let named = keywords.get("properties").and_then(|all| all.get(name));
    let patterns = keywords.get("patternProperties").and_then(Value::as_object).into_iter().flatten();
    let matching = patterns.filter(|(pattern, _)| matches(pattern, name)).map(|(_, rule)| rule);
    named.into_iter().chain(matching).collect()
}

fn check_plain(keyword: &str, rule: &Value, value: &Value, at: &str) -> Vec<String> {
    let fits = match keyword {
        "type" => {
            rule.as_array().map_or_else(|| is_of(rule, value), |kinds| kinds.iter().any(|kind| is_of(kind, value)))
        }
        "enum" => rule.as_array().unwrap().contains(value),
        "pattern" => value.as_str().is_none_or(|text| matches(rule.as_str().unwrap(), text)),
        "minimum" => value.as_f64().is_none_or(|number| number >= rule.as_f64().unwrap()),
        "maximum" => value.as_f64().is_none_or(|number| number <= rule.as_f64().unwrap()),
        "uniqueItems" => value.as_array().is_none_or(|items| is_set(items)),
        "required" => value.as_object().is_none_or(|members| {
            rule.as_array().unwrap().iter().all(|name| members.contains_key(name.as_str().unwrap()))
        }),
        _ if ANNOTATIONS.contains(&keyword) => true,
        _ => panic!("the schema uses {keyword:?}, which tests/deploy/schema.rs does not know"),
    };
    if fits { Vec::new() } else { vec![format!("{at}: breaks {keyword} {rule}")] }
}

fn is_of(kind: &Value, value: &Value) -> bool {
    match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64(),
        "null" => value.is_null(),
        other => panic!("the schema names an unknown type {other:?}"),
    }
}

fn is_set(items: &[Value]) -> bool {
    items.iter().enumerate().all(|(index, item)| !items[..index].contains(item))
}

fn matches(pattern: &str, text: &str) -> bool {
    Regex::new(pattern).unwrap_or_else(|error| panic!("pattern {pattern:?}: {error}")).is_match(text)
}
