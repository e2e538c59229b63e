//! What the paper leaves open (paper.md, 0: D10, 10 and 11) or what we do otherwise, with our
//! values.

use toml::Value;

use crate::Run;
use crate::text::visible;

/// A row of the table of settings.
pub(crate) struct Setting {
    pub(crate) name: &'static str,
    pub(crate) paper: &'static str,
    pub(crate) ours: String,
}

struct Row {
    name: &'static str,
    paper: &'static str,
    /// What holds for every run.
    ours: &'static str,
    /// Keys of the spec whose values are added.
    keys: &'static [&'static str],
}

const ROWS: [Row; 25] = [
    Row {
        name: "Size",
        paper: "d_model 768, 12 heads of 64, vocabulary 65,536",
        ours: "Smaller, to train on a laptop.",
        keys: &["model.d_model", "model.n_heads", "model.d_head", "model.d_vocab"],
    },
    Row {
        name: "Context",
        paper: "8,192 tokens in training, 16 times the 512 of the evaluation",
        ours: "Training context and evaluation length are the same.",
        keys: &["model.n_ctx"],
    },
    Row {
        name: "Training tokens and batch",
        paper: "about 10 billion tokens in 10,000 steps; batch shape not stated",
        ours: "",
        keys: &["train.tokens", "train.batch"],
    },
    Row {
        name: "Data",
        paper: "a filtered web, book and code mix, no example seen twice; not public",
        ours: "Each example begins with a start token. A text shorter than the budget is read again, cut at other places.",
        keys: &["data"],
    },
    Row {
        name: "MLPs",
        paper: "width and nonlinearity not stated",
        ours: "GELU, four times as wide as the residual stream.",
        keys: &["model.d_mlp"],
    },
    Row {
        name: "Other data",
        paper: "internet books only, all depths, with and without MLPs; losses only are shown",
        ours: "A second technical text, as books pay too little for copying to be learned within the budget; models on books beside it. No heads are removed there, as in the paper.",
        keys: &["evaluation.ablation_every"],
    },
    Row {
        name: "Seeds",
        paper: "one run a model",
        ours: "Verdicts are those of the mean over seeds, where a claim's runs were trained with several: the 1- and 2-layer attention-only models, with and without smeared keys.",
        keys: &["seed"],
    },
    Row {
        name: "Optimizer",
        paper: "not stated",
        ours: "AdamW, unless the specs name another; gradients clipped by their global norm.",
        keys: &[
            "train.optimizer",
            "train.momentum",
            "train.loss",
            "train.beta1",
            "train.beta2",
            "train.eps",
            "train.clip_norm",
        ],
    },
    Row {
        name: "Learning rate",
        paper: "warm-up over the first 1.5 billion tokens; peak and decay not stated",
        ours: "Constant after a linear warm-up, of steps, until it falls over a last share of the steps, linearly unless the specs say otherwise; the positional gains learn at a share of it.",
        keys: &[
            "train.lr",
            "train.warmup_steps",
            "train.decay_share",
            "train.decay",
            "train.pos_gain_lr_scale",
        ],
    },
    Row {
        name: "Weight decay",
        paper: "values not stated; reduced at step 4,750",
        ours: "Constant, decoupled, on weight matrices only.",
        keys: &["train.weight_decay"],
    },
    Row {
        name: "Positions",
        paper: "added to the inputs of queries and keys only; kind and scale not stated",
        ours: "Sinusoidal, added to the inputs of queries and keys only, with a gain a layer (first layer, later layers), unless the specs name others.",
        keys: &["model.architecture.positions", "model.pos_gain_init", "model.position_base"],
    },
    Row {
        name: "Normalization",
        paper: "not stated",
        ours: "Before each sublayer and before the unembedding; queries and keys without norms, embedding and unembedding untied, unless the specs say otherwise.",
        keys: &[
            "model.normalization",
            "model.layer_norm_eps",
            "model.architecture.qk_norm",
            "model.architecture.tied_embeddings",
        ],
    },
    Row {
        name: "Smeared keys",
        paper: "one trainable number a head; initial value not stated",
        ours: "Starts at 0: half of each key comes from the position before.",
        keys: &[],
    },
    Row {
        name: "Snapshots",
        paper: "200, one every 50 steps",
        ours: "Step 0, the powers of two below a distance in steps, then its multiples.",
        keys: &["snapshots.every"],
    },
    Row {
        name: "Loss of a snapshot",
        paper: "mean over one random token of each of 10,000 examples",
        ours: "Mean over all tokens of all evaluation examples, which is less noisy.",
        keys: &["evaluation.examples"],
    },
    Row {
        name: "ICL score",
        paper: "loss of the 500th token minus loss of the 50th, of 512",
        ours: "The same places in proportion to the context, each averaged over its neighbours to cut noise.",
        keys: &["evaluation.icl_early", "evaluation.icl_late", "evaluation.icl_half_width"],
    },
    Row {
        name: "Phase-change window",
        paper: "\"based on the derivative of the in-context learning score\"; no formula",
        ours: "From the end of the warm-up on, the step of a logistic curve fitted to the same-token score, from 10 % to 90 % of its height. It must describe the score better than a straight line and than a decay do, and be higher than 3 standard errors.",
        keys: &[],
    },
    Row {
        name: "Intervals",
        paper: "none",
        ours: "95 % percentile intervals of 1,000 bootstrap resamples of the evaluation examples, the same ones for every snapshot and run; windows, angles and bumps are found again in each. Head scores vary by their standard errors. With several seeds, each draw moves their mean as Student's t of their number allows.",
        keys: &[],
    },
    Row {
        name: "Principal components",
        paper: "two, of the losses of one random token of each of 10,000 examples, over all snapshots of a series of models",
        ours: "The same over all runs on the leading text; fewer examples.",
        keys: &["evaluation.examples"],
    },
    Row {
        name: "Bump of the loss",
        paper: "\"the only place where the loss is non-convex\"; no formula",
        ours: "Where the held-out loss, smoothed as the ICL score is, lies farthest above its lower convex envelope.",
        keys: &[],
    },
    Row {
        name: "Head evaluators' tokens",
        paper: "25 random tokens, the most and least common left out (which is not stated); 10 examples",
        ours: "The most frequent 5 % and the least frequent 20 % of ids, and ids never seen, are left out.",
        keys: &["evaluation.head_examples", "evaluation.prefix_block", "evaluation.prefix_repeats"],
    },
    Row {
        name: "Ablations",
        paper: "10,000 examples; each head's result zero, patterns kept",
        ours: "The first of the evaluation examples; each head's result zero, with patterns kept and with everything free to change.",
        keys: &["evaluation.ablation_examples"],
    },
    Row {
        name: "Control heads",
        paper: "none",
        ours: "Heads that end with prefix matching below 0.1 and a previous-token score of at most 0.3. Control sets have as many heads as there are induction heads, of the same layers first, up to 50 sets, drawn by a fixed seed.",
        keys: &[],
    },
    Row {
        name: "Ideal patterns",
        paper: "in words only: the previous token; the token after an earlier copy of one, or of two tokens",
        ours: "Several earlier copies share the attention evenly; a match of two falls back to one; where there is none the head rests on the start token.",
        keys: &[],
    },
    Row {
        name: "Induction head",
        paper: "no threshold stated",
        ours: "Prefix matching above 0.3 at the end of the run. Prefix matching is the attention to every earlier successor of the current token, summed, averaged over queries.",
        keys: &[],
    },
];

