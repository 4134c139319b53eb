//! From a pattern's text to its atoms. All rules about what may stand beside what are here.

use super::problem::{PatternError, Problem};
use super::time::{self, Field, Follower};
use super::{Atom, Slashes};

/// Captures and wildcards in one pattern. Matching is linear in them; more than this is a mistake, not a pattern.
const MAX_WILD: usize = 8;

/// Reads a whole pattern.
pub(super) fn atoms(text: &str) -> Result<Vec<Atom>, PatternError> {
    let mut parser = Parser { chars: text.chars().collect(), at: 0, atoms: Vec::new(), wild: 0, open_fraction: None };
    match parser.pattern().and_then(|()| parser.with_widths()) {
        Ok(atoms) => Ok(atoms),
        Err((at, problem)) => Err(PatternError { pattern: text.to_owned(), at: at + 1, problem }),
    }
}

/// A position, from 0, and what is wrong there.
type Fault = (usize, Problem);

struct Parser {
    chars: Vec<char>,
    at: usize,
    atoms: Vec<Atom>,
    wild: usize,
    /// Where `%f` stands, whose end only what follows it can tell.
    open_fraction: Option<usize>,
}

impl Parser {
    fn pattern(&mut self) -> Result<(), Fault> {
        while let Some(c) = self.peek(0) {
            match (c, self.peek(1)) {
                ('{' | '}', Some(next)) if next == c => {
                    self.literal(c);
                    self.at += 2;
                }
                ('{', _) => self.braces()?,
                ('}', _) => return Err((self.at, Problem::Unopened)),
                ('*', _) => self.stars()?,
                _ => {
                    self.literal(c);
                    self.at += 1;
                }
            }
        }
        Ok(())
    }

    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn literal(&mut self, c: char) {
        if let Some(Atom::Literal(literal)) = self.atoms.last_mut() {
            literal.push(c);
        } else {
            self.atoms.push(Atom::Literal(c.to_string()));
        }
    }

    fn wild(&mut self, atom: Atom) -> Result<(), Fault> {
        self.wild += 1;
        if self.wild > MAX_WILD {
            return Err((self.at, Problem::TooManyWild { max: MAX_WILD }));
        }
        self.atoms.push(atom);
        Ok(())
    }

    fn stars(&mut self) -> Result<(), Fault> {
        let stars = self.chars.iter().skip(self.at).take_while(|c| **c == '*').count();
        let slashes = match stars {
            1 => Slashes::Within,
            2 => Slashes::Across,
            _ => return Err((self.at, Problem::Stars)),
        };
        self.wild(Atom::Wildcard { slashes })?;
        self.at += stars;
        Ok(())
    }

    fn braces(&mut self) -> Result<(), Fault> {
        let open = self.at;
        let inner: String = self.chars.iter().skip(open + 1).take_while(|c| **c != '}').collect();
        let close = open + 1 + inner.chars().count();
        if self.chars.get(close).is_none() {
            return Err((open, Problem::Unclosed));
        }
        if matches!(self.atoms.last(), Some(Atom::Capture(_))) {
            return Err((open, Problem::NoLiteralBetween));
        }
        if inner == "time" {
            return Err((open, Problem::TimeWithoutFormat));
        }
        if let Some(format) = inner.strip_prefix("time:") {
            self.time(open, format)?;
        } else {
            self.capture(open, inner)?;
        }
        self.at = close + 1;
        Ok(())
    }

    fn capture(&mut self, open: usize, name: String) -> Result<(), Fault> {
        let plain = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if !plain || !name.starts_with(|c: char| c.is_ascii_lowercase()) {
            return Err((open, Problem::CaptureName(name)));
        }
        if self.atoms.iter().any(|atom| matches!(atom, Atom::Capture(known) if *known == name)) {
            return Err((open, Problem::CaptureTwice(name)));
        }
        self.wild(Atom::Capture(name))
    }

    fn time(&mut self, open: usize, format: &str) -> Result<(), Fault> {
        if self.atoms.iter().any(Atom::is_field) {
            return Err((open, Problem::TimeTwice));
        }
        if format.is_empty() {
            return Err((open, Problem::TimeEmpty));
        }
        let mut fields: Vec<(usize, Field)> = Vec::new();
        let end = open + "{time:".len() + format.chars().count();
        self.at = open + "{time:".len();
        while self.at < end {
            let at = self.at;
            if let Some(field) = self.directive()? {
                self.atoms.push(Atom::Field { field, width: field.width(Follower::Unknown) });
                fields.push((at, field));
            }
        }
        if fields.is_empty() {
            return Err((open, Problem::TimeWithoutFields));
        }
        self.open_fraction = fields.iter().find(|(_, field)| *field == Field::Fraction(None)).map(|(at, _)| *at);
        time::check(&fields)
    }

    /// Reads one directive or one literal character of a format.
    fn directive(&mut self) -> Result<Option<Field>, Fault> {
        let start = self.at;
        let Some(c) = self.peek(0) else { return Ok(None) };
        self.at += 1;
        if c != '%' {
            self.literal(c);
            return Ok(None);
        }
        let digits = self.peek(0).filter(char::is_ascii_digit);
        self.at += usize::from(digits.is_some());
        let letter = self.peek(0).filter(|c| *c != '}');
        self.at += 1;
        if letter == Some('%') && digits.is_none() {
            self.literal('%');
            return Ok(None);
        }
        if let Some(field) = Field::named(digits, letter) {
            return Ok(Some(field));
        }
        let directive: String = ['%'].into_iter().chain(digits).chain(letter).collect();
        Err((start, Problem::Directive { directive, hint: hint(letter) }))
    }

    /// Settles each part's width by what follows it.
    fn with_widths(&mut self) -> Result<Vec<Atom>, Fault> {
        let mut atoms = std::mem::take(&mut self.atoms);
        let followers: Vec<Follower> = (1..=atoms.len()).map(|next| follower(atoms.get(next))).collect();
        for (atom, follower) in atoms.iter_mut().zip(followers) {
            if let Atom::Field { field, width } = atom {
                if *field == Field::Fraction(None) && follower == Follower::Digit {
                    return Err((self.open_fraction.unwrap_or_default(), Problem::OpenFraction));
                }
                *width = field.width(follower);
            }
        }
        Ok(atoms)
    }
}

fn follower(next: Option<&Atom>) -> Follower {
    match next {
        Some(Atom::Literal(literal)) if literal.starts_with(|c: char| c.is_ascii_digit()) => Follower::Digit,
        None | Some(Atom::Literal(_)) => Follower::Closed,
        Some(
            Atom::Capture(_) | Atom::Wildcard { .. } | Atom::Field { field: Field::MonthName | Field::Offset, .. },
        ) => Follower::Unknown,
        Some(Atom::Field { .. }) => Follower::Digit,
    }
}

/// What people mean by directives we do not know.
fn hint(letter: Option<char>) -> &'static str {
    match letter {
        Some('F') => "; for %F write %Y-%m-%d",
        Some('T') => "; for %T write %H:%M:%S",
        Some('-' | 'e' | 'k') => "; parts without leading zeros need no sign of their own, write %d or %H",
        Some('B') => "; only the short month name %b",
        Some('L') => "; for milliseconds write %3f",
        Some('Z') => "; zone names are ambiguous, set the feed's time zone instead",
        _ => "",
    }
}
