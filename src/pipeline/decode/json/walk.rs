//! One pass over one record: the library parses, this notes what is wanted and refuses what is too much.
//!
//! Every value of the record is looked at, wanted or not, so that a record is bad or good whatever the mapping asks
//! for. No tree is built. Texts, numbers and words are taken as the parser saw them, unconverted: a number never
//! becomes a float. The parser does not say where it is, but hands out the text of every key and plain value, so
//! their lengths and the marks between them tell (`at`).

use std::borrow::Cow;
use std::collections::HashSet;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::fault::Fault;
use super::input::{Span, blanks};
use super::paths::{Node, Paths, ROOT};
use super::tape::{Tape, Turn};
use crate::config::feed::{DuplicateKeys, Limits};

/// The parser itself goes no deeper.
const DEEPEST: usize = 127;

/// Keys of one object that are compared one by one; beyond, a set is faster.
const FEW: usize = 16;

/// What a record may be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rules {
    duplicate_keys: DuplicateKeys,
    max_depth: usize,
    max_fields: usize,
}

impl Rules {
    pub(super) fn new(duplicate_keys: DuplicateKeys, limits: &Limits) -> Self {
        Self { duplicate_keys, max_depth: limits.max_depth.min(DEEPEST), max_fields: limits.max_fields }
    }

    /// Whether the last of several equal keys counts.
    pub(super) fn last_counts(self) -> bool {
        self.duplicate_keys == DuplicateKeys::Last
    }

    pub(super) const fn max_fields(self) -> usize {
        self.max_fields
    }
}

/// A value as it stands in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Cell {
    #[default]
    Absent,
    Null,
    Bool(bool),
    /// A text without escapes, its quotes left out.
    Text(Span),
    /// A text with escapes, its quotes left out: what it means stands among the decoded texts.
    Decoded(Span),
    Number(Span),
    Nested(Span),
}

/// A field that nobody asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Member {
    /// With its quotes.
    pub(super) key: Span,
    /// As it stands.
    pub(super) value: Span,
}

/// What was found in a record.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Values by the cells of [`Paths`].
    pub(super) cells: Vec<Cell>,
    /// Texts that had escapes.
    pub(super) decoded: Vec<u8>,
    /// Fields of the record itself that no path leads to or through.
    pub(super) members: Vec<Member>,
    /// The keys of the record before.
    tape: Tape,
}

/// Walks over a value that may be anything; notes nothing.
pub(super) fn check(text: &str, rules: Rules) -> Result<(), Fault> {
    let (paths, mut found) = (Paths::default(), Found::default());
    Walk::new(text, &paths, rules, &mut found).run(None)
}

/// Walks over a record and notes what the paths want.
pub(super) fn record(text: &str, paths: &Paths, rules: Rules, found: &mut Found) -> Result<(), Fault> {
    found.cells.clear();
    found.cells.resize(paths.cells(), Cell::Absent);
    found.decoded.clear();
    found.members.clear();
    found.tape.rewind();
    Walk::new(text, paths, rules, found).run(Some(ROOT))?;
    if text.starts_with('{') { Ok(()) } else { Err(Fault::NoObject) }
}

/// What makes these bytes the beginning of no JSON value.
pub(super) fn check_beginning(bytes: &[u8]) -> Option<Fault> {
    let fault = syntax(bytes)?;
    (fault != Fault::Ends).then_some(fault)
}

/// Whether these bytes are the beginning of a value and not the whole of one.
pub(super) fn is_cut(bytes: &[u8]) -> bool {
    syntax(bytes) == Some(Fault::Ends)
}

fn syntax(bytes: &[u8]) -> Option<Fault> {
    serde_json::from_slice::<IgnoredAny>(bytes).err().map(|error| Fault::from_parser(&error, bytes))
}

/// What a text of JSON means. Its quotes are part of it.
pub(super) fn unescaped(text: &str) -> Result<Cow<'_, str>, serde_json::Error> {
    if memchr::memchr(b'\\', text.as_bytes()).is_some() {
        return serde_json::from_str::<String>(text).map(Cow::Owned);
    }
    let inner = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
    Ok(Cow::Borrowed(inner.unwrap_or_default()))
}

/// The state of one pass.
struct Walk<'de, 'w> {
    text: &'de str,
    /// Where the parser is.
    at: usize,
    depth: usize,
    paths: &'w Paths,
    rules: Rules,
    found: &'w mut Found,
    /// Keys of the objects that are open, outermost first.
    keys: Vec<Cow<'de, str>>,
    /// Why the pass was given up; the parser only knows that it was.
    fault: Option<Fault>,
}