/// The table of settings for the runs of the report.
pub(crate) fn settings(runs: &[Run]) -> Vec<Setting> {
    let specs: Vec<(String, toml::Table)> = runs
        .iter()
        .filter_map(|run| Some((run.label(), toml::Table::try_from(&run.spec).ok()?)))
        .collect();
    ROWS.iter()
        .map(|row| Setting { name: row.name, paper: row.paper, ours: ours(row, &specs) })
        .collect()
}

fn ours(row: &Row, specs: &[(String, toml::Table)]) -> String {
    let mut parts: Vec<String> = Vec::new();
    if !row.ours.is_empty() {
        parts.push(row.ours.to_string());
    }
    let values: Vec<String> = row.keys.iter().filter_map(|key| value(key, specs)).collect();
    if !values.is_empty() {
        parts.push(format!("{}.", values.join("; ")));
    }
    if parts.is_empty() { "Not recorded in the specs.".to_string() } else { parts.join(" ") }
}

/// `lr = 0.001`, or each run's value where they differ or some have none; nothing where no spec has
/// the key.
fn value(key: &str, specs: &[(String, toml::Table)]) -> Option<String> {
    let shown: Vec<(&String, String)> =
        specs.iter().filter_map(|(run, spec)| Some((run, show(lookup(spec, key)?)))).collect();
    let name = key.rsplit('.').next().unwrap_or(key);
    let (_, first) = shown.first()?;
    if shown.len() == specs.len() && shown.iter().all(|(_, value)| value == first) {
        return Some(format!("{name} = {first}"));
    }
    let each: Vec<String> = shown.iter().map(|(run, value)| format!("{value} ({run})")).collect();
    Some(format!("{name} = {}", each.join(", ")))
}

fn show(value: &Value) -> String {
    match value {
        Value::String(text) => visible(text),
        Value::Integer(number) => thousands(*number),
        Value::Array(values) => values.iter().map(show).collect::<Vec<_>>().join(", "),
        Value::Table(table) => {
            let pairs =
                table.iter().map(|(key, value)| format!("{} {}", visible(key), show(value)));
            pairs.collect::<Vec<_>>().join(", ")
        }
        other => visible(&other.to_string()),
    }
}

/// `1,048,576`; four digits and fewer stay as they are.
fn thousands(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let sign = if number < 0 { "-" } else { "" };
    if digits.len() < 5 {
        return format!("{sign}{digits}");
    }
    let groups: Vec<&str> = {
        let head = digits.len() % 3;
        let mut groups = if head > 0 { vec![&digits[..head]] } else { Vec::new() };
        groups.extend((head..digits.len()).step_by(3).map(|at| &digits[at..at + 3]));
        groups
    };
    format!("{sign}{}", groups.join(","))
}

/// The value at a dotted path such as `train.lr`.
fn lookup<'a>(table: &'a toml::Table, path: &str) -> Option<&'a toml::Value> {
    let mut keys = path.split('.');
    let mut value = table.get(keys.next()?)?;
    for key in keys {
        value = value.as_table()?.get(key)?;
    }
    Some(value)
}
