//! A study, `study.toml`: runs that differ in one choice each, claims about them, figures.

use std::{collections::BTreeSet, path::Path};

use serde::{Deserialize, Serialize};
use toml::{Table, Value};

use crate::{Error, FORMAT, Manifest, PlannedRun, RunSpec, in_words};

/// The study's file in its folder, beside the manifest of its runs.
pub const STUDY: &str = "study.toml";

/// A study: what its runs have in common, how they differ, what is claimed of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Study {
    /// The version of this format.
    pub format: u32,
    /// Its name, and that of the manifest made of it.
    pub name: String,
    /// The report's title.
    pub title: String,
    /// What is asked, in a few sentences.
    pub about: String,
    /// Each variant is trained from each of them.
    pub seeds: Vec<u64>,
    /// A run's spec, but for its format, name and seed.
    pub base: Table,
    /// How runs differ; the first is what the others are measured against.
    pub variants: Vec<StudyVariant>,
    /// What is claimed, with its rules.
    #[serde(default)]
    pub claims: Vec<StudyClaim>,
    /// What is drawn.
    #[serde(default)]
    pub figures: Vec<StudyFigure>,
}

/// Runs of one kind, one a seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyVariant {
    /// The runs are called this, `-seed-` and their seed.
    pub name: String,
    /// In words, for the report.
    pub label: String,
    /// What differs from the base: keys of a spec; tables are joined, everything else is replaced.
    #[serde(default, skip_serializing_if = "Table::is_empty")]
    pub change: Table,
}

/// A number of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StudyMeasure {
    /// Training tokens at which the same-token score first comes to half of where the first variant
    /// ends, of the same seed; the run's tokens if it does not.
    TimeToHalf,
    /// Highest prefix matching of a head.
    PrefixMatching,
    /// Highest previous-token score of a head.
    PreviousToken,
    /// Heads that match prefixes: above 0.3.
    InductionHeads,
    /// Amount of in-context learning, in nats: the same-token score's negative.
    Icl,
    /// Held-out loss in nats.
    Loss,
    /// The same of tokens that an earlier copy foretells.
    CopiedLoss,
    /// The same of all others.
    OthersLoss,
}

impl StudyMeasure {
    /// All, in the order of the report.
    pub const ALL: [Self; 8] = [
        Self::TimeToHalf,
        Self::PrefixMatching,
        Self::PreviousToken,
        Self::InductionHeads,
        Self::Icl,
        Self::Loss,
        Self::CopiedLoss,
        Self::OthersLoss,
    ];

    /// For people.
    pub fn label(self) -> &'static str {
        match self {
            Self::TimeToHalf => "tokens to half",
            Self::PrefixMatching => "prefix matching",
            Self::PreviousToken => "previous token",
            Self::InductionHeads => "prefix-matching heads",
            Self::Icl => "ICL (nats)",
            Self::Loss => "loss (nats)",
            Self::CopiedLoss => "loss of copied tokens (nats)",
            Self::OthersLoss => "loss of other tokens (nats)",
        }
    }

    /// Whether it is a number of every snapshot, and not of the whole run.
    pub fn is_a_curve(self) -> bool {
        self != Self::TimeToHalf
    }
}

/// A claim about a variant, with its rule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyClaim {
    /// Short, as in "V1".
    pub id: String,
    /// In a few words.
    pub title: String,
    /// What others found or what is expected, and where that is from.
    pub expected: String,
    /// The number that decides.
    pub measure: StudyMeasure,
    /// The variant.
    pub of: String,
    /// The variant that it is compared with, seed by seed; the number itself decides without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub against: Option<String>,
    /// How it is compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Compared>,
    /// When the claim is reproduced: of the mean over seeds, of ratios the geometric one.
    pub holds: Limit,
    /// When it is partly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weakly: Option<Limit>,
}

/// How two variants are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Compared {
    /// The one over the other.
    Ratio,
    /// The one as a share of the other, which is above 0, where the one may be 0 or less; seeds have
    /// an arithmetic mean.
    Share,
    /// The one less the other.
    Difference,
}

/// What a number must be.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Limit {
    /// Larger.
    Above(f64),
    /// As large, or larger.
    AtLeast(f64),
    /// Smaller.
    Below(f64),
    /// As small, or smaller.
    AtMost(f64),
}

impl Limit {
    /// Whether a number is so.
    pub fn contains(self, value: f64) -> bool {
        match self {
            Self::Above(limit) => value > limit,
            Self::AtLeast(limit) => value >= limit,
            Self::Below(limit) => value < limit,
            Self::AtMost(limit) => value <= limit,
        }
    }

