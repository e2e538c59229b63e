//! Whether and when the induction change will come on a text, before any training.
//!
//! What a text repeats within a context is counted ([`mod@induction_metrics::repeats`]), what copying
//! could gain on it is taken from a mixture that does nothing else
//! ([`induction_metrics::ceiling`]), and a line fitted to the trainings of fixtures/forecast says
//! when the laptop scale's 2-layer attention-only model changes. Beside it stands the published law
//! (Aoyama et al. 2025, arXiv 2511.16893), which knows the batch and the context and not the text.
//! How far either is off on texts that nothing was fitted to is in docs/REPRODUCTION.md.

use induction_metrics::{CensoredFit, Mixture, Repeats, excess_repeats, predicted_onset, repeats};
use induction_tokenizer::{
    BpeTokenizer, Corpus, Document, Shard, Split, Texts, TrainingOrder, corpus, example, split,
};
use ndarray::Array2;
use serde::Serialize;

use crate::{Error, source::EVALUATION_SEED};

/// What a model is trained with, as far as a forecast depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// Tokens of a sequence.
    pub n_ctx: usize,
    /// Sequences of a step.
    pub batch: u64,
    /// Size of the vocabulary, byte-level BPE learned from the text.
    pub d_vocab: usize,
    /// Tokens that the model learns from.
    pub tokens: u64,
}

impl Default for Settings {
    /// The laptop scale's, on which the forecast is fitted.
    fn default() -> Self {
        Self { n_ctx: 512, batch: 8, d_vocab: 512, tokens: 6_000_000 }
    }
}

/// Share of the text's bytes that is held out, as in the built-in plans.
const HELD_OUT: f64 = 0.1;
/// Bytes of text that are looked at, of more; whole documents.
const SAMPLE_BYTES: usize = 16 << 20;
/// Windows in which repeats are counted, at most.
const REPEAT_WINDOWS: u64 = 1024;
/// Windows on which the mixture learns, and as many on which it is measured, at most.
const MIXTURE_WINDOWS: u64 = 256;
/// Fewest windows of either part that a mean is taken over.
const FEWEST_WINDOWS: u64 = 2;

/// What a text has for an induction head.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Material {
    /// Share of bigrams that occurred earlier in their window.
    pub frequency: f64,
    /// Where a token occurred earlier in the window, how often what followed its last copy follows
    /// again.
    pub reliability: f64,
    /// How much more often a bigram of a window's second half occurred in its first half than in
    /// another window's.
    pub excess: f64,
    /// Loss of a bigram model on held-out windows, in nats a token.
    pub bigram_loss: f64,
    /// The same mixed with in-context matches of one token, which a two-layer circuit finds.
    pub one_token_loss: f64,
    /// The same mixed with matches as long as pay.
    pub mixture_loss: f64,
    /// What copying by one token gains: the bigram model's loss less that with such matches.
    pub gain: f64,
}

/// A forecast of the induction change.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChangeForecast {
    /// The text's file name.
    pub text: String,
    /// What would be trained.
    pub settings: Settings,
    /// Documents of the text.
    pub documents: usize,
    /// Tokens of its training part; of a sampled text an estimate.
    pub text_tokens: u64,
    /// What it has for an induction head.
    pub material: Material,
    /// Tokens at which the change should come, whatever the budget: the median.
    pub onset_tokens: f64,
    /// From where to where it comes in four of five cases, in tokens.
    pub onset_interval: [f64; 2],
    /// The probability that it comes within the budget.
    pub probability: f64,
    /// Whether that is at least a half.
    pub comes: bool,
    /// Tokens at which it should come by the published law.
    pub published_onset_tokens: f64,
    /// The forecast in a sentence.
    pub verdict: String,
    /// What the user should know of the text and of the forecast.
    pub notes: Vec<String>,
}

