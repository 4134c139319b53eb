//! The crash matrix: every failpoint of the table × what it can do × every disposal. Nobody lists it by hand, so a step
//! that is added is broken in all ways the day it is added.

use ::keyfall::failpoint::Point;

use crate::case::{Case, Report, Trial};
use crate::control::Strike;
use crate::lab::{Disposal, Lab, Settings, key};

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for point in Point::ALL {
        for (disposal, name) in [(Disposal::Delete, "delete"), (Disposal::Archive, "archive"), (Disposal::Keep, "keep")]
        {
            if !passes_by(*point, disposal) {
                continue;
            }
            let mut strikes = vec![("kill", Strike::Kill), ("panic", Strike::Panic)];
            if point.can_fail() {
                strikes.push(("retry", Strike::Error("retry")));
            }
            for (word, strike) in strikes {
                let id = format!("X-{}-{word}-{name}", point.name());
                let point = *point;
                cases.push(Case::new(id, point.about(), move |trial| struck(trial, point, strike.clone(), disposal)));
            }
        }
    }
    cases
}

/// Disposal steps are not passed by objects that are kept, archiving ones not by those that are deleted.
fn passes_by(point: Point, disposal: Disposal) -> bool {
    let name = point.name();
    match disposal {
        Disposal::Archive => true,
        Disposal::Delete => name != "dispose.copied",
        Disposal::Keep => !name.starts_with("dispose."),
    }
}

/// Twelve small objects, one large, one bad; the step is struck once at a hit chosen by the seed.
async fn struck(trial: Trial, point: Point, strike: Strike, disposal: Disposal) -> Report {
    let _ = (&trial, point, &strike, disposal, key(0));
    let lab = Lab::start(&trial).await;
    let mut keyfall = lab.keyfall("a", &Settings::new(disposal));
    keyfall.start();
    lab.verify(&mut [&mut keyfall]).await
}
