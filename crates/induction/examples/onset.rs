//! When the induction change comes on a text, by training: what `induction forecast` is fitted on
//! (fixtures/forecast). `cargo run --release -p induction --example onset -- DATA TOKENS TEXT ...`
//!
//! What the text has for an induction head is counted ([`induction::forecast::Material`]); then the laptop scale's 2-layer model learns from each text, at its constant rate, until a head
//! matches prefixes (a score above 0.3) or `TOKENS` are read; of 0 the text is only counted. Prepared
//! texts are kept in `DATA`. A line for each text, as JSON:
//!
//! ```text
//! {"text":"python.jsonl.zst","text_tokens":2250000,"material":{...},"curve":[[0,0.03],[262144,0.03],...,[3145728,0.34]],"onset":3060000.0}
//! ```
#![allow(clippy::print_stdout, reason = "an example shows its result")]

use std::path::{Path, PathBuf};

use induction::{
    device::Device,
    forecast::{Material, Settings, material},
    measure::Evaluators,
    plan::{Corpora, PlanOptions, Scale, plan},
    source::Source,
    train::{Examples, Learner, Optimizer},
};
use ndarray::Array2;

/// A seed that no claim is judged on.
const SEED: u64 = 10;
/// Steps from one look at the heads to the next: 262,144 tokens.
const EVERY: u64 = 64;
/// From here on a head counts as one that matches prefixes.
const COMES: f64 = 0.3;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let data = PathBuf::from(args.next().ok_or("expected DATA TOKENS TEXT ...")?);
    let budget: u64 = args.next().ok_or("expected DATA TOKENS TEXT ...")?.parse()?;
    for text in args {
        let Seen { text_tokens, material, curve } = look(Path::new(&text), &data, budget)?;
        let onset = curve.windows(2).find(|pair| pair[1].1 > COMES).map(|pair| {
            let [(before, low), (after, high)] = [pair[0], pair[1]];
            before as f64 + (after - before) as f64 * (COMES - low) / (high - low)
        });
        let name = Path::new(&text).file_name().map(|name| name.to_string_lossy());
        let row = serde_json::json!({
            "text": name, "text_tokens": text_tokens, "material": material, "curve": curve, "onset": onset
        });
        println!("{row}");
    }
    Ok(())
}

struct Seen {
    /// Of the training part.
    text_tokens: usize,
    material: Material,
    /// Tokens read, and the best head's prefix-matching score, up to the first above [`COMES`].
    curve: Vec<(u64, f64)>,
}

fn look(text: &Path, data: &Path, budget: u64) -> Result<Seen, Box<dyn std::error::Error>> {
    let corpora = Corpora { main: text.into(), second: "".into(), books: "".into() };
    let laptop =
        PlanOptions { scale: Scale::Laptop, clamp: false, seed: SEED, seeds: Some(1), corpora };
    let mut spec =
        plan(&laptop).runs.into_iter().find(|row| row.spec.name == "2L").ok_or("no such run")?.spec;
    // The rate falls only after the last step that is taken.
    spec.train.tokens = (2 * budget).max(1);
    let source = Source::open(&mut spec, data)?;
    let Source::Corpus { data, name, .. } = &source else { return Err("expected a text".into()) };
    let settings = Settings::default();
    let (train, held_out) = (&data.train.tokens, &data.held_out.tokens);
    let material = material(name, train, held_out, source.bos(), &settings)?;
    let evaluators = Evaluators::new(
        &spec.evaluation,
        Array2::zeros((0, 0)),
        source.bos(),
        &source.allowed_tokens()?,
    )?;
    let params = spec.model.init_params(spec.seed)?;
    let mut engine = Device::Cpu.open(&spec.model, &params)?;
    let mut learner =
        Learner::new(engine.as_mut(), params, Optimizer::new(&spec.model), &spec.train)?;
    let mut curve = vec![(0, evaluators.best_prefix_matching(engine.as_ref())?)];
    for step in 1..=budget / spec.tokens_per_step() {
        let batch = spec.train.batch as u64;
        let rows = (0..batch).flat_map(|row| source.example((step - 1) * batch + row)).collect();
        let examples = Array2::from_shape_vec((spec.train.batch, spec.model.n_ctx + 1), rows)?;
        let taken = learner.step(engine.as_mut(), examples.view(), spec.lr(step), &spec.train)?;
        if let Some(what) = taken.not_finite {
            return Err(format!("{}: {what} is not finite at step {step}", text.display()).into());
        }
        if step % EVERY == 0 {
            let best = evaluators.best_prefix_matching(engine.as_ref())?;
            curve.push((step * spec.tokens_per_step(), best));
            eprintln!(
                "{} {} {best:.3} {:.3}",
                text.display(),
                step * spec.tokens_per_step(),
                taken.loss
            );
            if best > COMES {
                break;
            }
        }
    }
    Ok(Seen { text_tokens: train.len(), material, curve })
}
