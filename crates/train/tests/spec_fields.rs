//! Every field of a spec, by walking one: outside its range, of another type, missing, unknown. A
//! field that is added fails here until its range stands in the table.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use induction_records::RunSpec;
use toml::{Table, Value};

const REPEATS: &str = include_str!("hostile.toml");

/// The same on a text.
fn corpus() -> String {
    let data = "source = \"corpus\"\npath = \"a.txt\"\nheld_out = 0.1\nblake3 = \"00\"\n";
    REPEATS.replace("source = \"repeats\"\nmin_period = 3\nmax_period = 8\n", data)
}

/// The same on each of the other synthetic sources.
fn synthetic() -> [String; 5] {
    [
        "source = \"markov\"\nstates = 4\n",
        "source = \"lags\"\nlags = [3, 8]\n",
        "source = \"lags\"\nmin_lag = 3\nmax_lag = 8\n",
        "source = \"hierarchy\"\nblock = 2\nblocks = 4\nmin_period = 3\nmax_period = 4\n",
        "source = \"bursty\"\nburstiness = 0.5\nzipf = 1.0\nlabels = 4\n",
    ]
    .map(|data| REPEATS.replace("source = \"repeats\"\nmin_period = 3\nmax_period = 8\n", data))
}

/// What stands just outside the range of each number, as TOML. Without an upper end: `""`.
const OUTSIDE: [(&str, &str, &str); 53] = [
    ("format", "0", "2"),
    ("seed", "-1", "18446744073709551616"),
    ("data.held_out", "0.0", "0.51"),
    ("data.min_period", "1", "9"),
    ("data.max_period", "2", "13"),
    ("data.states", "1", "16"),
    ("data.concentration", "0.0", "1000001.0"),
    ("data.lags", "[0]", "[24]"),
    ("data.min_lag", "0", "9"),
    ("data.max_lag", "2", "24"),
    ("data.streams", "0", "13"),
    ("data.reliability", "-0.1", "1.1"),
    ("data.block", "1", "7"),
    ("data.blocks", "1", "16"),
    ("data.burstiness", "-0.1", "1.1"),
    ("data.zipf", "-0.1", "10.1"),
    ("data.labels", "1", "14"),
    ("data.relabelled", "-0.1", "1.1"),
    ("model.n_layers", "0", "1025"),
    ("model.d_model", "0", "65537"),
    ("model.n_heads", "0", "1025"),
    ("model.d_head", "0", "16385"),
    ("model.d_mlp", "-1", "262145"),
    ("model.n_ctx", "0", "1048577"),
    ("model.d_vocab", "1", "65537"),
    ("model.position_base", "0.99", "1.1e9"),
    ("model.pos_gain_init", "[-1001.0, 0.1]", "[1.0, 1001.0]"),
    ("model.layer_norm_eps", "-1e-9", "1.01"),
    ("model.clamp.layer", "-1", "2"),
    ("model.clamp.head", "-1", "2"),
    ("train.tokens", "0", "1125899906842625"),
    ("train.batch", "0", "65537"),
    ("train.lr", "0.0", "1001.0"),
    ("train.warmup_steps", "-1", "1099511627777"),
    ("train.decay_share", "-0.01", "1.01"),
    ("train.momentum", "-0.01", "1.0"),
    ("train.beta1", "-0.01", "1.0"),
    ("train.beta2", "-0.01", "1.0"),
    ("train.eps", "0.0", "1.01"),
    ("train.weight_decay", "-0.01", "10.1"),
    ("train.pos_gain_lr_scale", "-0.01", "10.1"),
    ("train.clip_norm", "0.0", "1.1e9"),
    ("snapshots.every", "0", "1099511627777"),
    ("evaluation.examples", "1", "1048577"),
    ("evaluation.icl_early", "1", "25"),
    ("evaluation.icl_late", "3", "24"),
    ("evaluation.icl_half_width", "-1", "25"),
    ("evaluation.head_examples", "0", "65537"),
    ("evaluation.ablation_examples", "0", "1048577"),
    ("evaluation.ablation_every", "-1", "1048577"),
    ("evaluation.weights_every", "0", "1048577"),
    ("evaluation.prefix_block", "1", "6"),
    ("evaluation.prefix_repeats", "1", "25"),
];

/// A missing one of these is an error; every other field has a value of its own.
const REQUIRED: [&str; 30] = [
    "format",
    "name",
    "seed",
    "data.source",
    "data.path",
    "data.min_period",
    "data.max_period",
    "data.block",
    "data.blocks",
    "data.burstiness",
    "data.zipf",
    "data.labels",
    "model.n_layers",
    "model.d_model",
    "model.n_heads",
    "model.d_head",
    "model.n_ctx",
    "model.d_vocab",
    "model.clamp.kind",
    "model.clamp.layer",
    "model.clamp.head",
    "train.tokens",
    "train.batch",
    "train.lr",
    "train.loss.without",
    "snapshots.every",
    "evaluation.examples",
    "evaluation.icl_early",
    "evaluation.icl_late",
    "evaluation.icl_half_width",
];