    /// The number itself.
    pub fn number(self) -> f64 {
        match self {
            Self::Above(limit)
            | Self::AtLeast(limit)
            | Self::Below(limit)
            | Self::AtMost(limit) => limit,
        }
    }

    /// Whether all numbers within the other limit are within this one.
    fn contains_all(self, other: Self) -> bool {
        match (self, other) {
            (Self::Above(a), Self::Above(b))
            | (Self::AtLeast(a), Self::AtLeast(b) | Self::Above(b)) => b >= a,
            (Self::Above(a), Self::AtLeast(b)) => b > a,
            (Self::Below(a), Self::Below(b))
            | (Self::AtMost(a), Self::AtMost(b) | Self::Below(b)) => b <= a,
            (Self::Below(a), Self::AtMost(b)) => b < a,
            _ => false,
        }
    }

    /// "above 0.3"
    pub fn in_words(self) -> String {
        match self {
            Self::Above(limit) => format!("above {limit}"),
            Self::AtLeast(limit) => format!("at least {limit}"),
            Self::Below(limit) => format!("below {limit}"),
            Self::AtMost(limit) => format!("at most {limit}"),
        }
    }
}

/// Curves over training, one a variant.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyFigure {
    /// Above it.
    pub title: String,
    /// A panel each.
    pub measures: Vec<StudyMeasure>,
    /// Whose curves; all if it is not given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub variants: Vec<String>,
}

impl Study {
    /// Reads and checks a study.
    ///
    /// # Errors
    /// A file that is no study, with its place; what does not go together: see
    /// [`parse`](Self::parse).
    pub fn read(path: &Path) -> Result<Self, Error> {
        Self::parse(path, &std::fs::read_to_string(path).map_err(Error::io(path))?)
    }

