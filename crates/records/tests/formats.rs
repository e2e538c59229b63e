//! docs/FORMATS.md names every column of every table.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use induction_metrics::{Boundary, CopyingCeiling, Crossing, Interval, Role, Sgld, Stages};
use induction_records::{
    AblatedFrom, Ablation, AblationRow, BehaviourScores, BestHead, ByCause, Cause, CeilingOfText,
    Change, CompositionRow, CopyRow, CutHeads, CutOn, DistanceRow, DistancesFrom, Downstream,
    EvaluationSpec, ExploredFrom, FollowedText, GoesWith, HeadId, HeadRow, HistoryRow, HowRun,
    IclOnText, IclRow, KnockoutRow, LlcRow, LossRow, MeasuredFrom, ModelFacts, ModelScan, Optimum,
    PathFrom, PathsAgree, PathsInto, Predictor, Prompt, PromptRow, Query, RandomTokenRow, Reads,
    Removals, RemovedHeads, RemovedKind, RepeatedLosses, Row, SampledFrom, ScanHead, ShownText,
    StandsOut, StartFrom, StepRow, Summary, Synthetic, TextRow, WorthOn, parse_rows, read_rows,
    write_rows,
};
use serde::Serialize;
use serde_json::Value;

const FORMATS: &str = include_str!("../../../docs/FORMATS.md");

/// The paragraphs and table rows that speak of a file.
fn about(file: &str) -> String {
    let told: Vec<&str> = FORMATS.lines().filter(|line| line.contains(file)).collect();
    assert!(!told.is_empty(), "docs/FORMATS.md does not tell of {file}");
    told.join("\n")
}

#[track_caller]
fn documented(file: &str, value: &impl Serialize, elsewhere: &[&str]) {
    let value = serde_json::to_value(value).unwrap();
    let told = about(file);
    for key in value.as_object().unwrap().keys() {
        let plain = [format!("`{key}`"), format!("\"{key}\"")];
        assert!(
            elsewhere.contains(&key.as_str()) || plain.iter().any(|key| told.contains(key)),
            "docs/FORMATS.md, {file}: `{key}` is not told"
        );
    }
}

/// Of every table.
const ALWAYS: [&str; 2] = ["step", "tokens"];

#[test]
fn every_column_is_told() {
    let step =
        StepRow { step: 1, tokens: 8, loss: 1.0, lr: 0.1, grad_norm: 1.0, tokens_per_s: 1.0 };
    documented(StepRow::FILE, &step, &[]);
    documented(HistoryRow::FILE, &history(), &[]);
    documented(LossRow::FILE, &losses(), &ALWAYS);
    documented(IclRow::FILE, &icl(), &ALWAYS);
    documented(CopyRow::FILE, &copies(), &ALWAYS);
    documented(RandomTokenRow::FILE, &random_tokens(), &ALWAYS);
    documented(HeadRow::FILE, &head(), &["step", "tokens", "prefix_matching"]);
    documented(CompositionRow::FILE, &composition(), &ALWAYS);
    documented(AblationRow::FILE, &ablation(), &ALWAYS);
    documented(KnockoutRow::FILE, &knockout(), &ALWAYS);
    documented(TextRow::FILE, &TextRow { step: 1, tokens: 8, losses: vec![1.0] }, &ALWAYS);
    documented(PromptRow::FILE, &prompt_row(), &["step", "tokens", "layer", "head"]);
    documented(DistanceRow::FILE, &distances(), &ALWAYS);
    documented(LlcRow::FILE, &llc(), &ALWAYS);
    assert!(FORMATS.contains("All have `step` and `tokens`"));
}

