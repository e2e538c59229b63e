//! What one run depends on: `spec.toml`.

mod data;
mod evaluation;
mod range;
mod train;
mod written;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use induction_model::{ModelConfig, Positions};
use serde::{Deserialize, Serialize};

use crate::Error;

pub(crate) use self::written::all_used;
pub use self::written::in_words;
pub use self::{
    data::{Control, DataSpec, Text},
    evaluation::EvaluationSpec,
    train::{Decay, LossSpec, OptimizerKind, TimedClamp, TrainSpec, Without},
};
use self::{
    range::{fail, whole},
    written::flat,
};

/// The version of the spec and of the run folder; another one is refused.
pub const FORMAT: u32 = 1;

/// Everything that one run depends on. Its resolved form lies beside every result.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// [`FORMAT`].
    pub format: u32,
    /// The run's name; also its folder's in a reproduction.
    pub name: String,
    /// Seed of the initial weights and of the order of the training examples.
    pub seed: u64,
    /// What is learned.
    pub data: DataSpec,
    /// Who learns.
    pub model: ModelConfig,
    /// How.
    pub train: TrainSpec,
    /// When the state is kept.
    pub snapshots: SnapshotSpec,
    /// What is measured at each snapshot. No part of a trained model's identity.
    pub evaluation: EvaluationSpec,
}

/// Which steps are kept: 0 and the powers of two below `every`, its multiples, and the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SnapshotSpec {
    /// Distance of the later snapshots, in steps.
    pub every: u64,
}

