//! Which head is which: roles from scores (paper.md, 11; 7.8; D10).

use serde::{Deserialize, Serialize};

use crate::{CopyingCeiling, Error, Result};

/// The scores that decide a head's role, each averaged over examples.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleScores {
    /// [`prefix_matching`](crate::prefix_matching), in `[0, 1]`.
    pub prefix_matching: f64,
    /// The paper's copying score, `4r - 1` in `[-1, 1]`: [`Copying::score`](crate::Copying::score).
    pub copying: f64,
    /// [`previous_token`](crate::previous_token), in `[0, 1]`.
    pub previous_token: f64,
}

/// Where the roles begin. The paper states no threshold (paper.md, 0: D10); these are to be printed
/// with every result.
///
/// Copying goes by the paper's score, `4r - 1` of what a head raises on random tokens. Its 0 is no
/// chance level: it asks that a head's attended token get a third of all that the head raises in
/// the sample (`a > S/3`), while a head that raises all 25 tokens alike has -0.85. A head of few
/// dimensions cannot get so far whatever it does; where the ceiling of its rank is known,
/// [`for_ceiling`](Self::for_ceiling) sets the limits by it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RoleThresholds {
    /// A head matches prefixes above this prefix-matching score (default 0.3).
    pub prefix_matching: f64,
    /// A head copies above this copying score (default 0).
    pub copying: f64,
    /// A head does the opposite of copying below this copying score (default 0).
    pub anti_copying: f64,
    /// A head attends to the previous token above this previous-token score (default 0.3).
    pub previous_token: f64,
}

impl Default for RoleThresholds {
    fn default() -> Self {
        Self { prefix_matching: 0.3, copying: 0.0, anti_copying: 0.0, previous_token: 0.3 }
    }
}

impl RoleThresholds {
    /// Copying from half-way between chance and what a head of that rank can be expected to reach,
    /// its opposite below chance.
    pub fn for_ceiling(ceiling: &CopyingCeiling) -> Self {
        let CopyingCeiling { ceiling, chance } = *ceiling;
        Self {
            copying: f64::midpoint(chance, ceiling.max(chance)),
            anti_copying: chance,
            ..Self::default()
        }
    }

    /// Checks that each threshold lies in the range of its score.
    ///
    /// # Errors
    /// If one does not.
    pub fn validate(&self) -> Result<()> {
        for (name, value, lowest, expected) in [
            ("prefix_matching", self.prefix_matching, 0.0, "a score in [0, 1]"),
            ("copying", self.copying, -1.0, "a score in [-1, 1]"),
            ("anti_copying", self.anti_copying, -1.0, "a score in [-1, 1]"),
            ("previous_token", self.previous_token, 0.0, "a score in [0, 1]"),
        ] {
            if !(lowest..=1.0).contains(&value) {
                return Err(Error::Setting { name, expected, found: value.to_string() });
            }
        }
        Ok(())
    }
}

/// What a head does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Matches prefixes and copies (paper.md, 11).
    Induction,
    /// Matches prefixes with negative copying: it raises other tokens than the one it attends to
    /// (paper.md, 7.8).
    AntiCopyingPrefix,
    /// Matches prefixes, and neither copies nor does the opposite.
    PrefixMatching,
    /// Attends to the previous token.
    PreviousToken,
    /// Copies, but does not match prefixes.
    Copying,
    /// None of these.
    Other,
}

/// The role of a head: the first of induction, anti-copying prefix, prefix-matching, previous-token
/// and copying head whose thresholds it passes, each strictly.
///
/// A score that is no number passes none.
pub fn role(scores: &RoleScores, thresholds: &RoleThresholds) -> Role {
    let matches = scores.prefix_matching > thresholds.prefix_matching;
    let copies = scores.copying > thresholds.copying;
    let anti_copies = scores.copying < thresholds.anti_copying;
    if matches && copies {
        Role::Induction
    } else if matches && anti_copies {
        Role::AntiCopyingPrefix
    } else if matches {
        Role::PrefixMatching
    } else if scores.previous_token > thresholds.previous_token {
        Role::PreviousToken
    } else if copies {
        Role::Copying
    } else {
        Role::Other
    }
}