#[test]
fn every_field_beside_the_tables_is_told() {
    documented(MeasuredFrom::FILE, &measured(), &[]);
    documented(
        AblatedFrom::FILE,
        &ablated(),
        &["version", "spec_hash", "engine", "evaluation", "snapshots", "knockouts"],
    );
    let change = ablated().change.unwrap();
    documented(AblatedFrom::FILE, &change, &[]);
    documented(
        FollowedText::FILE,
        &FollowedText { name: "a".into(), ids: vec![1], tokens: vec!["b".into()] },
        &[],
    );
    documented(Prompt::FILE, &prompt(), &["ids", "tokens", "queries"]);
    documented(Prompt::FILE, &prompt().queries[0], &[]);
    documented(
        Summary::FILE,
        &summary(),
        &["best_head", "observed_onset_tokens", "predicted_onset_tokens", "ceiling"],
    );
    documented(Optimum::FILE, &optimum(), &[]);
    documented(Optimum::FILE, &optimum().predictors[0], &[]);
    documented(DistancesFrom::FILE, &distances_from(), &[]);
    let stages = distances_from().stages.unwrap();
    documented(DistancesFrom::FILE, &stages, &[]);
    documented(DistancesFrom::FILE, &stages.boundaries[0], &["tokens"]);
    documented(DistancesFrom::FILE, &distances_from().crossings[0], &["tokens"]);
    documented(SampledFrom::FILE, &sampled_from(), &[]);
    documented(SampledFrom::FILE, &sampled_from().sgld, &[]);
    let _ = ExploredFrom::FILE;
}