/// The forecast for a text.
///
/// Of a text of more than 16 MiB a sample of documents is looked at, the same each time.
///
/// # Errors
/// A text that cannot be read or is too short for the context or the vocabulary; settings of 0.
pub fn forecast(texts: impl Into<Texts>, settings: Settings) -> Result<ChangeForecast, Error> {
    let texts = texts.into();
    let name = texts.name();
    check(&settings)?;
    let loaded = corpus::load(texts)?;
    let mut notes = loaded.notes(&name);
    let Corpus { documents, .. } = loaded;
    let (count, bytes) = (documents.len(), size(&documents));
    let sample = sample(documents);
    let looked_at = size(&sample);
    let Split { train, held_out } = split(sample, HELD_OUT)?;
    let tokenizer = BpeTokenizer::train(&train, settings.d_vocab)?;
    let [train, held_out] =
        [train, held_out].map(|part| Shard::from_documents(&tokenizer, &part).tokens);
    let material = material(&name, &train, &held_out, tokenizer.bos(), &settings)?;
    let text_tokens = (train.len() as f64 * bytes as f64 / looked_at as f64) as u64;
    if looked_at < bytes {
        notes.push(format!(
            "{name}: looked at {:.0} of {:.0} MB",
            looked_at as f64 / 1e6,
            bytes as f64 / 1e6
        ));
    }
    let passes = settings.tokens as f64 / text_tokens as f64;
    if passes >= 1.05 {
        notes.push(format!(
            "{name}: {} tokens are {passes:.1} passes over it; the forecast takes each for new text{}",
            million(settings.tokens as f64),
            if passes > 10.0 { ", and is worth little where there are so many" } else { "" }
        ));
    }
    let laptop = Settings::default();
    if (settings.n_ctx, settings.d_vocab, settings.batch)
        != (laptop.n_ctx, laptop.d_vocab, laptop.batch)
    {
        notes.push(format!(
            "fitted at a context of {}, batches of {} and a vocabulary of {}: for others the onset goes with the root of batch times context, as the published law has it, which was not tested here",
            laptop.n_ctx, laptop.batch, laptop.d_vocab
        ));
    }
    Ok(judged(name, settings, count, text_tokens, material, notes))
}

fn check(settings: &Settings) -> Result<(), Error> {
    let Settings { n_ctx, batch, tokens, .. } = *settings;
    for (what, found, least) in
        [("context", n_ctx as u64, 8), ("batch", batch, 1), ("tokens", tokens, 1)]
    {
        if found < least {
            return Err(Error::Input(format!("{what}: expected at least {least}, found {found}")));
        }
    }
    Ok(())
}

fn size(documents: &[Document]) -> usize {
    documents.iter().map(|document| document.text.len()).sum()
}

/// Documents in a random order up to [`SAMPLE_BYTES`], at least two; all of a text that is smaller.
fn sample(documents: Vec<Document>) -> Vec<Document> {
    if size(&documents) <= SAMPLE_BYTES {
        return documents;
    }
    let count = documents.len() as u64;
    let mut taken = vec![false; documents.len()];
    let mut bytes = 0;
    for at in 0..count {
        if at >= 2 && bytes >= SAMPLE_BYTES {
            break;
        }
        let document =
            induction_random::permute(EVALUATION_SEED, "forecast sample", 0, count, at) as usize;
        taken[document] = true;
        bytes += documents[document].text.len();
    }
    let taken = taken.into_iter();
    documents.into_iter().zip(taken).filter(|(_, taken)| *taken).map(|(text, _)| text).collect()
}

