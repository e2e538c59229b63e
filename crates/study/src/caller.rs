//! Who a stage works for: hears how far it is, and may stop it.

use std::{fmt, path::Path};

use induction_records::Stage;
use serde::{Deserialize, Serialize};

use crate::{Error, Signal};

/// Whoever runs stages.
pub trait Caller: Sync {
    /// A stage of `total` steps begins on the run of that name, in a folder.
    fn begin(&self, name: &str, run: &Path, stage: Stage, total: u64) -> Box<dyn Progress>;

    /// Something to be known, for instance why it takes longer.
    fn note(&self, message: &str);

    /// The signal that asks to stop, once one came.
    fn signal(&self) -> Option<Signal>;
}

/// The progress of one stage of one run.
pub trait Progress {
    /// Step `at` is done. `seen` says what was seen of the model; it is only asked if it will be
    /// shown.
    fn at(&mut self, at: u64, seen: &dyn Fn() -> Seen);

    /// The stage ended well.
    fn finish(&mut self);
}

/// An error once a signal came.
pub(crate) fn check(caller: &dyn Caller) -> Result<(), Error> {
    caller.signal().map_or(Ok(()), |signal| Err(Error::Interrupted(signal)))
}

/// Nobody: shows nothing, and lets every stage run to its end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nobody;

impl Caller for Nobody {
    fn begin(&self, _: &str, _: &Path, _: Stage, _: u64) -> Box<dyn Progress> {
        Box::new(Self)
    }

    fn note(&self, _: &str) {}

    fn signal(&self) -> Option<Signal> {
        None
    }
}

impl Progress for Nobody {
    fn at(&mut self, _: u64, _: &dyn Fn() -> Seen) {}

    fn finish(&mut self) {}
}

/// What was seen of a model last, by a stage of its run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Seen {
    /// Loss in nats a token: of the last training batch, or held out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Training speed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens_per_s: Option<f64>,
    /// ICL score in nats; during training from a few examples, so within about 0.2.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icl_score: Option<f64>,
    /// Highest prefix-matching score of a head.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefix_matching: Option<f64>,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<String> = [
            self.loss.map(|x| format!("loss {x:.3}")),
            self.icl_score.map(|x| format!("ICL {x:+.2}")),
            self.prefix_matching.map(|x| format!("best prefix matching {x:.2}")),
            self.tokens_per_s.map(|x| format!("{x:.0} tokens/s")),
        ]
        .into_iter()
        .flatten()
        .collect();
        f.write_str(&parts.join("  "))
    }
}
