//! The keys of the last record in their order: most records have the same.
//!
//! A key that stands where it stood before leads where it led before, and is none of those in front of it in its object:
//! neither has to be looked up. From the first difference on, everything is looked up and noted anew.

use super::paths::Node;

/// Keys that are noted; beyond, all are looked up.
const MOST: usize = 4096;

/// Where a key stands. Depth and number of each key of a record tell which keys are in one object: an object's first has
/// number one, and its others follow the last of that depth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    /// Objects and arrays that are open.
    pub(super) depth: usize,
    /// The key's number in its object, from 1.
    pub(super) nth: usize,
    /// Where the paths stand.
    pub(super) node: Option<Node>,
}

/// What is known of a key that stands where it stood before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Where the paths stand behind it.
    pub(super) child: Option<Node>,
}

/// A key that was noted.
#[derive(Debug)]
struct Noted {
    turn: Turn,
    /// Where its text ends; it begins where the one before ends.
    end: usize,
    child: Option<Node>,
}

/// The keys.
#[derive(Debug, Default)]
pub(super) struct Tape {
    keys: Vec<Noted>,
    /// Their texts as they stand in the record.
    text: String,
    /// How many keys of this record were as before.
    same: usize,
    /// Where the text of the next one begins.
    at: usize,
    /// Whether one was not.
    differs: bool,
}

impl Tape {
    /// Begins a new record.
    pub(super) const fn rewind(&mut self) {
        self.same = 0;
        self.at = 0;
        self.differs = false;
    }

    /// Where a key leads, where it and all before it are as in the record before.
    #[inline]
    pub(super) fn follow(&mut self, key: &str, turn: Turn) -> Option<Known> {
        if self.differs {
            return None;
        }
        if let Some(noted) = self.keys.get(self.same)
            && noted.turn == turn
            && self.text.as_bytes().get(self.at..noted.end) == Some(key.as_bytes())
        {
            self.same += 1;
            self.at = noted.end;
            return Some(Known { child: noted.child });
        }
        self.keys.truncate(self.same);
        self.text.truncate(self.at);
        self.differs = true;
        None
    }

    /// Notes a key that differs, once it is known to be new in its object.
    pub(super) fn note(&mut self, key: &str, turn: Turn, child: Option<Node>) {
        if self.keys.len() < MOST {
            self.text.push_str(key);
            self.keys.push(Noted { turn, end: self.text.len(), child });
        }
    }
}
