//! The runs that are planned for, and what each asks for: the formulas of `induction::predict` and
//! `induction::bench` again, since `xtask` depends on neither. Tests on both sides hold them to
//! fixtures/plans.json.

/// Tokens of a text whose attention is kept as a map.
const MAP_TOKENS: f64 = 128.0;
/// Entries of a head's maps on the prompts that are kept.
const PROMPT_ENTRIES: f64 = 6e4;

/// A model's sizes, in TransformerLens' words; `d_mlp` 0: attention-only.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    pub(super) n_layers: u64,
    pub(super) d_model: u64,
    pub(super) n_heads: u64,
    pub(super) d_head: u64,
    pub(super) d_mlp: u64,
    pub(super) n_ctx: u64,
    pub(super) d_vocab: u64,
}

impl Model {
    /// Operations a token forward in examples of `length` tokens: products twice over, causal
    /// attention at half.
    pub(super) fn forward(&self, length: u64) -> f64 {
        let heads = self.n_heads * self.d_head;
        let layer = 4 * self.d_model * heads + 2 * self.d_model * self.d_mlp + heads * length;
        2.0 * (self.n_layers * layer + self.d_model * self.d_vocab) as f64
    }

    /// Numbers outside embedding and unembedding.
    pub(super) fn blocks(&self) -> u64 {
        let Self { n_layers, d_model, n_heads, d_head, d_mlp, .. } = *self;
        n_layers * (4 * d_model * n_heads * d_head + 2 * d_model * d_mlp + d_mlp + d_model * 5)
    }

    /// Numbers in all.
    pub(super) fn parameters(&self) -> u64 {
        2 * self.d_model * self.d_vocab + self.blocks()
    }

    /// Bytes of the weights in float32.
    pub(super) fn weights(&self) -> f64 {
        4.0 * self.parameters() as f64
    }

    /// Bytes that training one example at a time holds on a GPU: states (weights, gradients, two
    /// moments), rows, patterns. As `induction::memory` counts, where every layer's patterns are
    /// kept for the backward pass.
    pub(super) fn on_a_device(&self) -> [f64; 3] {
        let Self { n_layers, d_model, n_heads, d_mlp, n_ctx, d_vocab, .. } = *self;
        let rows = 4 * n_ctx * (n_layers * (14 * d_model + 5 * d_mlp) + 4 * d_vocab);
        let patterns = 4 * n_heads * n_ctx * n_ctx * (n_layers + 3);
        [4.0 * self.weights(), rows as f64, patterns as f64]
    }

    /// Operations a token to remove every head in both ways, in examples of `length` tokens.
    fn removals(&self, length: u64) -> f64 {
        let Self { n_layers, d_model, n_heads, d_head, d_mlp, d_vocab, .. } = *self;
        let layers = n_layers as f64;
        let attention = 2.0 * (4 * d_model * n_heads * d_head + n_heads * d_head * length) as f64;
        let mlp = 4.0 * (d_model * d_mlp) as f64;
        let unembed = 2.0 * (d_model * d_vocab) as f64;
        n_heads as f64
            * (layers * layers * attention + layers * (layers + 1.0) * mlp + 2.0 * layers * unembed)
    }
}

/// What snapshots are measured on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Evaluation {
    /// Examples whose losses are taken.
    pub(super) examples: u64,
    /// Examples on text for the head measures.
    pub(super) head_examples: u64,
    /// Tokens of an example.
    pub(super) length: u64,
    /// Examples on which heads are removed.
    pub(super) removal_examples: u64,
    /// At every n-th kept snapshot; 0: never.
    pub(super) removal_every: u64,
    /// Weights stay with every n-th kept snapshot.
    pub(super) weights_every: u64,
}

/// A run: a model, its training and what is measured of it.
#[derive(Clone, Debug)]
pub(super) struct Run {
    pub(super) name: String,
    pub(super) model: Model,
    pub(super) tokens: u64,
    pub(super) tokens_per_step: u64,
    /// Steps between snapshots; 0: the 15 of the paper's large models, at the steps 2^5 to 2^17 and
    /// the last two.
    pub(super) every: u64,
    pub(super) evaluation: Evaluation,
}

impl Evaluation {
    /// Tokens of an example, and of the fresh window in which its last ones are predicted again: 62
    /// of 512.
    fn both(&self) -> u64 {
        let context = self.length.min(512);
        let (early, late) = (50 * context / 512, 500 * context / 512);
        self.length + (late + (12 * context).div_ceil(512)).min(self.length) - (late - early)
    }
}

impl Run {
    pub(super) fn steps(&self) -> u64 {
        self.tokens.div_ceil(self.tokens_per_step)
    }

    /// Kept snapshots: step 0, every n-th, the last, and the powers of two below the first
    /// distance.
    pub(super) fn kept(&self) -> u64 {
        let (steps, every) = (self.steps(), self.every);
        if every == 0 {
            return 15;
        }
        let keeps =
            |s: u64| s.is_multiple_of(every) || s == steps || (s < every && s.is_power_of_two());
        (0..=steps).filter(|&step| keeps(step)).count() as u64
    }

