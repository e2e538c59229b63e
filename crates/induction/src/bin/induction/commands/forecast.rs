//! `induction forecast`.

use std::path::PathBuf;

use induction::{
    Error,
    forecast::{ChangeForecast, Settings, forecast},
    tokenizer::Texts,
};

use super::Program;
use crate::output::{print_line, show};

/// Say of a text, before any training, whether and when the induction change will come on it.
///
/// What the text repeats within a context is counted, and a line fitted to trainings of the laptop
/// scale's 2-layer model on other texts says when it changes (docs/REPRODUCTION.md).
#[derive(clap::Args)]
pub(crate) struct Forecast {
    /// The text: files or folders, as `reproduce --corpus` reads them.
    #[arg(required = true, value_name = "TEXT")]
    text: Vec<PathBuf>,
    /// The key of its lines of JSON that holds the text [default: text, content, story, body, document,
    /// messages, conversations or conversation, whichever is there first].
    #[arg(long, value_name = "KEY")]
    text_field: Option<String>,
    /// Tokens that a model would learn from.
    #[arg(long, default_value_t = Settings::default().tokens, value_parser = clap::value_parser!(u64).range(1..))]
    tokens: u64,
    /// Tokens of a sequence.
    #[arg(long, default_value_t = Settings::default().n_ctx)]
    context: usize,
    /// Sequences of a step.
    #[arg(long, default_value_t = Settings::default().batch, value_parser = clap::value_parser!(u64).range(1..))]
    batch: u64,
    /// Size of the vocabulary, learned from the text.
    #[arg(long, default_value_t = Settings::default().d_vocab)]
    vocabulary: usize,
}

impl Forecast {
    pub(crate) fn run(&self, program: &Program) -> Result<(), Error> {
        let texts = Texts { paths: self.text.clone(), text_field: self.text_field.clone() };
        let settings = Settings {
            n_ctx: self.context,
            batch: self.batch,
            d_vocab: self.vocabulary,
            tokens: self.tokens,
        };
        let found = forecast(texts, settings)?;
        if program.json {
            return show(&found);
        }
        found.notes.iter().for_each(|note| program.console.screen.note(note));
        print_line(&table(&found))
    }
}

fn table(found: &ChangeForecast) -> String {
    let ChangeForecast { text, documents, text_tokens, material, settings, .. } = found;
    let rows = [
        (
            "bigrams that occurred earlier in the window",
            format!("{:.1} %", 100.0 * material.frequency),
        ),
        (
            "what followed a token's last copy follows again",
            format!("{:.1} %", 100.0 * material.reliability),
        ),
        ("bigrams of this window rather than of any", format!("{:.1} %", 100.0 * material.excess)),
        ("loss of a bigram model", format!("{:.3} nats a token", material.bigram_loss)),
        (
            "what copying by one token gains; by longer matches",
            format!(
                "{:.3}; {:.3} nats",
                material.gain.max(0.0),
                material.bigram_loss - material.mixture_loss
            ),
        ),
        (
            "the change comes at, by our fit",
            format!(
                "{:.2}M ({:.2}M to {:.2}M) tokens",
                found.onset_tokens / 1e6,
                found.onset_interval[0] / 1e6,
                found.onset_interval[1] / 1e6
            ),
        ),
        ("by the published law", format!("{:.1}M tokens", found.published_onset_tokens / 1e6)),
    ];
    let mut said = format!(
        "{text}: {documents} documents, {:.2}M tokens, of a vocabulary of {}; windows of {} tokens\n",
        *text_tokens as f64 / 1e6,
        settings.d_vocab,
        settings.n_ctx
    );
    for (what, value) in rows {
        said += &format!("  {what:<52} {value}\n");
    }
    said + &format!("The induction change {}.", found.verdict)
}