impl<'de, 'w> Walk<'de, 'w> {
    fn new(text: &'de str, paths: &'w Paths, rules: Rules, found: &'w mut Found) -> Self {
        let keys = Vec::with_capacity(FEW);
        Self { text, at: 0, depth: 0, paths, rules, found, keys, fault: None }
    }

    fn run(mut self, node: Option<Node>) -> Result<(), Fault> {
        let text = self.text;
        let mut parser = serde_json::Deserializer::from_str(text);
        let parsed = AnyValue { walk: &mut self, node }.deserialize(&mut parser).and_then(|_value| parser.end());
        match (parsed, self.fault) {
            (Ok(()), _) => Ok(()),
            (Err(_given_up), Some(fault)) => Err(fault),
            (Err(error), None) => Err(Fault::from_parser(&error, text.as_bytes())),
        }
    }

    /// Gives the pass up.
    #[cold]
    fn give_up<E: serde::de::Error>(&mut self, fault: Fault) -> E {
        self.fault = Some(fault);
        E::custom("given up")
    }

    fn rest(&self) -> &'de [u8] {
        self.text.as_bytes().get(self.at..).unwrap_or_default()
    }

    /// Passes over blanks and this mark; the parser has seen to it, or will, that it is in its place.
    #[inline]
    fn pass(&mut self, mark: u8) -> Option<u8> {
        self.at += blanks(self.rest());
        if self.rest().first() == Some(&mark) {
            self.at += 1;
            self.at += blanks(self.rest());
        }
        self.rest().first().copied()
    }

    /// Passes over this many bytes.
    #[inline]
    const fn span(&mut self, bytes: usize) -> Span {
        let start = self.at;
        self.at += bytes;
        Span { start, end: self.at }
    }

    /// Goes into an object or array, behind its bracket. Comes before the parser, whose own limit has no code.
    fn open<E: serde::de::Error>(&mut self) -> Result<(), E> {
        self.depth += 1;
        self.at += 1;
        if self.depth > self.rules.max_depth {
            return Err(self.give_up(Fault::Depth(self.rules.max_depth)));
        }
        Ok(())
    }

    /// Leaves it, behind its other bracket.
    fn close(&mut self) {
        self.depth -= 1;
        self.at += blanks(self.rest()) + 1;
    }

    /// A text's meaning, or what is wrong with it: half of a surrogate pair is noticed nowhere else.
    fn meaning<E: serde::de::Error>(&mut self, text: &'de str) -> Result<Cow<'de, str>, E> {
        unescaped(text).map_err(|error| {
            let fault = match Fault::from_parser(&error, text.as_bytes()) {
                Fault::Syntax { told, at } => Fault::Syntax { told, at: at + self.at },
                other => other,
            };
            self.give_up(fault)
        })
    }

    /// Notes a value that is neither object nor array.
    #[inline]
    fn plain<E: serde::de::Error>(&mut self, raw: &'de str, cell: Option<usize>) -> Result<(), E> {
        let start = self.at;
        let has_escapes = raw.starts_with('"') && memchr::memchr(b'\\', raw.as_bytes()).is_some();
        let decoded = if has_escapes { Some(self.meaning(raw)?) } else { None };
        self.at += raw.len();
        let Some(cell) = cell.and_then(|cell| self.found.cells.get_mut(cell)) else { return Ok(()) };
        *cell = match (decoded, plain(raw.as_bytes(), start)) {
            (Some(text), _) => {
                let start = self.found.decoded.len();
                self.found.decoded.extend_from_slice(text.as_bytes());
                Cell::Decoded(Span { start, end: self.found.decoded.len() })
            }
            (None, cell) => cell,
        };
        Ok(())
    }
}

/// A value that is neither object nor array and has no escapes, at this place of its record.
pub(super) fn plain(raw: &[u8], start: usize) -> Cell {
    let end = start + raw.len();
    match raw.first() {
        Some(b'"') => Cell::Text(Span { start: start + 1, end: end - 1 }),
        Some(b'n') => Cell::Null,
        Some(b't') => Cell::Bool(true),
        Some(b'f') => Cell::Bool(false),
        _ => Cell::Number(Span { start, end }),
    }
}