    /// Snapshots at which heads are removed.
    pub(super) fn sweeps(&self) -> u64 {
        match self.evaluation.removal_every {
            0 => 0,
            every => self.kept().div_ceil(every),
        }
    }

    /// Operations of training: forward, and twice as many backward.
    pub(super) fn train(&self) -> f64 {
        3.0 * self.model.forward(self.model.n_ctx) * (self.steps() * self.tokens_per_step) as f64
    }

    /// Operations of measuring all kept snapshots.
    pub(super) fn measure(&self) -> f64 {
        let e = &self.evaluation;
        let tokens = e.examples * e.both() + e.head_examples * e.length;
        (self.kept() * tokens) as f64 * self.model.forward(e.length)
    }

    /// Operations of removing every head in both ways.
    pub(super) fn remove(&self) -> f64 {
        let e = &self.evaluation;
        let tokens = e.removal_examples.min(e.examples) * e.both();
        (self.sweeps() * tokens) as f64 * self.model.removals(e.length)
    }

    /// Bytes of the tables of all snapshots, every token's loss and the maps included.
    pub(super) fn tables(&self) -> f64 {
        let e = &self.evaluation;
        let heads = (self.model.n_layers * self.model.n_heads) as f64;
        let losses = 4.0 * (e.examples * e.length) as f64;
        let rows =
            25.0 * (4 * e.length + 9 * e.examples) as f64 + 2600.0 * heads + 100.0 * heads * heads;
        let removed = e.removal_examples.min(e.examples) as f64;
        let removals = heads * 2.0 * 36.0 * removed + 8.0 * heads * e.length as f64;
        let maps = 2.0 * heads * (e.length as f64).min(MAP_TOKENS).powi(2);
        self.kept() as f64 * (losses + rows)
            + self.sweeps() as f64 * removals
            + self.kept().div_ceil(e.weights_every) as f64 * maps
            + 2.0 * heads * PROMPT_ENTRIES
    }

    /// Bytes of the weights that stay, with the optimizer state of the newest three snapshots.
    pub(super) fn snapshots(&self, weights_every: u64) -> f64 {
        (self.kept().div_ceil(weights_every) as f64 + 6.0) * self.model.weights()
    }

    /// Bytes of a snapshot as it is written: weights and two moments.
    pub(super) fn saved(&self) -> f64 {
        3.0 * self.model.weights()
    }

    /// The same run, measured otherwise; where no head is removed, none is then.
    pub(super) fn measured(&self, evaluation: Evaluation) -> Self {
        let removal_every = self.evaluation.removal_every.min(evaluation.removal_every);
        Self { evaluation: Evaluation { removal_every, ..evaluation }, ..self.clone() }
    }
}

/// The paper's way to measure (paper.md, 1.5 and 4): 10,000 examples of 512 tokens, for removed
/// heads, too.
pub(super) const AS_THE_PAPER: Evaluation = Evaluation {
    examples: 10_000,
    head_examples: 100,
    length: 512,
    removal_examples: 10_000,
    removal_every: 1,
    weights_every: 1,
};

/// As the paper, but heads are removed on 128 of the examples, as this project plans it.
pub(super) const SHORT: Evaluation = Evaluation { removal_examples: 128, ..AS_THE_PAPER };

/// `reproduce --scale full --seeds 1`: 33 runs, in the order of its manifest.
pub(super) fn full() -> Vec<Run> {
    let run = |layers: u64, mlp: bool, suffix: &str, every: u64| {
        let d_mlp = if mlp { 512 } else { 0 };
        let model = Model {
            n_layers: layers,
            d_model: 128,
            n_heads: 4,
            d_head: 32,
            d_mlp,
            n_ctx: 512,
            d_vocab: 512,
        };
        let evaluation = Evaluation {
            examples: 1000,
            head_examples: 100,
            length: 512,
            removal_examples: 128,
            removal_every: every,
            weights_every: 3,
        };
        let name = format!("{layers}L{}{suffix}", if mlp { "-mlp" } else { "" });
        let steps = 8_000_000u64.div_ceil(8 * 512);
        Run {
            name,
            model,
            tokens: 8_000_000,
            tokens_per_step: 8 * 512,
            every: steps.div_ceil(20),
            evaluation,
        }
    };
    let mut runs = family(&|layers, mlp, suffix, removed| {
        run(layers, mlp, suffix, if removed { 5 } else { 0 })
    });
    runs.extend(
        [(1, false), (2, false), (2, true)].map(|(layers, mlp)| run(layers, mlp, "-books", 0)),
    );
    runs.extend(
        ["-previous-token", "-no-induction", "-shuffled", "-fragments"]
            .map(|name| run(2, false, name, 0)),
    );
    runs
}