/// Every key of every synthetic source, with the name of its source.
#[test]
fn every_source_is_told() {
    let spec = FORMATS.split("## Spec").nth(1).unwrap().split("\n## ").next().unwrap();
    let sources = spec.split("### Synthetic sources").nth(1).expect("a section of them");
    for name in Synthetic::NAMES {
        let row = sources.lines().find(|line| line.starts_with(&format!("| `{name}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/FORMATS.md: the source {name} is not told"));
        // The reader says what it knows.
        let unknown = toml::Value::Table(toml::Table::from_iter([("?".into(), true.into())]));
        let message = Synthetic::read(name, unknown).unwrap().unwrap_err().to_string();
        let keys: Vec<&str> = message.split('`').skip(3).step_by(2).collect();
        assert!(!keys.is_empty(), "{message}");
        for key in keys {
            assert!(
                row.contains(&format!("`{key}`")),
                "docs/FORMATS.md: {name}: `{key}` is not told"
            );
        }
    }
}

#[test]
fn every_field_of_a_scan_is_told() {
    let scan = serde_json::to_value(scan()).unwrap();
    let section = FORMATS.split("## Scan `scan.json`").nth(1).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let row = |field: &str| {
        let start = format!("| `{field}` |");
        let found = section.lines().find(|line| line.starts_with(&start));
        found.unwrap_or_else(|| panic!("docs/FORMATS.md, scan.json: `{field}` is not told"))
    };
    for (field, value) in scan.as_object().unwrap() {
        let told = row(field);
        let within = match value {
            Value::Object(fields) if field != "model" && field != "ablation" => fields.clone(),
            _ => continue,
        };
        for key in within.keys().filter(|key| !key.ends_with("_stderr")) {
            assert!(told.contains(&format!("`{key}`")), "docs/FORMATS.md: `{field}.{key}`");
        }
    }
}

/// What is written is read, to the value and to the byte.
#[test]
fn tables_come_back() {
    fn same<R: Row + PartialEq + std::fmt::Debug + Clone>(row: R) {
        let folder = tempfile::tempdir().unwrap();
        write_rows(folder.path(), &mut [row.clone()]).unwrap();
        let path = folder.path().join(R::FILE);
        let text = std::fs::read_to_string(&path).unwrap();
        let mut read = read_rows::<R>(folder.path()).unwrap();
        assert_eq!(read, [row]);
        write_rows(folder.path(), &mut read).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
        // The same line again is no further snapshot.
        let twice = parse_rows::<R>(&path, &text.repeat(2));
        assert_eq!(twice.is_err(), R::IN_ORDER, "{}", R::FILE);
    }
    same(losses());
    same(icl());
    same(copies());
    same(random_tokens());
    same(head());
    same(composition());
    same(ablation());
    same(knockout());
    same(prompt_row());
    same(distances());
    same(llc());
    same(LlcRow { layer: Some(1), head: Some(0), ..llc() });
    same(LlcRow { llc: None, by_chain: Vec::new(), ..llc() });
}

fn distances() -> DistanceRow {
    DistanceRow {
        step: 1,
        tokens: 8,
        uniform: 0.5,
        uniform_stderr: Some(0.01),
        uniform_by_example: vec![0.5],
        unigram: 1.5,
        unigram_stderr: Some(0.01),
        unigram_by_example: vec![1.5],
        bigram: 2.5,
        bigram_stderr: None,
        bigram_by_example: vec![2.5],
        induction: 3.5,
        induction_stderr: None,
        induction_by_example: vec![3.5],
        nearest: "uniform".into(),
    }
}

fn stages() -> Stages {
    let interval = Interval { low: 5.0, high: 9.0 };
    Stages {
        boundaries: vec![Boundary { tokens: 8.0, interval }],
        delta_bic: vec![3.0, 0.0],
        fitted: vec![vec![1.0, 0.5, 0.25]],
    }
}

fn distances_from() -> DistancesFrom {
    DistancesFrom {
        version: 1,
        spec_hash: "a".into(),
        engine: "cpu".into(),
        examples: 32,
        snapshots: BTreeMap::from([(1, "b".into())]),
        crossings: vec![Crossing {
            from: "uniform".into(),
            to: "unigram".into(),
            tokens: Some(8.0),
            interval: Some(Interval { low: 7.0, high: 9.0 }),
        }],
        stages: Some(stages()),
    }
}

fn llc() -> LlcRow {
    LlcRow {
        step: 1,
        tokens: 8,
        layer: None,
        head: None,
        llc: Some(40.0),
        llc_stderr: Some(1.0),
        by_chain: vec![39.0, 41.0],
        drift: Some(0.5),
        drift_stderr: Some(0.5),
    }
}

fn sampled_from() -> SampledFrom {
    let sgld = Sgld {
        n_beta: 46.0,
        localization: 100.0,
        step_size: 1e-3,
        chains: 4,
        burn_in: 50,
        draws: 50,
    };
    SampledFrom {
        version: 1,
        spec_hash: "a".into(),
        engine: "cpu".into(),
        examples: 256,
        batch: 2,
        sgld,
        snapshots: BTreeMap::from([(1, "b".into())]),
        stages: Some(stages()),
    }
}

/// What is no coefficient, and no distance, is refused.
#[test]
fn wrong_stages_are_refused() {
    let refused = |row: LlcRow| {
        let folder = tempfile::tempdir().unwrap();
        write_rows(folder.path(), &mut [row]).unwrap();
        read_rows::<LlcRow>(folder.path()).unwrap_err().to_string()
    };
    assert!(refused(LlcRow { head: Some(1), ..llc() }).contains("`layer` and `head`"));
    assert!(refused(LlcRow { llc: None, ..llc() }).contains("`by_chain`"));
    assert!(refused(LlcRow { drift_stderr: Some(-1.0), ..llc() }).contains("`drift_stderr`"));
    let folder = tempfile::tempdir().unwrap();
    write_rows(folder.path(), &mut [DistanceRow { bigram: -0.5, ..distances() }]).unwrap();
    let error = read_rows::<DistanceRow>(folder.path()).unwrap_err().to_string();
    assert!(error.contains("`bigram` is -0.5"), "{error}");
}

fn history() -> HistoryRow {
    HistoryRow {
        stage: "training".into(),
        seconds: 1.0,
        machine: "a".into(),
        version: "0".into(),
        engine: Some("cpu".into()),
        exactness: Some("exact".into()),
        threads: 1,
    }
}

fn losses() -> LossRow {
    LossRow {
        step: 1,
        tokens: 8,
        loss: 2.0,
        loss_by_index: vec![2.1, 1.9],
        by_example: vec![2.25, 1.75],
        derivative_index: vec![1.5],
        d_loss_d_ln_index: vec![-0.1],
        icl_sensitivity: vec![0.2, 0.0],
    }
}

fn icl() -> IclRow {
    IclRow {
        step: 1,
        tokens: 8,
        icl_score: -0.1,
        stderr: Some(0.01),
        by_example: vec![-0.1, 0.1],
        same_token_score: -0.2,
        same_token_stderr: None,
        same_token_by_example: vec![-0.2, 0.3],
        same_token_by_index: vec![-0.2],
        late_slope: -0.1,
        late_slope_by_example: vec![0.1, 0.2],
    }
}

fn copies() -> CopyRow {
    CopyRow {
        step: 1,
        tokens: 8,
        foretold_loss: 1.0,
        others_loss: 2.0,
        foretold_by_example: vec![1.5],
        others_by_example: vec![2.5],
        n_foretold_by_example: vec![3],
        n_others_by_example: vec![4],
    }
}

fn random_tokens() -> RandomTokenRow {
    RandomTokenRow { step: 1, tokens: 8, loss: 2.0, losses: vec![2.25, 1.75] }
}

fn head() -> HeadRow {
    let scores = BTreeMap::from([("prefix_matching".to_string(), Some(0.5))]);
    HeadRow { step: 1, tokens: 8, layer: 1, head: 0, role: Role::Induction, scores }
}

fn composition() -> CompositionRow {
    CompositionRow {
        step: 1,
        tokens: 8,
        kind: "K".into(),
        from_layer: 0,
        from_head: 1,
        to_layer: 1,
        to_head: 0,
        score: 0.1,
        raw: 0.2,
    }
}

fn ablation() -> AblationRow {
    AblationRow {
        step: 1,
        tokens: 8,
        layer: 0,
        head: 1,
        downstream: Downstream::PatternPreserving,
        icl_change: 0.1,
        icl_change_stderr: Some(0.01),
        loss_change: 0.2,
        icl_change_by_example: vec![0.1],
        same_token_change: 0.3,
        same_token_change_stderr: Some(0.01),
        same_token_change_by_example: vec![0.3],
        undone_by_example: vec![],
    }
}

fn knockout() -> KnockoutRow {
    let head = HeadId { layer: 0, head: 1 };
    KnockoutRow {
        step: 1,
        tokens: 8,
        name: "remove".into(),
        ablation: Some(Ablation::zero(head, Downstream::Full)),
        loss: 2.0,
        icl_score: -0.1,
        same_token_score: -0.2,
        loss_by_example: vec![2.0],
        icl_by_example: vec![-0.1],
        same_token_by_example: vec![-0.2],
    }
}

fn behaviour() -> BehaviourScores {
    BehaviourScores {
        behaviour: "translation".into(),
        layer: 0,
        head: 1,
        share: 0.5,
        share_stderr: Some(0.1),
        chance: 0.1,
        share_among: 0.6,
        share_among_stderr: None,
        chance_among: 0.5,
        literal_share_among: None,
        queries: 3,
        attribution: 0.1,
        attribution_total: 0.2,
    }
}

fn prompt_row() -> PromptRow {
    PromptRow { step: 1, tokens: 8, scores: behaviour() }
}

fn prompt() -> Prompt {
    let query = Query { at: 2, targets: vec![1], among: vec![1], literal: None };
    Prompt {
        behaviour: "translation".into(),
        ids: vec![0, 1, 2, 3],
        tokens: ["a", "b", "c", "d"].map(str::to_string).to_vec(),
        queries: vec![query],
    }
}

fn evaluation() -> EvaluationSpec {
    serde_json::from_str(r#"{"examples": 4, "icl_early": 2, "icl_late": 11, "icl_half_width": 1}"#)
        .unwrap()
}

fn measured() -> MeasuredFrom {
    MeasuredFrom {
        measures: 1,
        spec_hash: "a".into(),
        engine: "cpu".into(),
        evaluation: evaluation(),
        snapshots: BTreeMap::new(),
    }
}

fn ablated() -> AblatedFrom {
    AblatedFrom {
        version: 1,
        spec_hash: "a".into(),
        engine: "cpu".into(),
        evaluation: evaluation(),
        change: Some(Change { before_step: 1, after_step: 2, squares: vec![0.5] }),
        snapshots: BTreeMap::new(),
        knockouts: None,
    }
}

fn optimum() -> Optimum {
    let predictor = Predictor {
        name: Optimum::IDEAL.into(),
        loss: 2.0,
        stderr: Some(0.25),
        by_example: vec![2.25, 1.75],
        loss_by_index: vec![2.1, 1.9],
    };
    Optimum { source: "markov".into(), predictors: vec![predictor] }
}

fn summary() -> Summary {
    Summary {
        window: None,
        no_window: None,
        loss_bumps: vec![],
        best_head: BestHead {
            layer: 0,
            head: 1,
            prefix_matching: 0.5,
            half_time_tokens: None,
            change_point_tokens: None,
        },
        observed_onset_tokens: None,
        predicted_onset_tokens: 1e8,
        ceiling: CeilingOfText {
            loss: 2.0,
            icl_score: -0.5,
            stderr: None,
            loss_by_index: vec![],
            bigram_loss: 3.0,
            bigram_icl_score: 0.0,
        },
        copying_ceiling: CopyingCeiling { ceiling: 0.7, chance: -0.1 },
        passes: None,
    }
}

fn scan() -> ModelScan {
    ModelScan {
        version: ModelScan::VERSION,
        model: ModelFacts {
            name: "a".into(),
            family: "llama".into(),
            encoding: "F32".into(),
            n_layers: 1,
            n_heads: 1,
            n_key_value_heads: 1,
            d_model: 8,
            d_head: 8,
            d_mlp: 0,
            d_vocab: 9,
            n_ctx: 12,
            n_params: 100,
        },
        engine: "cpu".into(),
        how: HowRun {
            start: 0,
            start_from: StartFrom::Tokenizer,
            declared_ctx: Some(24),
            tied_embeddings: true,
            ignored: vec!["h.*.attn.bias".into()],
            prompt_loss: Some(2.5),
            warnings: vec!["a warning".into()],
        },
        ids_below: Some(5),
        heads: vec![ScanHead {
            layer: 0,
            head: 0,
            role: Role::Other,
            scores: ["prefix_matching", "previous_token"]
                .map(|name| (name.to_string(), Some(0.5)))
                .into(),
        }],
        copying_ceiling: Some(CopyingCeiling { ceiling: 0.1, chance: -0.8 }),
        cut: vec![CutHeads {
            is_control: false,
            heads: vec![[0, 0]],
            worth: vec![WorthOn {
                on: CutOn::Repeats,
                removed: 1.0,
                removed_stderr: Some(0.1),
                cut: 0.9,
                cut_stderr: None,
            }],
        }],
        paths: vec![PathsInto {
            layer: 1,
            head: 0,
            examples: 8,
            attention: 0.9,
            raises: 5.5,
            agreement: vec![PathsAgree { into: Reads::Keys, rank_correlation: Some(0.9) }],
            paths: vec![PathFrom {
                layer: Some(0),
                head: Some(0),
                into: Reads::Keys,
                lost: 0.8,
                lost_stderr: Some(0.1),
                exact: 3.5,
                exact_stderr: None,
                first_order: 4.5,
            }],
        }],
        roles: vec![StandsOut {
            measure: "prefix_matching".into(),
            layer: 0,
            head: 0,
            effect: 0.5,
            margin: 0.1,
        }],
        causes: vec![ByCause {
            cause: Cause::TokenCopying,
            prompts: 2,
            tokens: 57,
            left_out: 0,
            plain: 0.01,
            plain_stderr: None,
            with: Some(0.5),
            with_stderr: Some(0.1),
            matching: Some(GoesWith { rank_correlation: 0.5, low: 0.4, high: 0.6 }),
        }],
        repeated: RepeatedLosses {
            examples: 2,
            block: 1,
            first: 2.0,
            first_stderr: None,
            second: 1.0,
            second_stderr: None,
            by_position: vec![2.0, 1.0],
        },
        icl: Some(IclOnText {
            text: "a.txt".into(),
            examples: 1,
            length: 2,
            early: 1,
            late: 2,
            half_width: 0,
            score: -0.1,
            stderr: None,
            by_example: vec![-0.1],
            loss: 2.0,
            by_index: vec![2.0, 1.9],
        }),
        ablation: Some(Removals {
            sets: vec![RemovedHeads {
                kind: RemovedKind::Induction,
                heads: vec![[0, 0]],
                first: 2.0,
                second: 1.5,
                second_change: 0.5,
                second_change_stderr: None,
                icl: None,
            }],
        }),
        behaviours: vec![BehaviourScores { head: 0, ..behaviour() }],
        shown: vec![ShownText {
            text: "translation".into(),
            tokens: vec!["a".into()],
            attention: ShownText::pack(&[255]),
        }],
    }
}

#[test]
fn a_scan_comes_back() {
    let text = serde_json::to_string(&scan()).unwrap();
    assert_eq!(ModelScan::parse(&text, "scan.json".as_ref()).unwrap(), scan());
}