/// What a text has for an induction head, from the tokens of its two parts; `name` is for messages.
///
/// # Errors
/// Too few tokens for two windows of either part, or tokens outside the vocabulary.
pub fn material(
    name: &str,
    train: &[u16],
    held_out: &[u16],
    bos: u32,
    settings: &Settings,
) -> Result<Material, Error> {
    let n_ctx = settings.n_ctx;
    let windows = |part: &str, tokens: &[u16], most: u64| {
        let order = TrainingOrder::new(EVALUATION_SEED, tokens.len(), n_ctx).ok();
        let order = order.filter(|order| order.examples_per_epoch() >= FEWEST_WINDOWS);
        let Some(order) = order else {
            return Err(Error::Input(format!(
                "{name}: its {part} text has {} tokens, and {FEWEST_WINDOWS} windows of {n_ctx} need {}: use a longer text or a shorter context (--context)",
                tokens.len(),
                (FEWEST_WINDOWS as usize + 1) * n_ctx - 1
            )));
        };
        let rows = order.examples_per_epoch().min(most);
        let tokens: Vec<u32> = (0..rows)
            .flat_map(|index| example(tokens, order.window_start(index), n_ctx, bos))
            .collect();
        Ok(Array2::from_shape_vec((rows as usize, n_ctx + 1), tokens)
            .expect("every example has n_ctx + 1 tokens"))
    };
    let many = windows("training", train, REPEAT_WINDOWS)?;
    let fitted = windows("training", train, MIXTURE_WINDOWS)?;
    let measured = windows("held-out", held_out, MIXTURE_WINDOWS)?;
    let place = |source| Error::Metric { place: name.to_string(), source };
    let found: Repeats = repeats(many.view()).map_err(place)?;
    let excess = excess_repeats(many.view()).map_err(place)?;
    let mixture = Mixture::fit(settings.d_vocab, train, fitted.view()).map_err(place)?;
    let mean = |losses: Array2<f32>| {
        losses.iter().map(|&loss| f64::from(loss)).sum::<f64>() / losses.len() as f64
    };
    let bigram_loss = mean(mixture.bigram_losses(measured.view()).map_err(place)?);
    let mixture_loss = mean(mixture.losses(measured.view()).map_err(place)?);
    let of_one_token = mixture.of_one_token(fitted.view()).map_err(place)?;
    let one_token_loss = mean(of_one_token.losses(measured.view()).map_err(place)?);
    Ok(Material {
        frequency: found.frequency(),
        reliability: found.reliability(),
        excess,
        bigram_loss,
        one_token_loss,
        mixture_loss,
        gain: bigram_loss - one_token_loss,
    })
}

/// What copying gains at least as far as the fit is concerned, in nats: below, the sample decides.
const LEAST_GAIN: f64 = 1e-3;

/// What the fit is a line in: the logarithm to base 10 of [`Material::gain`].
pub fn predictors(material: &Material) -> Vec<f64> {
    vec![material.gain.max(LEAST_GAIN).log10()]
}

/// The line that fixtures/forecast/onsets.csv gives, in logarithms of tokens to base 10; a test fits
/// it anew.
pub fn line() -> CensoredFit {
    CensoredFit { intercept: 6.4182, slopes: vec![-0.6440], sigma: 0.0726 }
}

/// Standard deviations within which four of five values of a normal distribution lie.
const FOUR_OF_FIVE: f64 = 1.2816;

fn judged(
    text: String,
    settings: Settings,
    documents: usize,
    text_tokens: u64,
    material: Material,
    notes: Vec<String>,
) -> ChangeForecast {
    let line = line();
    let predictors = predictors(&material);
    let published = |settings: &Settings| predicted_onset(settings.batch, settings.n_ctx as u64);
    // How much later by the published law than at the settings of the fit.
    let later = (published(&settings) / published(&Settings::default())).log10();
    let middle = line.predict(&predictors) + later;
    let at = |deviations: f64| 10f64.powf(middle + deviations * line.sigma);
    let budget = (settings.tokens as f64).log10();
    let probability = line.probability_below(&predictors, budget - later);
    let (onset_tokens, onset_interval) = (at(0.0), [at(-FOUR_OF_FIVE), at(FOUR_OF_FIVE)]);
    let comes = probability >= 0.5;
    let verdict = verdict(&settings, &material, onset_tokens, onset_interval, probability);
    ChangeForecast {
        text,
        settings,
        documents,
        text_tokens,
        material,
        onset_tokens,
        onset_interval,
        probability,
        comes,
        published_onset_tokens: published(&settings),
        verdict,
        notes,
    }
}