    /// Parses and checks a study; `path` is for the messages.
    ///
    /// # Errors
    /// Text that is not TOML, an unknown or missing key, a variant whose spec is refused, two of one
    /// name, a claim or a figure that names a variant that is not there or a comparison that lacks
    /// its other side.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let refused = |reason: String| Error::Study { path: path.to_path_buf(), reason };
        let study: Self = toml::from_str(text).map_err(|error| refused(in_words(&error)))?;
        study.check().map_err(refused)?;
        Ok(study)
    }

    /// The study as TOML.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a study holds only tables, numbers and strings")
    }

    fn check(&self) -> Result<(), String> {
        if self.format != FORMAT {
            return Err(format!("format = {}: this version reads {FORMAT}", self.format));
        }
        if self.seeds.is_empty() || self.variants.is_empty() {
            let what = if self.seeds.is_empty() { "seeds" } else { "variants" };
            return Err(format!("`{what}` is empty, expected at least one"));
        }
        let named = self.variants.iter().map(|variant| ("variant", &variant.name));
        let named = named.chain(self.claims.iter().map(|claim| ("claim", &claim.id)));
        if let Some((what, _)) =
            named.chain([("study", &self.name)]).find(|(_, name)| name.is_empty())
        {
            return Err(format!("a {what} has an empty name"));
        }
        if self.seeds.iter().collect::<BTreeSet<_>>().len() < self.seeds.len() {
            return Err("`seeds` names one twice".to_string());
        }
        let known = || {
            let names: Vec<&str> =
                self.variants.iter().map(|variant| variant.name.as_str()).collect();
            names.join(", ")
        };
        let there = |who: &str, name: &str| match self.variant(name) {
            Some(_) => Ok(()),
            None => Err(format!(
                "{who} names the variant {name:?}, which is not there; there are: {}",
                known()
            )),
        };
        let mut ids = BTreeSet::new();
        for claim in &self.claims {
            let who = format!("claim {:?}", claim.id);
            if !ids.insert(&claim.id) {
                return Err(format!("{who} is there twice"));
            }
            there(&who, &claim.of)?;
            if let Some(against) = &claim.against {
                there(&who, against)?;
                if *against == claim.of {
                    return Err(format!("{who} compares {against:?} with itself"));
                }
            }
            match (&claim.against, claim.by) {
                (Some(_), None) => {
                    return Err(format!(
                        "{who} has `against`, and no `by`: ratio, share or difference"
                    ));
                }
                (None, Some(_)) => {
                    return Err(format!("{who} has `by`, and no `against`: the other variant"));
                }
                _ => {}
            }
            let numbers = [Some(claim.holds), claim.weakly].into_iter().flatten();
            if let Some(limit) = numbers.map(Limit::number).find(|limit| !limit.is_finite()) {
                return Err(format!("{who}: the limit {limit} is no number"));
            }
            // A rule that nothing could fail or pass decides nothing.
            let limits = [Some(claim.holds), claim.weakly].into_iter().flatten();
            if let Some(limit) = limits
                .filter(|_| claim.by == Some(Compared::Ratio))
                .find(|limit| limit.number() <= 0.0)
            {
                return Err(format!("{who}: {}, and a ratio is above 0", limit.in_words()));
            }
            if let Some(weakly) = claim.weakly.filter(|weakly| !weakly.contains_all(claim.holds)) {
                return Err(format!(
                    "{who} holds {} and weakly {}, which is not the weaker of the two",
                    claim.holds.in_words(),
                    weakly.in_words()
                ));
            }
        }
        for figure in &self.figures {
            let who = format!("figure {:?}", figure.title);
            figure.variants.iter().try_for_each(|name| there(&who, name))?;
            if figure.measures.is_empty() {
                return Err(format!("{who} has no measures"));
            }
            if let Some(measure) = figure.measures.iter().find(|measure| !measure.is_a_curve()) {
                return Err(format!(
                    "{who}: {} is a number of the whole run, not a curve",
                    measure.label()
                ));
            }
        }
        let manifest = self.planned()?;
        manifest.check().map_err(|error| error.to_string())
    }

    /// The variant of a name.
    pub fn variant(&self, name: &str) -> Option<&StudyVariant> {
        self.variants.iter().find(|variant| variant.name == name)
    }

    /// The name of a variant's run.
    pub fn run_name(variant: &str, seed: u64) -> String {
        format!("{variant}-seed-{seed}")
    }

    /// Its runs: all variants of the first seed, then those of the next.
    ///
    /// # Errors
    /// None of a study that was parsed.
    pub fn manifest(&self) -> Result<Manifest, Error> {
        let refused = |reason| Error::Study { path: self.name.clone().into(), reason };
        self.planned().map_err(refused)
    }

    fn planned(&self) -> Result<Manifest, String> {
        let mut runs = Vec::new();
        for &seed in &self.seeds {
            for variant in &self.variants {
                let spec = self.spec(variant, seed)?;
                runs.push(PlannedRun::new(spec, &[&variant.label]));
            }
        }
        Ok(Manifest { format: FORMAT, name: self.name.clone(), rules: None, runs })
    }

    fn spec(&self, variant: &StudyVariant, seed: u64) -> Result<RunSpec, String> {
        let mut table = self.base.clone();
        join(&mut table, &variant.change);
        for key in ["format", "name", "seed"] {
            if table.contains_key(key) {
                return Err(format!(
                    "variant {:?}: `{key}` is the study's own to say",
                    variant.name
                ));
            }
        }
        table.insert("format".into(), Value::Integer(i64::from(FORMAT)));
        table.insert("name".into(), Value::String(Self::run_name(&variant.name, seed)));
        let seed =
            i64::try_from(seed).map_err(|_| format!("seed {seed} is beyond {}", i64::MAX))?;
        table.insert("seed".into(), Value::Integer(seed));
        // Not by text, whose lines nobody has.
        let spec: Result<RunSpec, _> = Value::Table(table.clone()).try_into();
        let checked = spec.map_err(|error| in_words(&error)).and_then(|spec| {
            spec.validate().map_err(|error| error.to_string())?;
            all_used(&table, &spec)?;
            Ok(spec)
        });
        checked.map_err(|reason| format!("variant {}: {reason}", variant.name))
    }
}

/// Refuses what is written and would not be used.
fn all_used(written: &Table, spec: &RunSpec) -> Result<(), String> {
    let text = written.to_string();
    crate::spec::all_used(&text, &spec.to_toml()).map_err(|reason| match reason.split_once(": ") {
        Some((line, reason)) if line.starts_with("line ") => reason.to_string(),
        _ => reason,
    })
}

