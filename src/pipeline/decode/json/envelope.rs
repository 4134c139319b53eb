//! The objects around an array of records: `json.records`.
//!
//! What lies beside the way is read like records are, value by value, checked by the same rules and dropped, so each
//! such value must fit `limits.max_record_bytes`. The way must be there, once, and lead to an array: a document without
//! its records is an error and not an empty one.

use std::collections::HashSet;

use tokio::io::AsyncRead;

use crate::config::feed::FieldPath;

use super::super::{DecodeError, Failure, shown};
use super::documents::unexpected;
use super::fault::Fault;
use super::input::Input;
use super::walk::{self, Rules};
use super::{as_text, damaged, fault_of, frame};

/// The way to the array, and how far the reader has come on it.
pub(super) struct Envelope {
    path: FieldPath,
    /// Objects that are open, outermost first. Only the way is entered, so each stands on it.
    levels: Vec<Level>,
    /// Whether this document's array was found.
    found: bool,
}

/// An object that is open.
#[derive(Debug, Default)]
struct Level {
    after: After,
    keys: HashSet<String>,
}

/// What stands before the place where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum After {
    #[default]
    Bracket,
    Value,
    Comma,
}

/// Where a key of the document leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Beside.
    Aside,
    /// Into an object on the way.
    Through,
    /// To the array.
    There,
}

impl Envelope {
    pub(super) const fn new(path: FieldPath) -> Self {
        Self { path, levels: Vec::new(), found: false }
    }

    /// Stands behind the bracket of a new document.
    pub(super) fn open(&mut self) {
        self.levels.push(Level::default());
        self.found = false;
    }

    /// Goes on until behind the array's bracket, or to the end of the document: then false.
    pub(super) async fn seek<R: AsyncRead + Send + Unpin>(
        &mut self,
        input: &mut Input<R>,
        rules: Rules,
    ) -> Result<bool, Failure> {
        while let Some(level) = self.levels.last_mut() {
            let Some(byte) = input.next_byte().await? else { return Err(frame::ends(input).into()) };
            match (level.after, byte) {
                (After::Bracket | After::Value, b'}') => {
                    input.skip(1);
                    self.levels.pop();
                    self.stand_behind_value();
                }
                (After::Value, b',') => {
                    input.skip(1);
                    level.after = After::Comma;
                }
                (After::Bracket | After::Comma, b'"') => {
                    if self.member(input, rules).await? {
                        return Ok(true);
                    }
                }
                (After::Value, _) => return Err(unexpected(input, "a comma or the end of the object was expected")),
                _ => return Err(unexpected(input, "a key was expected")),
            }
        }
        if self.found { Ok(false) } else { Err(self.refused(input, "has nothing")) }
    }

    fn stand_behind_value(&mut self) {
        if let Some(level) = self.levels.last_mut() {
            level.after = After::Value;
        }
    }

    /// Reads a key and goes on behind its value, or into it; true behind the array's bracket.
    async fn member<R: AsyncRead + Send + Unpin>(
        &mut self,
        input: &mut Input<R>,
        rules: Rules,
    ) -> Result<bool, Failure> {
        let key = self.key(input, rules).await?;
        if input.next_byte().await? != Some(b':') {
            return Err(unexpected(input, "a colon was expected"));
        }
        input.skip(1);
        let Some(byte) = input.next_byte().await? else { return Err(frame::ends(input).into()) };
        let way = self.way(&key);
        self.stand_behind_value();
        match (way, byte) {
            (Way::There, b'[') if !self.found => {
                self.found = true;
                input.skip(1);
                return Ok(true);
            }
            (Way::There, b'[') => return Err(self.refused(input, "has more than one array")),
            (Way::There, _) => return Err(self.refused(input, "has no array")),
            (Way::Through, b'{') => {
                input.skip(1);
                self.levels.push(Level::default());
            }
            // Beside, or something that leads nowhere.
            (Way::Aside | Way::Through, _) => {
                let length = frame::value(input).await?;
                check(input, length, rules)?;
                input.skip(length);
            }
        }
        Ok(false)
    }

    async fn key<R: AsyncRead + Send + Unpin>(
        &mut self,
        input: &mut Input<R>,
        rules: Rules,
    ) -> Result<String, Failure> {
        let length = frame::value(input).await?;
        let key = {
            let bytes = input.rest().get(..length).unwrap_or_default();
            let text = as_text(bytes).map_err(|fault| fault_of(input.place(), &fault))?;
            let broken = |error| fault_of(input.place(), &Fault::from_parser(&error, bytes));
            serde_json::from_str::<String>(text).map_err(broken)?
        };
        let Some(level) = self.levels.last_mut() else { return Ok(key) };
        if !level.keys.insert(key.clone()) && !rules.last_counts() {
            return Err(fault_of(input.place(), &Fault::Duplicate(key)).into());
        }
        if level.keys.len() > rules.max_fields() {
            return Err(fault_of(input.place(), &Fault::Fields(rules.max_fields())).into());
        }
        input.skip(length);
        Ok(key)
    }

    fn way(&self, key: &str) -> Way {
        let depth = self.levels.len();
        if depth == 1 && key == self.path.text {
            return Way::There;
        }
        match self.path.steps.get(depth - 1) {
            Some(step) if step == key && depth == self.path.steps.len() => Way::There,
            Some(step) if step == key => Way::Through,
            _ => Way::Aside,
        }
    }

    /// The document and `json.records` do not fit.
    fn refused<R: AsyncRead + Send + Unpin>(&self, input: &Input<R>, has: &str) -> Failure {
        let reason = format!("the document {has} at {} (json.records)", shown(&self.path.text));
        damaged(input.place(), &reason, Fault::NoObject.code()).into()
    }
}

/// Refuses a value that no record may hold.
fn check<R: AsyncRead + Send + Unpin>(input: &Input<R>, length: usize, rules: Rules) -> Result<(), DecodeError> {
    let bytes = input.rest().get(..length).unwrap_or_default();
    let checked = as_text(bytes).and_then(|text| walk::check(text, rules));
    checked.map_err(|fault| fault_of(input.place(), &fault))
}