fn verdict(
    settings: &Settings,
    material: &Material,
    onset: f64,
    [early, late]: [f64; 2],
    probability: f64,
) -> String {
    let budget = million(settings.tokens as f64);
    let chance = 100.0 * probability;
    if probability >= 0.5 {
        return format!(
            "comes at about {} tokens ({} to {} in four of five cases; within {budget} with a chance of {chance:.0} %)",
            million(onset),
            million(early),
            million(late)
        );
    }
    // Beyond a few times what any training of the fit had, a number would be made up.
    let when = if onset < 4.0 * Settings::default().tokens as f64 {
        format!("it would come at about {}", million(onset))
    } else {
        format!("nor soon after; the chance that it does is {chance:.0} %")
    };
    format!(
        "does not come within {budget} tokens ({when}): copying by one token would gain {:.3} nats a token",
        material.gain.max(0.0)
    )
}

/// "3.1M", "12M", "350k"
fn million(tokens: f64) -> String {
    match tokens {
        ..1e6 => format!("{:.0}k", tokens / 1e3),
        ..9.95e6 => format!("{:.1}M", tokens / 1e6),
        _ => format!("{:.0}M", tokens / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use induction_metrics::{Observed, fit_censored};
    use rand::Rng;

    use super::*;

    /// A line of fixtures/forecast/onsets.csv.
    struct Row {
        name: String,
        left_out: bool,
        predictors: Vec<f64>,
        /// In logarithms of tokens.
        onset: Observed,
    }

    fn table() -> Vec<Row> {
        let text = include_str!("../../../fixtures/forecast/onsets.csv");
        let mut lines = text.lines();
        let names: Vec<&str> = lines.next().unwrap().split(',').collect();
        lines
            .map(|line| {
                let cells: Vec<&str> = line.split(',').collect();
                let cell = |name| cells[names.iter().position(|found| *found == name).unwrap()];
                let number = |name| cell(name).parse::<f64>();
                let material = Material {
                    frequency: 0.0,
                    reliability: 0.0,
                    excess: 0.0,
                    bigram_loss: 0.0,
                    one_token_loss: 0.0,
                    mixture_loss: 0.0,
                    gain: number("gain").unwrap(),
                };
                let onset = match number("onset") {
                    Ok(onset) => Observed::At(onset.log10()),
                    Err(_) => Observed::Above(number("read").unwrap().log10()),
                };
                let (name, left_out) = (cell("text").to_string(), cell("use") == "left out");
                Row { name, left_out, predictors: predictors(&material), onset }
            })
            .collect()
    }

    fn fitted<'a>(rows: impl Iterator<Item = &'a Row>) -> CensoredFit {
        let (x, y): (Vec<_>, Vec<_>) = rows.map(|row| (row.predictors.clone(), row.onset)).unzip();
        fit_censored(&x, &y).unwrap()
    }

    /// The median distance of what came, and how many of all were told right to come within the
    /// budget or not.
    fn errors<'a>(told: impl Iterator<Item = (&'a Row, f64)>) -> (f64, usize, usize) {
        let budget = (Settings::default().tokens as f64).log10();
        let (mut distances, mut right, mut all) = (Vec::new(), 0, 0);
        for (row, predicted) in told {
            let came = matches!(row.onset, Observed::At(_));
            if let Observed::At(onset) = row.onset {
                distances.push((predicted - onset).abs());
            }
            right += usize::from((predicted <= budget) == came);
            all += 1;
        }
        distances.sort_by(f64::total_cmp);
        let middle = distances.len() / 2;
        let median = if distances.len().is_multiple_of(2) {
            0.5 * (distances[middle - 1] + distances[middle])
        } else {
            distances[middle]
        };
        (median, right, all)
    }

    /// Every third text by name is left out, and the line is that of the others.
    #[test]
    fn the_line_is_that_of_the_table() {
        let rows = table();
        assert!(rows.is_sorted_by(|a, b| a.name < b.name));
        assert!(rows.iter().enumerate().all(|(at, row)| row.left_out == (at % 3 == 2)));
        let (ours, again) = (line(), fitted(rows.iter().filter(|row| !row.left_out)));
        assert!((ours.intercept - again.intercept).abs() < 1e-3, "{again:?}");
        assert!((ours.slopes[0] - again.slopes[0]).abs() < 1e-3, "{again:?}");
        assert!((ours.sigma - again.sigma).abs() < 1e-3, "{again:?}");
    }

    /// What docs/REPRODUCTION.md says.
    #[test]
    fn the_errors_are_those_that_are_told() {
        let rows = table();
        let (left_out, used): (Vec<&Row>, Vec<&Row>) = rows.iter().partition(|row| row.left_out);
        let by_line = errors(left_out.iter().map(|row| (*row, line().predict(&row.predictors))));
        let one_out = errors(used.iter().map(|row| {
            let others = fitted(used.iter().filter(|other| other.name != row.name).copied());
            (*row, others.predict(&row.predictors))
        }));
        let law = predicted_onset(8, 512).log10();
        let by_law = errors(left_out.iter().map(|row| (*row, law)));
        let said = [by_line, one_out, by_law]
            .map(|(median, right, all)| format!("{median:.3} {right}/{all}"));
        assert_eq!(said, ERRORS);
    }

    /// Median distance in logarithms of tokens to base 10, and hits: on left-out texts, leaving one
    /// out of the others at a time, and of the published law on left-out texts.
    const ERRORS: [&str; 3] = ["0.096 5/6", "0.061 12/14", "0.890 3/6"];

    /// Documents of words from `words`, drawn by `next(document, place)`.
    fn write(folder: &std::path::Path, next: impl Fn(u64) -> String) -> std::path::PathBuf {
        let lines: String = (0..120u64)
            .map(|k| format!("{}\n", serde_json::json!({"id": k.to_string(), "text": next(k)})))
            .collect();
        let path = folder.join("text.jsonl");
        std::fs::write(&path, lines).unwrap();
        path
    }

    fn word(random: &mut impl Rng) -> String {
        (0..4).map(|_| char::from(b'a' + random.random_range(0..26u8))).collect()
    }

    #[test]
    fn what_repeats_comes_and_what_does_not_repeat_does_not() {
        let folder = tempfile::tempdir().unwrap();
        // Eight words of the document's own, again and again; or new ones all the time.
        let own = |k: u64| {
            let mut random = induction_random::stream(1, "own words", k);
            let words: Vec<String> = (0..8).map(|_| word(&mut random)).collect();
            (0..400).map(|_| words[random.random_range(0..8)].clone()).collect::<Vec<_>>().join(" ")
        };
        let new = |k: u64| {
            let mut random = induction_random::stream(1, "new words", k);
            (0..400).map(|_| word(&mut random)).collect::<Vec<_>>().join(" ")
        };
        let settings = Settings { d_vocab: 300, ..Settings::default() };
        let comes = forecast(write(folder.path(), own), settings).unwrap();
        assert!(comes.comes && comes.probability > 0.9, "{comes:?}");
        assert!(comes.verdict.starts_with("comes at about"), "{}", comes.verdict);
        assert_eq!(forecast(write(folder.path(), own), settings).unwrap(), comes);
        let never = forecast(write(folder.path(), new), settings).unwrap();
        assert!(!never.comes && never.probability < 0.1, "{never:?}");
        assert!(never.verdict.starts_with("does not come within 6.0M tokens"), "{}", never.verdict);
        assert!(never.material.gain < 0.1 * comes.material.gain);
        // Four times the tokens of a step, twice as late.
        let larger = Settings { batch: 32, ..settings };
        let later = forecast(write(folder.path(), own), larger).unwrap();
        assert!((later.onset_tokens / comes.onset_tokens - 2.0).abs() < 1e-9);
    }

    #[test]
    fn a_large_text_is_sampled_by_documents() {
        let document =
            |id: usize, bytes: usize| Document { id: id.to_string(), text: "x".repeat(bytes) };
        let small: Vec<Document> = (0..5).map(|id| document(id, 100)).collect();
        assert_eq!(sample(small.clone()), small);
        let large: Vec<Document> = (0..40).map(|id| document(id, 1 << 20)).collect();
        let taken = sample(large.clone());
        assert_eq!(taken.len(), SAMPLE_BYTES >> 20);
        assert!(taken.iter().all(|document| large.contains(document)));
        assert_ne!(taken, large[..taken.len()]);
        let huge: Vec<Document> = (0..3).map(|id| document(id, SAMPLE_BYTES)).collect();
        assert_eq!(sample(huge).len(), 2);
    }
}
