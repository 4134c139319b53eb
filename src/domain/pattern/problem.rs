//! Why a text is not a key pattern: where, what, and what to write instead.

/// A text that is not a key pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("pattern {pattern:?}, character {at}: {problem}")]
pub struct PatternError {
    /// The whole text.
    pub pattern: String,
    /// The character at fault, from 1.
    pub at: usize,
    /// What is wrong there.
    pub problem: Problem,
}

/// What can be wrong with a pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// `{` without its `}`.
    #[error("this brace is never closed; write {{{{ for a brace that is part of the key")]
    Unclosed,
    /// `}` without its `{`.
    #[error("this brace closes nothing; write }}}} for a brace that is part of the key")]
    Unopened,
    /// Not a capture's name.
    #[error("{0:?} is no name for a capture: write lower-case letters, digits and _, beginning with a letter")]
    CaptureName(String),
    /// Two captures of one name.
    #[error("the capture {{{0}}} stands here twice; give the second one another name")]
    CaptureTwice(String),
    /// A capture, then a capture or the time, with nothing between.
    #[error("nothing tells where the capture before this ends; put literal text such as / or - between")]
    NoLiteralBetween,
    /// Too many wildcards.
    #[error("more than {max} wildcards and captures")]
    TooManyWild {
        /// The limit.
        max: usize,
    },
    /// `***`.
    #[error("write * for a run without slashes or ** for any run")]
    Stars,
    /// A second time.
    #[error("the time may stand here only once; write a second one as a wildcard")]
    TimeTwice,
    /// `{time}`.
    #[error("the time needs a format, for example {{time:%Y-%m-%d-%H-%M-%S}}")]
    TimeWithoutFormat,
    /// `{time:}`.
    #[error("the time's format is empty; write for example {{time:%Y-%m-%d}}")]
    TimeEmpty,
    /// `{time:text}`.
    #[error("this format holds no time; write for example {{time:%Y-%m-%d}}")]
    TimeWithoutFields,
    /// A directive we do not know.
    #[error(
        "{directive} is not known here: use %Y %m %d %H %M %S %y %j %b %f %3f %6f %9f %s %z, and %% for a percent sign{hint}"
    )]
    Directive {
        /// As it was written.
        directive: String,
        /// What to write instead, where that is clear.
        hint: &'static str,
    },
    /// A part without the coarser part it belongs to.
    #[error("{part} says nothing without {needs}; add it to the format")]
    Needs {
        /// The part.
        part: &'static str,
        /// The coarser part that is missing.
        needs: &'static str,
    },
    /// `%s` among calendar parts.
    #[error("%s is the whole time already; write the other parts as captures or wildcards")]
    EpochAmongOthers,
    /// `%f` with digits directly after it.
    #[error("%f has no fixed width and digits follow it; write %3f, %6f or %9f")]
    OpenFraction,
}