impl RunSpec {
    /// Parses and checks a spec; `path` is for the messages.
    ///
    /// # Errors
    /// Text that is not TOML, an unknown or missing key, a value outside its range: each with its
    /// place.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Error> {
        let refused = |reason: String| Error::Spec { path: path.to_path_buf(), reason };
        let spec: Self = toml::from_str(text).map_err(|e| refused(in_words(&e)))?;
        spec.validate().map_err(|e| refused(e.to_string()))?;
        all_used(text, &spec.to_toml()).map_err(refused)?;
        Ok(spec)
    }

    /// Reads a spec from a file.
    ///
    /// # Errors
    /// As [`parse`](Self::parse), or a file that cannot be read.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path))?;
        Self::parse(path, &text)
    }

    /// The spec as TOML, every value written out.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("a spec holds only tables, numbers and strings")
    }

    /// Checks every field.
    ///
    /// # Errors
    /// [`Error::Field`] or the model's, naming the first field outside its range.
    pub fn validate(&self) -> Result<(), Error> {
        if self.format != FORMAT {
            let expected = "1, the only format this version reads";
            return fail("format", &self.format, expected);
        }
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if self.name.is_empty()
            || self.name.len() > 100
            || self.name.starts_with('.')
            || !self.name.chars().all(plain)
        {
            let expected = "1 to 100 letters, digits, '-', '_' or '.', not beginning with '.'";
            return fail("name", &format!("{:?}", self.name), expected);
        }
        self.model.validate_to_train()?;
        if !self.model.d_model.is_multiple_of(self.model.n_heads) {
            let expected = format!("a multiple of n_heads ({})", self.model.n_heads);
            return fail("model.d_model", &self.model.d_model, &expected);
        }
        self.data.validate(&self.model)?;
        self.train.validate()?;
        self.check_positional_rate()?;
        self.check_clamps()?;
        whole("snapshots.every", self.snapshots.every, 1, 1 << 40)?;
        self.evaluation.validate(self.model.n_ctx as u64)
    }

    /// Refuses a rate of positional gains where there are none.
    fn check_positional_rate(&self) -> Result<(), Error> {
        let TrainSpec { pos_gain_lr_scale: found, .. } = self.train;
        let default = TrainSpec::new(1, 1, 1.0).pos_gain_lr_scale;
        if self.model.architecture.positions != Positions::Sinusoidal && found != default {
            let expected = "nothing, since it is of sinusoidal positions alone";
            return fail("train.pos_gain_lr_scale", &found, expected);
        }
        Ok(())
    }

    /// Refuses clamps of a part of the training that never hold, or that contradict others of their
    /// time.
    fn check_clamps(&self) -> Result<(), Error> {
        let steps = self.steps();
        for clamp in &self.train.clamps {
            let end = clamp.until.unwrap_or(steps);
            if clamp.from >= end.min(steps) {
                let found = format!("a clamp from {} until {end}", clamp.from);
                let expected = format!(
                    "from below until, and below the run's {steps} steps: this one never holds"
                );
                return fail("train.clamps", &found, &expected);
            }
            // What holds together changes where one begins.
            let found = |what: &str| format!("after {} steps {what}", clamp.from);
            self.model_at(clamp.from).validate().or_else(|error| match error {
                induction_model::Error::Config { field: "clamp", found: two, expected } => {
                    fail("train.clamps", &found(&two), &expected)
                }
                error => Err(error.into()),
            })?;
        }
        Ok(())
    }

    /// The model once so many steps are taken: with the clamps of that time.
    pub fn model_at(&self, step: u64) -> ModelConfig {
        let mut model = self.model.clone();
        let now = self.train.clamps.iter().filter(|timed| timed.holds_after(step));
        model.clamp = model.clamp.iter().copied().chain(now.map(|timed| timed.clamp)).collect();
        model
    }

    /// Optimizer steps in the run.
    pub fn steps(&self) -> u64 {
        self.train.tokens.div_ceil(self.tokens_per_step())
    }

    /// Tokens that one step learns from.
    pub fn tokens_per_step(&self) -> u64 {
        (self.train.batch * self.model.n_ctx) as u64
    }

    /// Learning rate of a step (from 1): linear to `lr` over the warm-up, then constant, then down
    /// to almost nothing at the last step (a rate of 0 would waste it).
    pub fn lr(&self, step: u64) -> f64 {
        let (warmup, left) = (self.train.warmup_steps, self.steps() - step.min(self.steps()) + 1);
        let rise = if step < warmup { step as f64 / warmup as f64 } else { 1.0 };
        let decay = self.decay_steps();
        let fall = if left <= decay { left as f64 / (decay + 1) as f64 } else { 1.0 };
        let fall = match self.train.decay {
            Decay::Linear => fall,
            Decay::Cosine => (1.0 - (std::f64::consts::PI * fall).cos()) / 2.0,
        };
        self.train.lr * rise.min(fall)
    }

    /// Steps at the end over which the learning rate falls.
    pub fn decay_steps(&self) -> u64 {
        let steps = self.steps();
        if self.train.decay_share == 1.0 {
            return steps.saturating_sub(self.train.warmup_steps);
        }
        (self.train.decay_share * steps as f64).floor() as u64
    }

    /// Whether the state after `step` steps is kept for measuring.
    pub fn keeps(&self, step: u64) -> bool {
        let every = self.snapshots.every;
        step.is_multiple_of(every)
            || step == self.steps()
            || (step < every && step.is_power_of_two())
    }

    /// All kept steps, ascending.
    pub fn snapshot_steps(&self) -> Vec<u64> {
        (0..=self.steps()).filter(|&step| self.keeps(step)).collect()
    }

    /// The kept steps at which heads are removed, ascending; none if that is never done.
    pub fn ablation_steps(&self) -> Vec<u64> {
        match self.evaluation.ablation_every {
            0 => Vec::new(),
            every => self.every_nth(every),
        }
    }

    /// The kept steps whose weights stay after measuring, ascending.
    pub fn weight_steps(&self) -> Vec<u64> {
        self.every_nth(self.evaluation.weights_every)
    }

    /// Every n-th kept step, counted back from the last.
    fn every_nth(&self, n: usize) -> Vec<u64> {
        let mut steps: Vec<u64> = self.snapshot_steps().into_iter().rev().step_by(n).collect();
        steps.reverse();
        steps
    }

    /// A hash of all that a trained model's weights depend on: not the run's name, nor where the
    /// corpus lies, nor what is measured later.
    pub fn training_hash(&self) -> String {
        let mut spec = self.clone();
        spec.name = "x".into();
        if let DataSpec::Corpus { text, .. } = &mut spec.data {
            *text = PathBuf::new().into();
        }
        let value = serde_json::json!([
            spec.format,
            spec.seed,
            spec.data,
            spec.model,
            spec.train,
            spec.snapshots
        ]);
        blake3::hash(value.to_string().as_bytes()).to_hex()[..32].to_string()
    }

    /// The first key in which two specs' training differs, in words; for messages.
    pub fn difference(&self, other: &Self) -> String {
        let keys = |spec: &Self| {
            let mut keys = BTreeMap::new();
            if let Ok(table) = toml::Table::try_from(spec) {
                flat("", &toml::Value::Table(table), &mut keys);
            }
            keys
        };
        let (ours, theirs) = (keys(self), keys(other));
        let is_said = |key: &&String| {
            *key != "name" && *key != "data.path" && !key.starts_with("evaluation.")
        };
        let all: BTreeSet<&String> = ours.keys().chain(theirs.keys()).filter(is_said).collect();
        let said = |of: &BTreeMap<String, String>, key: &String| match of.get(key) {
            Some(value) => format!("\"{key} = {value}\""),
            None => format!("no \"{key}\""),
        };
        all.into_iter().find(|&key| ours.get(key) != theirs.get(key)).map_or_else(
            || "more or fewer keys".into(),
            |key| format!("there {}, here {}", said(&theirs, key), said(&ours, key)),
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use induction_model::Clamp;

    use super::*;

    pub(crate) fn tiny() -> RunSpec {
        RunSpec {
            format: FORMAT,
            name: "tiny".into(),
            seed: 1,
            data: DataSpec::repeats(2, 4),
            model: ModelConfig {
                n_layers: 1,
                d_model: 8,
                n_heads: 2,
                d_head: 4,
                n_ctx: 12,
                d_vocab: 9,
                ..ModelConfig::default()
            },
            train: TrainSpec { warmup_steps: 5, ..TrainSpec::new(12 * 2 * 20, 2, 1e-2) },
            snapshots: SnapshotSpec { every: 8 },
            evaluation: EvaluationSpec {
                examples: 4,
                icl_early: 2,
                icl_late: 11,
                icl_half_width: 1,
                ablation_examples: 2,
                ablation_every: 1,
                weights_every: 1,
                head_examples: 2,
                prefix_block: 3,
                prefix_repeats: 3,
            },
        }
    }

    fn text(control: Option<Control>) -> DataSpec {
        DataSpec::Corpus { text: "a.txt".into(), held_out: 0.1, blake3: None, control }
    }

    #[test]
    fn round_trip() {
        let spec = tiny();
        assert_eq!(RunSpec::parse(Path::new("x"), &spec.to_toml()).unwrap(), spec);
        for control in [None, Some(Control::Shuffled), Some(Control::Fragments)] {
            let corpus = RunSpec { data: text(control), ..tiny() };
            assert_eq!(RunSpec::parse(Path::new("x"), &corpus.to_toml()).unwrap(), corpus);
        }
        for clamp in [Clamp::Match { layer: 0, head: 1 }, Clamp::ForbidInduction] {
            let clamped =
                RunSpec { model: ModelConfig { clamp: clamp.into(), ..tiny().model }, ..tiny() };
            assert_eq!(RunSpec::parse(Path::new("x"), &clamped.to_toml()).unwrap(), clamped);
        }
    }

    #[test]
    fn every_section_refuses_unknown_keys() {
        let text = tiny().to_toml();
        for section in ["", "[data]", "[model]", "[train]", "[snapshots]", "[evaluation]"] {
            let line = "surplus = 1\n";
            let damaged = if section.is_empty() {
                format!("{line}{text}")
            } else {
                text.replace(section, &format!("{section}\n{line}"))
            };
            let message = RunSpec::parse(Path::new("s.toml"), &damaged).unwrap_err().to_string();
            assert!(message.contains("surplus"), "{section}: {message}");
        }
    }

    #[test]
    fn every_field_is_checked() {
        type Break = fn(&mut RunSpec);
        let cases: [(&str, Break); 29] = [
            ("model.d_model", |s| s.model.n_heads = 3),
            ("train.pos_gain_lr_scale", |s| s.train.pos_gain_lr_scale = f64::NAN),
            ("format", |s| s.format = 2),
            ("name", |s| s.name = "../up".into()),
            ("name", |s| s.name = String::new()),
            ("model.n_layers", |s| s.model.n_layers = 0),
            ("data.max_period", |s| s.data = DataSpec::repeats(5, 4)),
            ("data.held_out", |s| {
                s.data = DataSpec::Corpus {
                    text: "x".into(),
                    held_out: 0.0,
                    blake3: None,
                    control: None,
                };
            }),
            ("train.tokens", |s| s.train.tokens = 0),
            ("train.batch", |s| s.train.batch = 0),
            ("train.lr", |s| s.train.lr = -1.0),
            ("train.lr", |s| s.train.lr = f64::NAN),
            ("train.decay_share", |s| s.train.decay_share = 1.1),
            ("train.decay", |s| s.train.decay = Decay::Cosine),
            ("train.momentum", |s| s.train.momentum = Some(0.9)),
            ("train.momentum", |s| {
                s.train.optimizer = OptimizerKind::Sgd;
                s.train.momentum = Some(1.0);
            }),
            ("train.beta1", |s| s.train.beta1 = 1.0),
            ("train.beta2", |s| s.train.beta2 = -0.1),
            ("train.eps", |s| s.train.eps = 0.0),
            ("train.weight_decay", |s| s.train.weight_decay = -0.1),
            ("train.clip_norm", |s| s.train.clip_norm = 0.0),
            ("snapshots.every", |s| s.snapshots.every = 0),
            ("evaluation.examples", |s| s.evaluation.examples = 1),
            ("evaluation.icl_early", |s| s.evaluation.icl_early = 1),
            ("evaluation.icl_late", |s| s.evaluation.icl_late = 12),
            ("evaluation.head_examples", |s| s.evaluation.head_examples = 0),
            ("evaluation.ablation_examples", |s| s.evaluation.ablation_examples = 0),
            ("evaluation.prefix_repeats", |s| s.evaluation.prefix_repeats = 1),
            ("evaluation.prefix_block", |s| s.evaluation.prefix_block = 4),
        ];
        for (field, damage) in cases {
            let mut spec = tiny();
            damage(&mut spec);
            let message = spec.validate().unwrap_err().to_string();
            assert!(message.starts_with(&format!("{field} = ")), "{field}: {message}");
        }
        tiny().validate().unwrap();
    }

    #[test]
    fn the_hash_covers_training_only() {
        let base = tiny().training_hash();
        let with = |change: fn(&mut RunSpec)| {
            let mut spec = tiny();
            change(&mut spec);
            spec.training_hash()
        };
        assert_eq!(base, with(|s| s.name = "other".into()));
        assert_eq!(base, with(|s| s.evaluation.examples = 7));
        for change in [
            (|s| s.seed = 2) as fn(&mut RunSpec),
            |s| s.model.d_vocab = 10,
            |s| s.train.lr = 0.02,
            |s| s.snapshots.every = 9,
        ] {
            assert_ne!(base, with(change));
        }
    }

    #[test]
    fn schedules() {
        let spec = tiny(); // 20 steps, warm-up 5, every 8
        assert_eq!(spec.snapshot_steps(), [0, 1, 2, 4, 8, 16, 20]);
        assert_eq!([1, 4, 5, 20].map(|s| spec.lr(s)), [0.002, 0.008, 0.01, 0.01]);
        assert_eq!(
            RunSpec { train: TrainSpec { warmup_steps: 0, ..spec.train.clone() }, ..spec.clone() }
                .lr(1),
            0.01
        );
        // A fifth of 20 steps: from the 17th on, in fifths of the rate, the last not 0.
        let decayed =
            RunSpec { train: TrainSpec { decay_share: 0.2, ..spec.train.clone() }, ..spec.clone() };
        let rates = |spec: &RunSpec, steps: [u64; 6]| steps.map(|s| (spec.lr(s) * 1e6).round());
        assert_eq!(
            rates(&decayed, [1, 16, 17, 18, 19, 20]),
            [2000.0, 10_000.0, 8000.0, 6000.0, 4000.0, 2000.0]
        );
        // From the end of the warm-up on, in sixteenths of the rate.
        let whole = |decay| {
            let train = TrainSpec { decay_share: 1.0, decay, ..spec.train.clone() };
            RunSpec { train, ..spec.clone() }
        };
        assert_eq!(
            rates(&whole(Decay::Linear), [1, 5, 6, 12, 13, 20]),
            [2000.0, 10_000.0, 9375.0, 5625.0, 5000.0, 625.0]
        );
        // Half-way down at half the steps, as a line; slower at both ends.
        assert_eq!(
            rates(&whole(Decay::Cosine), [1, 5, 6, 12, 13, 20]),
            [2000.0, 10_000.0, 9904.0, 5975.0, 5000.0, 96.0]
        );
    }

    #[test]
    fn clamps_come_and_go() {
        let text = tiny().to_toml()
            + "\n[[train.clamps]]\nclamp = { kind = \"match\", layer = 0, head = 1 }\nfrom = 3\nuntil = 8\n"
            + "[[train.clamps]]\nclamp = { kind = \"forbid-induction\" }\nfrom = 7\n";
        let spec = RunSpec::parse(Path::new("x"), &text).unwrap();
        assert_eq!(RunSpec::parse(Path::new("x"), &spec.to_toml()).unwrap(), spec);
        assert_ne!(spec.training_hash(), tiny().training_hash());
        let at = |step| spec.model_at(step).clamp.to_vec();
        let both = [Clamp::Match { layer: 0, head: 1 }, Clamp::ForbidInduction];
        assert_eq!(
            [at(2), at(3), at(7), at(8), at(20)],
            [vec![], both[..1].to_vec(), both.to_vec(), both[1..].to_vec(), both[1..].to_vec()]
        );
        for (from, to, said) in [
            ("from = 3", "from = 8", "from 8 until 8"),
            ("from = 7", "from = 20", "never holds"),
            ("head = 1", "head = 2", "model.clamp.head = 2"),
            ("\"forbid-induction\"", "\"off\", layer = 0", "missing field `head`"),
            ("until = 8", "til = 8", "unknown field `til`"),
        ] {
            let text = text.replace(from, to);
            let message = RunSpec::parse(Path::new("x"), &text).unwrap_err().to_string();
            assert!(message.contains(said), "{message}");
        }
    }

    #[test]
    fn types_are_told_in_words() {
        let text = tiny().to_toml();
        let with = |at: &str, line: &str| text.replacen(at, &format!("{at}\n{line}"), 1);
        for (text, said) in [
            (with("[train]", "loss = \"induction\""), "string \"induction\", expected a table"),
            (with("[train]", "loss = 3"), "integer `3`, expected a table"),
            (with("[train]", "clamps = { from = 1 }"), "expected a list"),
            (with("[model]", "clamp = 3"), "expected"),
            (with("[model]", "architecture = 3"), "expected a table"),
            (with("[model]", "architecture = { positions = \"rotary\" }"), "expected a table"),
            (with("[train]", "optimizer = \"adam\""), "unknown value `adam`, expected one of"),
            (text.replacen("every = ", "every = -", 1), "expected a whole number from 0"),
            (
                with("[model]", "architecture = [{ kind = \"rotary\", dim = 4 }, 0]"),
                "a list, where a table is meant",
            ),
            (with("[train]", "loss = [\"induction\"]"), "a list, where a table is meant"),
            (
                with("[model]", "architecture = { positions = [\"rotary\", 4] }"),
                "`model.architecture.positions`: a list",
            ),
            (
                with(
                    "[model]",
                    "architecture = { positions = { kind = \"sinusoidal\", dim = 8 } }",
                ),
                "unknown field `dim`",
            ),
            (with("[model]", "architecture = { positions = { kind = 3 } }"), "expected a text"),
            (
                text.replacen("normalization = \"LN\"", "normalization = false", 1),
                "expected a text",
            ),
        ] {
            let message = RunSpec::parse(Path::new("x"), &text).unwrap_err().to_string();
            assert!(message.contains(said), "{said}: {message}");
            for word in ["struct", "enum", "variant", "usize", "u64", "f64", "sequence", "map"] {
                assert!(!message.contains(word), "{word}: {message}");
            }
        }
    }

    #[test]
    fn a_control_is_another_text() {
        let of = |control| RunSpec { data: text(control), ..tiny() };
        let [plain, shuffled, fragments] =
            [None, Some(Control::Shuffled), Some(Control::Fragments)].map(of);
        assert!(shuffled.to_toml().contains("control = \"shuffled\""));
        assert!(fragments.to_toml().contains("control = \"fragments\""));
        assert_ne!(shuffled.training_hash(), fragments.training_hash());
        // A run of the text itself is written, and known by its hash, as before there were
        // controls.
        assert!(!plain.to_toml().contains("control"));
        let written = serde_json::to_string(&plain.data).unwrap();
        assert_eq!(written, r#"{"source":"corpus","path":"a.txt","held_out":0.1}"#);
        assert_ne!(plain.training_hash(), shuffled.training_hash());
    }

    /// Also where the reader of a type would stop before the end of a list.
    #[test]
    fn what_is_written_is_used_or_refused_with_its_line() {
        let text = tiny().to_toml();
        let longer = text.replace("pos_gain_init = [1.0, 0.1]", "pos_gain_init = [1.0, 0.1, 0.1]");
        assert_ne!(longer, text);
        let message = RunSpec::parse(Path::new("s.toml"), &longer).unwrap_err().to_string();
        let line = text.lines().position(|line| line.starts_with("pos_gain_init")).unwrap() + 1;
        assert!(
            message.contains(&format!("line {line}: `model.pos_gain_init`: 3 entries, of which 2")),
            "{message}"
        );
    }

    #[test]
    fn a_control_needs_a_text_and_a_known_name() {
        let refused = |spec: &RunSpec, line: &str| {
            let text = spec.to_toml().replace("[data]", &format!("[data]\n{line}"));
            RunSpec::parse(Path::new("s.toml"), &text).unwrap_err().to_string()
        };
        let message = refused(&tiny(), "control = \"shuffled\"");
        assert!(message.contains("unknown field `control` of the source repeats"), "{message}");
        let message = refused(&RunSpec { data: text(None), ..tiny() }, "control = \"reversed\"");
        assert!(
            message.contains("`reversed`") && message.contains("`shuffled` or `fragments`"),
            "{message}"
        );
    }

    #[test]
    fn synthetic_sources_are_written_as_they_are_read() {
        let hash = |data: &str| {
            let text = tiny().to_toml();
            let end = text.find("[model]").unwrap();
            let start = text.find("[data]").unwrap();
            let text = format!("{}[data]\n{data}\n\n{}", &text[..start], &text[end..]);
            let spec = RunSpec::parse(Path::new("s.toml"), &text).unwrap();
            assert!(spec.to_toml().contains(&format!("[data]\n{data}\n")), "{}", spec.to_toml());
            assert_eq!(RunSpec::parse(Path::new("s.toml"), &spec.to_toml()).unwrap(), spec);
            spec.training_hash()
        };
        let hashes = [
            hash("source = \"repeats\"\nmin_period = 2\nmax_period = 4"),
            hash("source = \"markov\"\nconcentration = 1.0"),
            hash("source = \"markov\"\nstates = 3\nconcentration = 0.5"),
            hash("source = \"lags\"\nlags = [2, 3]\nstreams = 2\nreliability = 0.5"),
            hash("source = \"lags\"\nmin_lag = 2\nmax_lag = 3\nstreams = 1\nreliability = 1.0"),
            hash("source = \"hierarchy\"\nblock = 2\nblocks = 3\nmin_period = 2\nmax_period = 3"),
            hash("source = \"bursty\"\nburstiness = 0.5\nzipf = 1.0\nlabels = 3\nrelabelled = 0.0"),
        ];
        let different: std::collections::BTreeSet<&String> = hashes.iter().collect();
        assert_eq!(different.len(), hashes.len());
        // As before there were other sources.
        assert_eq!(hashes[0], tiny().training_hash());
        let written = serde_json::to_string(&tiny().data).unwrap();
        assert_eq!(written, r#"{"source":"repeats","min_period":2,"max_period":4}"#);
        assert_eq!(hashes[0], "f6e63544466534e423c6e5ca96e92452");
    }

    #[test]
    fn a_source_refuses_what_is_not_its_own() {
        let refused = |data: &str| {
            let text = tiny().to_toml();
            let (start, end) = (text.find("[data]").unwrap(), text.find("[model]").unwrap());
            let text = format!("{}[data]\n{data}\n\n{}", &text[..start], &text[end..]);
            RunSpec::parse(Path::new("s.toml"), &text).unwrap_err().to_string()
        };
        for (data, expected) in [
            (
                "source = \"web\"",
                "unknown source `web`, expected one of `corpus`, `repeats`, `markov`",
            ),
            ("min_period = 2", "missing field `source`"),
            (
                "source = \"markov\"\nmin_period = 2",
                "unknown field `min_period` of the source markov, expected `states`",
            ),
            ("source = \"markov\"\npath = \"a.txt\"", "unknown field `path` of the source markov"),
            (
                "source = \"corpus\"\npath = \"a.txt\"\nlags = [2]",
                "unknown field `lags` of the source corpus",
            ),
            ("source = \"repeats\"\nmin_period = 2", "missing field `max_period`"),
            ("source = \"repeats\"\nmin_period = \"two\"\nmax_period = 4", "min_period"),
            ("source = \"lags\"\nlags = 2", "lags"),
            (
                "source = \"lags\"\nlags = [2]\nmin_lag = 2",
                "data.lags = [2]: expected a list of whole numbers, or else a range",
            ),
            (
                "source = \"lags\"\nmin_lag = 3\nmax_lag = 2",
                "data.max_lag = 2 (min_lag 3): expected",
            ),
            (
                "source = \"lags\"\nlags = [12]",
                "data.lags = 12: expected a whole number from 1 to 11",
            ),
            (
                "source = \"markov\"\nstates = 9",
                "data.states = 9: expected a whole number from 2 to 8",
            ),
        ] {
            let message = refused(data);
            assert!(message.contains(expected), "{data}: {message}");
        }
    }

    #[test]
    fn a_run_without_the_later_options_is_known_as_before() {
        let plain = tiny().to_toml();
        for key in ["decay", "optimizer", "momentum", "loss"] {
            assert!(!plain.contains(&format!("\n{key}")), "{key}");
        }
        let text = plain.replace(
            "[train]",
            "[train]\noptimizer = \"muon\"\nmomentum = 0.9\nloss = { without = \"induction\" }",
        );
        let spec = RunSpec::parse(Path::new("x"), &text).unwrap();
        assert_eq!(spec.train.momentum(), Some(0.9));
        assert_eq!(RunSpec::parse(Path::new("x"), &spec.to_toml()).unwrap(), spec);
        assert_ne!(spec.training_hash(), tiny().training_hash());
        let decayed = RunSpec { train: TrainSpec { decay_share: 0.2, ..tiny().train }, ..tiny() };
        assert!(decayed.to_toml().contains("decay_share = 0.2"));
        assert_ne!(decayed.training_hash(), tiny().training_hash());
    }
}