/// Tables are joined, key by key; everything else is replaced, and so is a table that says what kind
/// of thing it is, or which source: what goes with one does not go with another.
fn join(table: &mut Table, change: &Table) {
    for (key, value) in change {
        match (table.get_mut(key), value) {
            (Some(Value::Table(below)), Value::Table(change))
                if !["kind", "source"].iter().any(|tag| change.contains_key(*tag)) =>
            {
                join(below, change);
            }
            _ => drop(table.insert(key.clone(), value.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use induction_tokenizer::{Synthetic, synthetic::Markov};

    use super::*;
    use crate::DataSpec;

    const TEXT: &str = r#"
format = 1
name = "small"
title = "A small study"
about = "Whether it works."
seeds = [1, 2]

[base]
data = { source = "repeats", min_period = 2, max_period = 4 }
model = { n_layers = 2, d_model = 8, n_heads = 2, d_head = 4, n_ctx = 12, d_vocab = 9 }
train = { tokens = 480, batch = 2, lr = 0.01 }
snapshots = { every = 8 }
evaluation = { examples = 4, icl_early = 2, icl_late = 11, icl_half_width = 1, prefix_block = 2 }

[[variants]]
name = "free"
label = "free"

[[variants]]
name = "given"
label = "the match given"
change = { model = { clamp = { kind = "match", layer = 1, head = 0 } }, train = { lr = 0.02 } }

[[claims]]
id = "V1"
title = "earlier"
expected = "so"
measure = "time-to-half"
of = "given"
against = "free"
by = "ratio"
holds = { below = 0.8 }
weakly = { below = 1.0 }

[[figures]]
title = "Curves"
measures = ["icl", "loss"]
variants = ["free"]
"#;

    #[test]
    fn its_runs_are_the_base_with_changes() {
        let study = Study::parse(Path::new("s.toml"), TEXT).unwrap();
        assert_eq!(Study::parse(Path::new("s.toml"), &study.to_toml()).unwrap(), study);
        let runs = study.manifest().unwrap().runs;
        let names: Vec<&str> = runs.iter().map(|run| run.spec.name.as_str()).collect();
        assert_eq!(names, ["free-seed-1", "given-seed-1", "free-seed-2", "given-seed-2"]);
        let (free, given) = (&runs[0].spec, &runs[1].spec);
        assert!(free.model.clamp.is_empty() && given.model.clamp.len() == 1);
        assert_eq!((free.train.lr, given.train.lr, given.train.batch), (0.01, 0.02, 2));
        assert_eq!(given.model.d_vocab, 9, "a joined table keeps its other keys");
        // One that names its kind takes nothing over.
        let change = "data = { source = \"markov\" }, model";
        let text = TEXT.replace("change = { model", &format!("change = {{ {change}"));
        let study = Study::parse(Path::new("s.toml"), &text).unwrap();
        let runs = study.manifest().unwrap().runs;
        assert_eq!(
            runs[1].spec.data,
            DataSpec::Synthetic(Synthetic::Markov(Markov { states: None, concentration: 1.0 }))
        );
    }

    #[test]
    fn what_does_not_go_together_is_refused_in_a_sentence() {
        for (from, to, said) in [
            (
                "of = \"given\"",
                "of = \"gift\"",
                "claim \"V1\" names the variant \"gift\", which is not there; there are: free, given",
            ),
            ("against = \"free\"\n", "", "no `against`"),
            ("by = \"ratio\"\n", "", "no `by`"),
            ("against = \"free\"", "against = \"given\"", "with itself"),
            (
                "variants = [\"free\"]",
                "variants = [\"other\"]",
                "figure \"Curves\" names the variant \"other\"",
            ),
            ("\"icl\", \"loss\"", "\"time-to-half\"", "not a curve"),
            ("[\"icl\", \"loss\"]", "[]", "no measures"),
            ("seeds = [1, 2]", "seeds = []", "`seeds` is empty"),
            ("seeds = [1, 2]", "seeds = [1, 1]", "names one twice"),
            ("layer = 1, head = 0", "layer = 2, head = 0", "variant given: model.clamp.layer = 2"),
            ("name = \"given\"", "name = \"free\"", "is not there"),
            ("measure = \"time-to-half\"", "measure = \"time\"", "unknown value `time`"),
            ("lr = 0.02", "lr = 0.01, nonsense = 1", "unknown field `nonsense`"),
            ("below = 0.8", "under = 0.8", "unknown value `under`"),
            ("lr = 0.02", "lr = \"fast\"", "variant given: invalid type: string \"fast\""),
            ("id = \"V1\"", "id = \"\"", "a claim has an empty name"),
            ("change = { model", "change = { seed = 3, model", "`seed` is the study's own to say"),
        ] {
            assert!(TEXT.contains(from), "{from}");
            let message = Study::parse(Path::new("s.toml"), &TEXT.replacen(from, to, 1))
                .unwrap_err()
                .to_string();
            assert!(message.starts_with("s.toml: ") && message.contains(said), "{message}");
        }
    }
}