/// The value at which the parser stands.
struct AnyValue<'a, 'de, 'w> {
    walk: &'a mut Walk<'de, 'w>,
    /// Where the paths stand, where one leads here.
    node: Option<Node>,
}

impl<'de> DeserializeSeed<'de> for AnyValue<'_, 'de, '_> {
    type Value = Span;

    fn deserialize<D: Deserializer<'de>>(self, parser: D) -> Result<Span, D::Error> {
        let Self { walk, node } = self;
        let start = walk.at;
        let cell = node.and_then(|node| walk.paths.cell(node));
        let first = walk.rest().first().copied();
        if matches!(first, Some(b'{' | b'[')) {
            walk.open()?;
        }
        match first {
            Some(b'{') => parser.deserialize_map(Object { walk: &mut *walk, node })?,
            Some(b'[') => parser.deserialize_seq(List { walk: &mut *walk })?,
            _ => {
                let raw = <&RawValue as serde::Deserialize>::deserialize(parser)?;
                walk.plain(raw.get(), cell)?;
                return Ok(Span { start, end: walk.at });
            }
        }
        let span = Span { start, end: walk.at };
        if let Some(cell) = cell.and_then(|cell| walk.found.cells.get_mut(cell)) {
            *cell = Cell::Nested(span);
        }
        Ok(span)
    }
}

/// An object at which the parser stands.
struct Object<'a, 'de, 'w> {
    walk: &'a mut Walk<'de, 'w>,
    node: Option<Node>,
}

impl<'de> Visitor<'de> for Object<'_, 'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { walk, node } = self;
        let mut keys = Keys { first: walk.keys.len(), count: 0, many: None };
        while let Some(raw) = map.next_key::<&RawValue>()? {
            walk.pass(b',');
            let key = walk.meaning(raw.get())?;
            let span = walk.span(raw.get().len());
            keys.count += 1;
            let turn = Turn { depth: walk.depth, nth: keys.count, node };
            let child = if let Some(known) = walk.found.tape.follow(raw.get(), turn) {
                // As in the record before, so it is none of the keys in front of it.
                walk.keys.push(key);
                known.child
            } else {
                let child = node.and_then(|node| walk.paths.child(node, &key));
                keys.add(walk, key)?;
                walk.found.tape.note(raw.get(), turn, child);
                child
            };
            if keys.count > walk.rules.max_fields {
                return Err(walk.give_up(Fault::Fields(walk.rules.max_fields)));
            }
            if let (Some(child), true) = (child, walk.rules.last_counts()) {
                // What an earlier one of this name left behind.
                walk.paths.each_below(child, &mut |cell| {
                    if let Some(cell) = walk.found.cells.get_mut(cell) {
                        *cell = Cell::Absent;
                    }
                });
            }
            walk.pass(b':');
            let value = map.next_value_seed(AnyValue { walk: &mut *walk, node: child })?;
            if child.is_none() && walk.depth == 1 && node.is_some() {
                walk.found.members.push(Member { key: span, value });
            }
        }
        walk.keys.truncate(keys.first);
        walk.close();
        Ok(())
    }
}

/// An array at which the parser stands.
struct List<'a, 'de, 'w> {
    walk: &'a mut Walk<'de, 'w>,
}

impl<'de> Visitor<'de> for List<'_, 'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let walk = self.walk;
        loop {
            walk.pass(b',');
            if list.next_element_seed(AnyValue { walk: &mut *walk, node: None })?.is_none() {
                break;
            }
        }
        walk.close();
        Ok(())
    }
}

/// The keys of one object that is open.
struct Keys<'de> {
    /// Where they begin among those of all.
    first: usize,
    count: usize,
    /// All of them, where they are many.
    many: Option<HashSet<Cow<'de, str>>>,
}

impl<'de> Keys<'de> {
    /// Adds one, which must be new.
    fn add<E: serde::de::Error>(&mut self, walk: &mut Walk<'de, '_>, key: Cow<'de, str>) -> Result<(), E> {
        if walk.rules.last_counts() {
            return Ok(());
        }
        let all = walk.keys.get(self.first..).unwrap_or_default();
        let is_new = if all.len() < FEW {
            !all.contains(&key)
        } else {
            self.many.get_or_insert_with(|| all.iter().cloned().collect()).insert(key.clone())
        };
        if !is_new {
            return Err(walk.give_up(Fault::Duplicate(key.into_owned())));
        }
        walk.keys.push(key);
        Ok(())
    }
}