/// `reproduce --scale paper`: the paper's 28 small models (paper.md, 1.1 and 1.2) as 26 runs.
pub(super) fn paper() -> Vec<Run> {
    family(&|layers, mlp, suffix, removed| {
        let d_mlp = if mlp { 4 * 768 } else { 0 };
        let model = Model {
            n_layers: layers,
            d_model: 768,
            n_heads: 12,
            d_head: 64,
            d_mlp,
            n_ctx: 8192,
            d_vocab: 1 << 16,
        };
        let evaluation = Evaluation { length: 8192, removal_every: u64::from(removed), ..SHORT };
        let name = format!("{layers}L{}{suffix}", if mlp { "-mlp" } else { "" });
        Run { name, model, tokens: 10_000 << 20, tokens_per_step: 1 << 20, every: 50, evaluation }
    })
}

/// 1 to 6 layers without and with MLPs, 1 and 2 layers with smeared keys, and the first twelve
/// again on other text, where no head is removed.
fn family(run: &dyn Fn(u64, bool, &str, bool) -> Run) -> Vec<Run> {
    let both = |suffix: &'static str, removed: bool| {
        [false, true]
            .into_iter()
            .flat_map(move |mlp| (1..=6).map(move |layers| run(layers, mlp, suffix, removed)))
    };
    let smeared = (1..=2).map(|layers| run(layers, false, "-smeared", false));
    both("", true).chain(smeared).chain(both("-second", false)).collect()
}

/// The paper's full-scale models (paper.md, 1.3). It does not state their token budget: this is
/// what their last snapshot but the final ones, at step 2^17, has seen at the small models' 2^20
/// tokens a step. The largest two took more a step.
pub(super) fn large() -> Vec<Run> {
    [
        (4, 512, 8, 64),
        (6, 768, 12, 64),
        (10, 1280, 20, 64),
        (16, 2048, 32, 64),
        (24, 3072, 48, 64),
        (40, 5120, 40, 128),
    ]
    .into_iter()
    .map(|(n_layers, d_model, n_heads, d_head)| {
        let model = Model {
            n_layers,
            d_model,
            n_heads,
            d_head,
            d_mlp: 4 * d_model,
            n_ctx: 8192,
            d_vocab: 1 << 16,
        };
        let evaluation = Evaluation { removal_every: 0, ..AS_THE_PAPER };
        let name = format!("{n_layers}L-large");
        Run { name, model, tokens: 1 << 37, tokens_per_step: 1 << 20, every: 0, evaluation }
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The program's own test holds its plans to the same file.
    #[test]
    fn costs_are_those_of_the_program() {
        let said = std::fs::read_to_string(crate::root().join("fixtures/plans.json")).unwrap();
        let said: serde_json::Value = serde_json::from_str(&said).unwrap();
        for (name, runs) in [("full", full()), ("paper", paper())] {
            let said = &said[name];
            assert_eq!(runs.len() as u64, said["runs"]);
            assert_eq!(
                runs.iter().map(|run| run.steps() * run.tokens_per_step).sum::<u64>(),
                said["tokens"]
            );
            let near = |what: &str, of: &dyn Fn(&Run) -> f64| {
                let (ours, theirs) =
                    (runs.iter().map(of).sum::<f64>(), said[what].as_f64().unwrap());
                assert!((ours / theirs - 1.0).abs() < 1e-12, "{name}: {what} {ours}, not {theirs}");
            };
            near("flop", &|run| run.train() + run.measure() + run.remove());
            near("disk", &|run| run.tables() + run.snapshots(run.evaluation.weights_every));
        }
    }

    #[test]
    fn single_runs_are_those_of_the_dry_run() {
        let run =
            |runs: Vec<Run>, name: &str| runs.into_iter().find(|run| run.name == name).unwrap();
        let small = run(full(), "6L-mlp");
        let found = (
            small.model.parameters(),
            small.kept(),
            small.train(),
            small.measure(),
            small.remove(),
        );
        assert_eq!(
            found,
            (1_317_632, 28, 78_678_432_153_600.0, 57_362_350_080_000.0, 38_828_651_839_488.0)
        );
        let papers = run(paper(), "6L-mlp");
        assert_eq!(
            (papers.model.parameters(), papers.kept(), papers.steps()),
            (143_172_096, 207, 10_000)
        );
    }

    /// paper.md, 1.3 states numbers outside the embeddings: 13M, 42M, 200M, 810M, 2.7B, 13B.
    #[test]
    fn large_models_have_the_papers_parameters() {
        let stated = [13e6, 42e6, 200e6, 810e6, 2.7e9, 13e9];
        for (run, stated) in large().iter().zip(stated) {
            let ours = run.model.blocks() as f64;
            assert!((ours / stated - 1.0).abs() < 0.04, "{}: {ours}, stated {stated}", run.name);
        }
    }
}