/// Every field and its value, by its path; sections are not fields.
fn fields(table: &Table, above: &str) -> Vec<(String, Value)> {
    let each = table.iter().map(|(key, value)| match value {
        Value::Table(inner) => fields(inner, &format!("{above}{key}.")),
        value => vec![(format!("{above}{key}"), value.clone())],
    });
    each.flatten().collect()
}

/// The spec with one field changed; removed if there is no value.
fn with(text: &str, path: &str, value: Option<Value>) -> String {
    let mut root: Table = text.parse().unwrap();
    let mut keys: Vec<&str> = path.split('.').collect();
    let last = keys.pop().unwrap();
    let section = keys.into_iter().fold(&mut root, |table, key| table[key].as_table_mut().unwrap());
    match value {
        Some(value) => drop(section.insert(last.to_string(), value)),
        None => drop(section.remove(last)),
    }
    root.to_string()
}

fn refused(text: &str) -> String {
    let message = RunSpec::parse("s.toml".as_ref(), text).unwrap_err().to_string();
    assert!(message.starts_with("s.toml: "), "{message}");
    message
}

/// All kinds of data, each resolved: every value written out.
fn texts() -> Vec<String> {
    let texts = [REPEATS.to_string(), corpus()].into_iter().chain(synthetic());
    texts.map(|text| RunSpec::parse("s.toml".as_ref(), &text).unwrap().to_toml()).collect()
}

fn key(path: &str) -> &str {
    path.rsplit('.').next().unwrap()
}

#[test]
fn numbers_outside_their_range() {
    let mut found = BTreeSet::new();
    for text in texts() {
        for (path, value) in fields(&text.parse().unwrap(), "") {
            if value.is_str() || value.is_bool() {
                continue;
            }
            let Some((_, low, high)) = OUTSIDE.iter().find(|(field, ..)| *field == path) else {
                panic!("{path}: its range is not in the table");
            };
            for outside in [low, high] {
                // As text: TOML's own numbers end at 64 bits.
                let line = format!("{} = {outside}", key(&path));
                let marked = with(&text, &path, Some(Value::String("HERE".into())));
                let message =
                    refused(&marked.replace(&format!("{} = \"HERE\"", key(&path)), &line));
                assert!(message.contains(key(&path)), "{path} = {outside}: {message}");
                let range = ["number", "a share", "<=", "multiple", "even", "format"];
                assert!(
                    message.contains("expected") && range.iter().any(|word| message.contains(word)),
                    "{path} = {outside}: {message}"
                );
            }
            found.insert(path);
        }
    }
    assert_eq!(found.len(), OUTSIDE.len(), "the table has fields that no spec has");
}

#[test]
fn values_of_another_type() {
    for text in texts() {
        for (path, value) in fields(&text.parse().unwrap(), "") {
            let others = [
                Value::String("x".into()),
                Value::Integer(1),
                Value::Boolean(true),
                Value::Array(vec![]),
                Value::Table(Table::new()),
            ];
            // A whole number is a number, too.
            let fits = |other: &Value| {
                value.same_type(other) && !value.is_array()
                    || value.is_float() && other.is_integer()
            };
            for other in others.iter().filter(|other| !fits(other)) {
                let message = refused(&with(&text, &path, Some(other.clone())));
                assert!(message.contains(key(&path)), "{path} = {other}: {message}");
            }
        }
    }
}

#[test]
fn missing_fields() {
    for text in texts() {
        for (path, _) in fields(&text.parse().unwrap(), "") {
            let without = with(&text, &path, None);
            if REQUIRED.contains(&path.as_str()) {
                let message = refused(&without);
                assert!(message.contains(key(&path)), "{path}: {message}");
            } else if let Err(error) = RunSpec::parse("s.toml".as_ref(), &without) {
                // Its own value need not fit the others here, which is said, too.
                assert!(error.to_string().contains("expected"), "{path}: {error}");
            }
        }
    }
}

#[test]
fn unknown_fields() {
    for text in texts() {
        let paths = fields(&text.parse().unwrap(), "");
        let sections: BTreeSet<&str> = paths
            .iter()
            .map(|(path, _)| path.rsplit_once('.').map_or("", |(section, _)| section))
            .collect();
        assert_eq!(sections.len(), 8);
        for section in sections {
            let surplus = if section.is_empty() {
                "surplus".to_string()
            } else {
                format!("{section}.surplus")
            };
            let message = refused(&with(&text, &surplus, Some(Value::Integer(1))));
            assert!(message.contains("surplus"), "{section}: {message}");
        }
    }
}

#[test]
fn names_that_lead_elsewhere() {
    for name in [
        "",
        ".",
        "..",
        "../up",
        "a/b",
        "a\\b",
        "/a",
        "a\0",
        "a\u{1b}[31m",
        "a\u{202e}b",
        "<b>",
        &"a".repeat(101),
    ] {
        let message = refused(&with(REPEATS, "name", Some(Value::String(name.into()))));
        assert!(
            message.contains("name = ") && !message.contains(['\0', '\u{1b}', '\u{202e}']),
            "{message}"
        );
    }
}
